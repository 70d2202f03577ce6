"""Losses and gradients of a tiny Llama, against those that TRL computed (`record_trl.py`)."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from dragoman.models.llama import Llama
from dragoman.models.llama_config import LlamaConfig
from dragoman.training.config import TrainingConfig
from dragoman.training.data import padded
from dragoman.training.loop import Trainer
from dragoman.training.making import frozen_copy
from dragoman.training.objectives.base import Losses
from dragoman.training.objectives.causal import Causal, Pairs, Preference, Rows
from dragoman.training.objectives.preference import cpo, dpo, simpo
from dragoman.training.processes import Processes
from tests.training.trl_cases import BETA, GAMMA, PAIRS, SHAPE, SIMPO_BETA, weights

RECORDED = json.loads((Path(__file__).parents[2] / "data" / "trl.json").read_text())


def model_of(seed: int) -> Llama:
    model = Llama(LlamaConfig(**SHAPE))  # type: ignore[arg-type]
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights(shapes, seed).items()})
    return model.train()


def rows_of(sides: list[tuple[list[int], list[int]]]) -> Rows:
    tokens = padded([prompt + answer for prompt, answer in sides], 0)
    learned = padded([[0] * len(prompt) + [1] * len(answer) for prompt, answer in sides], 0)
    return Rows(tokens, learned.bool())


CHOSEN = [(prompt, chosen) for prompt, chosen, _ in PAIRS]
REJECTED = [(prompt, rejected) for prompt, _, rejected in PAIRS]


def mean(losses: Losses, counts: dict[str, float]) -> torch.Tensor:
    return torch.stack([term / counts[name] for name, term in losses.terms.items()]).sum()


@pytest.mark.parametrize("name", ["cpo", "simpo", "dpo", "sft"])
def test_losses_and_gradients_are_those_of_trl(name: str) -> None:
    model = model_of(0)
    objectives = {
        "cpo": Preference(partial(cpo, beta=BETA), nll=1.0),
        "simpo": Preference(partial(simpo, beta=SIMPO_BETA, gamma=GAMMA)),
        "dpo": Preference(partial(dpo, beta=BETA), reference=model_of(1)),
        "sft": Causal(),
    }
    objective = objectives[name]
    batch = rows_of(CHOSEN) if name == "sft" else Pairs(rows_of(CHOSEN + REJECTED))
    loss = mean(objective(model, batch), objective.counts(batch))  # type: ignore[arg-type]
    assert float(loss.detach()) == pytest.approx(RECORDED[name]["loss"], rel=1e-5)
    loss.backward()
    named = dict(model.named_parameters())
    for parameter, norm in RECORDED[name]["gradients"].items():
        assert float(named[parameter].grad.norm()) == pytest.approx(norm, rel=1e-4)  # type: ignore[union-attr]


def test_reference_is_brought_to_where_the_model_computes(tmp_path: Path) -> None:
    model = model_of(0)
    reference = frozen_copy(model)
    objective = Preference(partial(dpo, beta=BETA), reference=reference)
    elsewhere = Processes(device=torch.device("meta"))  # as a GPU would be
    trainer = Trainer(model, objective, [], TrainingConfig(precision="fp32"), tmp_path, processes=elsewhere)
    assert trainer.device.type == "meta"
    assert {parameter.device.type for parameter in reference.parameters()} == {"meta"}
