"""Packing replaces what it should, once, and keeps results near."""

from pathlib import Path

import pytest
import torch
from torch import nn

from dragoman.checkpoints.llama import load_xalma
from dragoman.checkpoints.nllb import load_nllb
from dragoman.errors import InvalidOption, LanguageModuleError
from dragoman.kernels.linear import PackedLinear
from dragoman.kernels.packing import PRECISIONS
from dragoman.layers.moe import RouterLinear
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
