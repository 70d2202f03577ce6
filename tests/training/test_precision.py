"""Half precision: gradients that don't vanish, and steps that aren't taken."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from dragoman.models.nllb import Nllb, initialize_
from dragoman.training.config import TrainingConfig
from dragoman.training.data import PAD
from dragoman.training.loop import Trainer
from dragoman.training.objectives.translation import Translation
from dragoman.training.precision import LossScale
from tests.training.test_loop import VOCABULARY, batches_of, config_of, copies, log_of


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_scale_halves_at_an_infinite_gradient_and_doubles_after_many_good_ones() -> None:
    scale = LossScale(torch.float16)
    parameter = nn.Parameter(torch.ones(2))
    scale.scaled(parameter.sum() * 3).backward()
    assert parameter.grad is not None
    assert parameter.grad.tolist() == [3 * 65536.0] * 2
    scale.unscale_([parameter])
    assert parameter.grad.tolist() == [3.0, 3.0]
    scale.update(False)
    assert scale.factor == 32768
    for _ in range(LossScale.PATIENCE):
        scale.update(True)
    assert scale.factor == 65536
    again = LossScale(torch.float16)
    again.load_state_dict({"factor": 4.0, "good": 7.0})
    assert again.state_dict() == {"factor": 4.0, "good": 7}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_precisions_are_not_scaled(dtype: torch.dtype) -> None:
    scale = LossScale(dtype)
    loss = torch.ones(())
    assert scale.scaled(loss) is loss
    scale.update(False)
    assert scale.factor == 1


def trainer_in(folder: Path, config: TrainingConfig) -> Trainer:
    model = Nllb(config.model_config(VOCABULARY))
    initialize_(model, config.seed)
    return Trainer(model, Translation(PAD, 0.1, 0.01), batches_of(copies(100, 5), config), config, folder)


def test_fp16_learns_as_fp32_does_once_the_scale_fits(tmp_path: Path) -> None:
    """The first scale is too large for so small a model: updates are skipped until it isn't."""
    losses = {}
    for precision in ("fp32", "fp16"):
        config = config_of(precision=precision, updates=30, log_every=30, save_every=100, evaluate_every=100)
        trainer = trainer_in(tmp_path / precision, config)
        if precision == "fp16":
            trainer.scale.factor = 2.0**40
            trainer._train(trainer.feed.round(0)[:1])
            assert trainer.scale.factor == 2.0**39
            trainer.scale.factor = 2.0**10
            trainer.optimizers = type(trainer.optimizers)(trainer.model, config)
        trainer.run()
        (row,) = log_of(tmp_path / precision)
        losses[precision] = row["loss"]
        assert "skipped" not in row
    assert losses["fp16"] == pytest.approx(losses["fp32"], rel=0.02)
    assert losses["fp16"] < math.log(VOCABULARY)
