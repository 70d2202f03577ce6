"""Half precision: gradients that don't vanish, and steps that aren't taken."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from dragoman.models.nllb import Nllb, initialize_
from dragoman.training.config import TrainingConfig
from dragoman.training.data import PAD
from dragoman.training.loop import Trainer
from dragoman.training.objectives.translation import Translation
from dragoman.training.precision import LossScale, products_in
from dragoman.training.recomputation import layers_of
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


class HalfWeights(TorchDispatchMode):
    """Sees the weights of a model's layers become half precision, and knows which copies are kept."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.weights = {
            p.data_ptr() for layer in layers_of(model) for p in layer.parameters() if p.dim() == 2
        }
        self.made: list[StorageWeakRef] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **kwargs or {})
        if func is torch.ops.aten._to_copy.default and args[0].data_ptr() in self.weights:
            self.made.append(StorageWeakRef(found.untyped_storage()))
        return found

    @property
    def kept(self) -> int:
        return sum(not one.expired() for one in self.made)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_layers_that_are_computed_again_keep_no_weights_in_half_precision(
    checkpointing: bool, tmp_path: Path
) -> None:
    config = config_of(precision="bf16", checkpointing=checkpointing)
    trainer = trainer_in(tmp_path, config)
    trainer.model.train()
    batch = trainer.feed.round(0)[0]
    # Not after `losses` alone: autocast would let go there of what it has kept for all of the pass.
    with products_in(trainer.dtype, trainer.device), HalfWeights(trainer.model) as copies_:
        losses = trainer.objective(trainer.model, batch)
        assert copies_.made
        assert copies_.kept == (0 if checkpointing else len(copies_.made))
    del losses


def test_layers_that_are_computed_again_give_the_same_gradients_in_half_precision(tmp_path: Path) -> None:
    norms = []
    for checkpointing in (False, True):
        config = config_of(precision="bf16", checkpointing=checkpointing)
        trainer = trainer_in(tmp_path / str(checkpointing), config)
        norms.append([trainer._train([batch])["norm"] for batch in trainer.feed.round(0)[:2]])
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
