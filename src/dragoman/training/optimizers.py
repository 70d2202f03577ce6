"""Which parameter learns how."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from dragoman.errors import InvalidOption
from dragoman.training.config import TrainingConfig
from dragoman.training.muon import Muon
from dragoman.training.spreading import is_spread, like, square_of


class Schedule:
    """Linear warm-up, a rate of some shape, then linear to zero over the last updates.

    The shape is constant, or falls with the root of the updates, or along half a cosine. How long a run is
    may be decided while it is under way: `finish` begins the fall.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self.warmup, self.shape, self.planned = config.warmup, config.schedule, config.updates
        self.falls, self.ends = planned_end(config.updates, config.decay)

    def finish(self, update: int, updates: int) -> None:
        """From `update` on the rate falls, over so many updates, and there the run ends.

        A fall that began before goes on as it was; InvalidOption for less than one update.
        """
        if updates < 1:
            raise InvalidOption(f"a run can't finish in {updates} updates; 1 or more are needed")
        if update < self.falls:
            self.falls, self.ends = update, update + updates

    def factor(self, update: int) -> float:
        """Share of the peak rate."""
        rise = min(1.0, (update + 1) / self.warmup) if self.warmup else 1.0
        left = self.ends - update
        fall = max(0.0, min(1.0, left / (self.ends - self.falls))) if self.ends > self.falls else 1.0
        return rise * fall * self._shaped(update)

    def _shaped(self, update: int) -> float:
        """The factor after the warm-up, before the fall."""
        if self.shape == "inverse_sqrt":
            return math.sqrt(max(1, self.warmup) / max(1, self.warmup, update + 1))
        if self.shape == "cosine":
            done = (update - self.warmup) / max(1, self.planned - self.warmup)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, done))))
        return 1.0


def planned_end(updates: int, decay: float) -> tuple[int, int]:
    """When the rate begins to fall, and when the run ends, unless it is told to finish."""
    return updates - round(decay * updates), updates


class Optimizers:
    """AdamW, or Muon for the matrices of the layers with AdamW for all other parameters.

    The others are embeddings, the output layer, norms, biases and routers. Muon (Jordan et
    al., 2024) orthogonalises the momentum of a matrix. Its step is scaled to
    the size of an AdamW step, so the rates of both compare.
    """

    def __init__(self, model: nn.Module, config: TrainingConfig) -> None:
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            special = ("shared", "lm_head", "router", "embed_tokens")
            plain = parameter.dim() == 2 and not any(part in name for part in special)
            (matrices if plain else others).append(parameter)
        adam: dict[str, Any] = {"betas": (0.9, config.beta2), "eps": config.epsilon}
        if config.optimizer == "muon":
            self.all: list[torch.optim.Optimizer] = [
                Muon(matrices, config.matrix_rate or config.rate, config.weight_decay)
            ]
            if others:
                self.all.append(torch.optim.AdamW(others, lr=config.rate, weight_decay=0.0, **adam))
        else:
            groups = [
                {"params": matrices, "weight_decay": config.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ]
            self.all = [torch.optim.AdamW(groups, lr=config.rate, **adam)]
        if any(is_spread(parameter) for parameter in (*matrices, *others)):
            for group in (group for one in self.all for group in one.param_groups):
                group["foreach"] = False  # whole weights and parts of them can't be in one call
        self.schedule = Schedule(config)
        self._schedules = [LambdaLR(o, self.schedule.factor) for o in self.all]

    def step(self) -> None:
        for optimizer, schedule in zip(self.all, self._schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)

    def skip(self) -> None:
        """Forget gradients that are not finite; the schedule goes on."""
        with warnings.catch_warnings():
            # At the first update torch takes the missing optimizer step for an oversight.
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            for optimizer, schedule in zip(self.all, self._schedules, strict=True):
                optimizer.zero_grad(set_to_none=True)
                schedule.step()

    @property
    def rate(self) -> float:
        """The present learning rate."""
        return float(self.all[0].param_groups[0]["lr"])

    def state_dict(self) -> dict[str, object]:
        return {
            "optimizers": [o.state_dict() for o in self.all],
            "schedules": [{"last_epoch": s.last_epoch} for s in self._schedules],
            "falls": self.schedule.falls,
            "ends": self.schedule.ends,
        }

    def load_state_dict(self, state: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """Take up what optimizers remember; rates, decay and such are those of the present settings.

        settings: those that `state` was saved under. The end of the run is kept if it was told to finish.
        """
        schedule = self.schedule
        saved_end = state["falls"], state["ends"]
        if saved_end != planned_end(settings["updates"], settings["decay"]):
            schedule.falls, schedule.ends = saved_end
        for optimizer, saved in zip(self.all, state["optimizers"], strict=True):
            present = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": _parted(optimizer, saved["state"]), "param_groups": present})
        for rates, saved in zip(self._schedules, state["schedules"], strict=True):
            rates.last_epoch = saved["last_epoch"]
            factor = schedule.factor(rates.last_epoch)
            for group in rates.optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor


def _parted(optimizer: torch.optim.Optimizer, state: Mapping[int, Any]) -> dict[int, Any]:
    """What is remembered of each parameter, as the parameter is: whole, or this process's part."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {
        place: {n: like(v, parameters[place]) if isinstance(v, Tensor) else v for n, v in of_one.items()}
        for place, of_one in state.items()
    }


def clip_(parameters: list[nn.Parameter], largest: float) -> Tensor:
    """Scale the gradients so that their common norm is at most `largest`; returns the norm before."""
    spread = [p.grad for p in parameters if is_spread(p) and p.grad is not None]
    if not spread:
        return torch.nn.utils.clip_grad_norm_(parameters, largest)
    whole = [p.grad for p in parameters if not is_spread(p) and p.grad is not None]
    norm = (torch.nn.utils.get_total_norm(whole) ** 2 + square_of(spread)).sqrt()
    factor = (largest / (norm + 1e-6)).clamp(max=1.0)
    for gradient in (*whole, *(part.to_local() for part in spread)):  # type: ignore[attr-defined]
        gradient.mul_(factor)
    return norm
