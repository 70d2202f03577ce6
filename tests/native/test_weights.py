"""A native model needs nothing but a config and weights under their names."""

from pathlib import Path

import numpy as np
import pytest
from torch import nn

from dragoman.checkpoints.llama import load_xalma
from dragoman.checkpoints.nllb import load_nllb
from dragoman.errors import CheckpointError
from dragoman.layers.moe import RouterLinear
from dragoman.layers.packed import PackedEmbedding, PackedHead, PackedLinear
from dragoman.models.language_modules import LanguageModules
from dragoman.models.prompt import Prompt
from dragoman.native.llama import NativeLlama
from dragoman.native.nllb import NativeNllb
from dragoman.native.weights import PackedWeights, Part
from dragoman.surgery.packing import pack_

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


def parts(model: nn.Module) -> dict[str, Part]:
    """All parts of a packed model by name; routers are packed, too."""
    found: dict[str, Part] = {}
    for name, module in model.named_modules():
        if isinstance(module, PackedLinear | PackedHead | PackedEmbedding):
            found[name] = module.kernel()
        elif isinstance(module, RouterLinear):
            found[name] = PackedLinear.of(module, "fp32").kernel()
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            found[name] = parameter.detach().numpy().copy()
    return found


def steps(model: NativeNllb | NativeLlama, prompt: Prompt, first: np.ndarray) -> list[np.ndarray]:
    state, count = model.begin(prompt), len(first)
    found = [model.step(first, state).logits()]
    state.select(np.arange(count).repeat(2), 2)
    return [*found, model.step(np.arange(2 * count)[:, None] + 20, state).logits()]


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
@pytest.mark.parametrize("case", ["nllb_dense", "nllb_moe_base"])
def test_nllb_by_names_is_the_model_they_came_from(case: str, precision: str) -> None:
    model = load_nllb(GOLDEN / case)
    pack_(model, precision)
    named = NativeNllb(model.config, PackedWeights(parts(model)))
    ids = np.random.default_rng(0).integers(3, model.config.vocab_size, (3, 7))
    prompt, first = Prompt(ids, np.arange(7) < [[7], [3], [5]]), np.array([[2, 5]] * 3)
    for ours, theirs in zip(
        steps(named, prompt, first), steps(NativeNllb.of(model), prompt, first), strict=True
    ):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("groups", [[6, 1, 0], None])
def test_llama_by_names_is_the_model_they_came_from_with_its_modules(groups: list[int] | None) -> None:
    model = load_xalma(GOLDEN / "xalma")
    pack_(model, "int8")
    language = LanguageModules(dict(model.model.language.scales))
    named = NativeLlama(model.config, PackedWeights(parts(model)), language)
    ids = np.random.default_rng(0).integers(3, 90, (3, 7))
    prompt = Prompt(keep=np.arange(7) >= [[0], [4], [2]], groups=groups)
    for ours, theirs in zip(
        steps(named, prompt, ids), steps(NativeLlama.of(model), prompt, ids), strict=True
    ):
        assert np.array_equal(ours, theirs)


def test_a_part_that_is_not_there_or_of_another_kind_is_an_error_by_name() -> None:
    model = load_nllb(GOLDEN / "nllb_dense")
    pack_(model, "int8")
    whole = parts(model)
    norm = "encoder.layer_norm.weight"
    for name in ("decoder.layers.1.ffn.fc2", norm, "shared", "lm_head"):
        missing = {key: part for key, part in whole.items() if key != name}
        other = whole | {name: whole["shared" if name == norm else norm]}
        for spoilt in (missing, other):
            with pytest.raises(CheckpointError, match=name):
                NativeNllb(model.config, PackedWeights(spoilt))
