"""Packing replaces what it should, once, and keeps results near."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from dragoman.checkpoints.llama import load_xalma
from dragoman.checkpoints.nllb import load_nllb
from dragoman.errors import CheckpointError, InvalidOption, LanguageModuleError
from dragoman.kernels.packing import PRECISIONS
from dragoman.layers.moe import RouterLinear
from dragoman.layers.packed import PackedLinear
from dragoman.models.llama import Llama
from dragoman.models.nllb import Nllb
from dragoman.surgery.language_modules import attach_, merge_
from dragoman.surgery.packing import is_packed, pack_, precision_of

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
LOADERS = {"nllb_moe_base": load_nllb, "nllb_dense": load_nllb, "xalma": load_xalma}


@pytest.fixture(params=LOADERS)
def model(request: pytest.FixtureRequest) -> Nllb | Llama:
    return LOADERS[request.param](GOLDEN / request.param)


def logits(model: Nllb | Llama) -> torch.Tensor:
    ids = torch.arange(3, 15).view(2, 6)
    with torch.inference_mode():
        return model(ids, groups=[6, 1]) if isinstance(model, Llama) else model(ids, ids)


# How far logits may move, root mean square over their spread. Tiny random layers multiply what
# trained ones dampen; unrelated logits would be 1.4 apart.
@pytest.mark.parametrize(
    ("precision", "most"), [("fp32", 1e-5), ("fp16", 0.02), ("int8", 0.25), ("int4", 0.8)]
)
def test_logits_stay_near(model: Nllb | Llama, precision: str, most: float) -> None:
    before = logits(model)
    pack_(model, precision)
    assert float((logits(model) - before).square().mean().sqrt() / before.std()) < most


@pytest.mark.parametrize("precision", PRECISIONS)
def test_all_linear_layers_but_routers_are_packed(model: Nllb | Llama, precision: str) -> None:
    assert not is_packed(model)
    assert precision_of(model) is None
    pack_(model, precision)
    assert is_packed(model)
    assert precision_of(model) == precision
    plain = [m for m in model.modules() if isinstance(m, nn.Linear)]
    assert all(isinstance(m, RouterLinear) for m in plain)
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_a_model_in_half_precision_packs_the_same_way() -> None:
    before = logits(load_nllb(GOLDEN / "nllb_moe_base"))
    half = load_nllb(GOLDEN / "nllb_moe_base", dtype=torch.bfloat16)
    pack_(half, "int8")
    found = logits(half)
    assert found.dtype == torch.float32
    assert float((found - before).square().mean().sqrt() / before.std()) < 0.3


def test_packing_twice_or_in_a_strange_precision_is_an_error(model: Nllb | Llama) -> None:
    with pytest.raises(InvalidOption, match="'int3'; it must be one of fp32, fp16, int8, int4"):
        pack_(model, "int3")
    pack_(model, "int8")
    with pytest.raises(InvalidOption, match="packed already"):
        pack_(model, "int4")


def test_modules_attached_later_are_packed_too_and_merging_is_refused() -> None:
    model = load_xalma(GOLDEN / "xalma", groups=(6,))
    pack_(model, "int8")
    attach_(model, 1)
    pair = model.model.layers[0].self_attn.module_pair("q", 1)  # type: ignore[union-attr, operator]
    assert all(isinstance(side, PackedLinear) for side in pair)
    with pytest.raises(LanguageModuleError, match="is a PackedLinear"):
        merge_(model, 6)


def weights(model: Nllb | Llama) -> dict[str, torch.Tensor]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.dim() == 2}


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_weight_that_is_no_number_is_named_before_anything_changes(
    model: Nllb | Llama, precision: str, bad: float
) -> None:
    everything = dict(model.named_parameters())
    for name in (next(iter(everything)), list(everything)[-3], list(everything)[len(everything) // 2]):
        value = everything[name].data.view(-1)[-1].clone()
        everything[name].data.view(-1)[-1] = bad
        with pytest.raises(CheckpointError, match=f"{re.escape(name)} holds NaN or infinite numbers"):
            pack_(model, precision)
        everything[name].data.view(-1)[-1] = value
    assert not any(isinstance(module, PackedLinear) for module in model.modules())
    pack_(model, precision)


@pytest.mark.parametrize("name", ["decoder.layers.1.fc2.weight", "shared.weight"])
@pytest.mark.parametrize(
    ("precision", "value", "other"), [("fp16", 7e4, "int8"), ("int4", 6e5, "int8"), ("fp16", 7e4, "fp32")]
)
def test_weights_beyond_a_precision_are_named_before_anything_changes(
    name: str, precision: str, value: float, other: str
) -> None:
    model = load_nllb(GOLDEN / "nllb_dense")
    found = next(p for n, p in weights(model).items() if n.endswith(name.rpartition("layers.1.")[2]))
    found.data[-1, -1] = value
    with pytest.raises(InvalidOption, match=r"too large for .* take another precision"):
        pack_(model, precision)
    assert not any(isinstance(module, PackedLinear) for module in model.modules())
    if other == "int8":
        found.data[-1, -1] = value
    pack_(model, other)
    assert precision_of(model) == other


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("shape", [(0, None), ()])
def test_a_module_without_a_rank_is_refused_before_anything_changes(
    packed: bool, shape: tuple[int | None, ...]
) -> None:
    model = load_xalma(GOLDEN / "xalma", groups=(6,))
    if packed:
        pack_(model, "int8")
    before = logits_of_six(model)
    hidden = model.config.hidden_size
    sides = (shape or (), tuple(reversed(shape)))
    tensors = {
        f"base_model.model.model.layers.{index}.self_attn.q_proj.lora_{side}.weight": torch.zeros(
            [hidden if size is None else size for size in its]
        )
        for index in range(model.config.num_hidden_layers)
        for side, its in zip("AB", sides, strict=True)
    }
    with pytest.raises(LanguageModuleError, match=r"q_proj.lora_A.weight has .* a rank of at least 1"):
        attach_(model, 7, tensors)
    assert torch.equal(logits_of_six(model), before)
    with pytest.raises(LanguageModuleError, match="group 7"), torch.inference_mode():
        model(torch.arange(3, 9)[None], groups=[7])


def logits_of_six(model: Llama) -> torch.Tensor:
    with torch.inference_mode():
        return model(torch.arange(3, 15).view(2, 6), groups=[6, 6])


def test_a_damaged_module_leaves_a_packed_model_as_it_was() -> None:
    model = load_xalma(GOLDEN / "xalma", groups=(6,))
    pack_(model, "int8")
    before = logits_of_six(model)
    hidden = model.config.hidden_size
    tensors = {
        f"base_model.model.model.layers.{index}.self_attn.o_proj.lora_{side}.weight": torch.ones(size)
        for index in range(model.config.num_hidden_layers)
        for side, size in (("A", (4, hidden)), ("B", (hidden, 4)))
    }
    tensors["base_model.model.model.layers.1.self_attn.o_proj.lora_B.weight"][3, 2] = torch.nan
    with pytest.raises(CheckpointError, match=r"layers.1.self_attn.o_proj.lora_B.weight.* holds NaN"):
        attach_(model, 7, tensors)
    assert torch.equal(logits_of_six(model), before)
