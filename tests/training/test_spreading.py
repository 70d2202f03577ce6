"""Weights that are spread over processes; that several learn with them is in test_interruptions."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from dragoman.errors import InvalidOption
from dragoman.layers.moe import SparseMLP
from dragoman.layers.options import MoeOptions
from dragoman.training.config import LoraOptions, TrainingConfig
from dragoman.training.processes import Processes
from dragoman.training.spreading import (
    gathered,
    give_gradients_to_idle_experts_,
    kept_of,
    like,
    put_together_,
    spread_,
)
from dragoman.training.starting import look
from tests.training.test_loop import config_of

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


def test_one_process_keeps_all() -> None:
    model = nn.Linear(3, 2)
    before = dict(model.named_parameters())
    spread_(model, Processes())
    put_together_(model, keep=True)
    assert dict(model.named_parameters()) == before
    assert kept_of(model) == (8, 8)
    tree = {"a": [model.weight, 1], "b": (None, "c")}
    assert gathered(tree, keep=True) == tree
    assert like(model.weight, model.bias) is model.weight


def test_experts_without_tokens_get_a_gradient_of_zero() -> None:
    torch.manual_seed(1)
    layer = SparseMLP(8, 12, MoeOptions(num_experts=6))
    x = torch.randn(1, 2, 8)
    usual, _ = layer(x)
    usual.sum().backward()
    idle = {name for name, parameter in layer.experts.named_parameters() if parameter.grad is None}
    assert idle
    busy = {name: p.grad.clone() for name, p in layer.experts.named_parameters() if p.grad is not None}
    layer.zero_grad()
    give_gradients_to_idle_experts_(layer)
    found, _ = layer(x)
    assert torch.equal(found, usual)
    found.sum().backward()
    for name, parameter in layer.experts.named_parameters():
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, busy.get(name, torch.zeros_like(parameter))), name
    with torch.no_grad():
        assert torch.equal(layer(x)[0], usual)


def test_spread_is_for_all_weights_by_adamw() -> None:
    config = config_of(spread=True)
    config.check()
    for other in (
        replace(config, optimizer="muon"),
        replace(TrainingConfig(objective="sft", start="x", label_smoothing=0, balance_loss=0), spread=True,
                train="lora", lora=LoraOptions(rank=4)),
    ):  # fmt: skip
        with pytest.raises(InvalidOption, match="spread is for runs with"):
            other.check()


@pytest.mark.parametrize("precision", ["bf16", "fp16", "auto"])
def test_spread_in_half_precision_is_for_layers_that_are_computed_again(precision: str) -> None:
    """Else each process would keep the half-precision copies of all layers until gradients are taken."""
    config = config_of(spread=True, precision=precision)
    with pytest.raises(InvalidOption, match=r"spread with precision .* needs checkpointing = true"):
        config.check()
    replace(config, checkpointing=True).check()
    replace(config, spread=False).check()


@pytest.mark.parametrize("name", ["encoder_layerdrop", "decoder_layerdrop"])
def test_spread_is_not_for_models_that_skip_layers(name: str, tmp_path: Path) -> None:
    new = config_of({name: 0.2}, spread=True)
    with pytest.raises(InvalidOption, match=f"model.{name} is 0.2: each process would skip other layers"):
        new.check()
    replace(new, spread=False).check()
    start = tmp_path / "start"
    shutil.copytree(GOLDEN / "nllb_dense", start)
    shape = json.loads((start / "config.json").read_text())
    (start / "config.json").write_text(json.dumps({**shape, name: 0.1}))
    config = replace(config_of(spread=True), model={}, start=str(start))
    with pytest.raises(InvalidOption, match=f"{start}: {name} is 0.1"):
        look(config)
    look(replace(config, spread=False))
