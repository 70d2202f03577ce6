"""The training loop: updates, evaluations, checkpoints, and going on after an interruption.

It knows neither models nor what they learn: an `Objective` computes losses, a `Feed` has the batches.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from dragoman.errors import InvalidOption, TrainingDiverged
from dragoman.files import replacing_file
from dragoman.training.averaging import WeightAverage
from dragoman.training.config import TrainingConfig
from dragoman.training.data import Position
from dragoman.training.objectives.base import Losses, Objective
from dragoman.training.optimizers import Optimizers, clip_
from dragoman.training.precision import LossScale, attention_in, products_in, resolve_precision
from dragoman.training.processes import Processes
from dragoman.training.recomputation import recompute_
from dragoman.training.run_log import Observer, RunLog
from dragoman.training.settings import changes
from dragoman.training.spreading import gathered, is_spread, kept_of, spread_
from dragoman.training.trainable import load_trained_, trained_state

Evaluate = Callable[[Any], dict[str, float]]
CHECKPOINT = "checkpoint.pt"
EMPTY_ROUNDS = 20
"""So many one after the other are no accident: small shares come every few rounds."""


class Feed(Protocol):
    """Batches in endless rounds, the same for the same seed."""

    def round(self, number: int) -> Sequence[Any]:
        """The batches of a round; each can be moved by `to`."""

    def fingerprint(self) -> str:
        """Differs where the batches would."""


@dataclass(frozen=True)
class Phase:
    """What is read from an update on."""

    feed: Feed
    begins: int = 0


class Trainer:
    """Trains a model on endless batches, in a folder from which it can resume.

    The folder gets `log.jsonl` (a line of figures every few updates and at every
    evaluation) and `checkpoint.pt`, replaced atomically. A run whose settings or texts have changed
    since goes on with them, from the next round of examples on.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        phases: Feed | Sequence[Phase],
        config: TrainingConfig,
        folder: Path,
        evaluate: Evaluate | None = None,
        observer: Observer | None = None,
        processes: Processes | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        """phases: one after the other, by when they begin; or the only one's feed.

        say: is told which settings have changed since the checkpoint.
        """
        self.processes = processes or Processes()
        default = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.device = self.processes.device or default
        if config.spread:
            spread_(model, self.processes)
            kept, count = kept_of(model)
            if kept < count:
                say(f"process {self.processes.rank} keeps {kept:,} of {count:,} weights")
        self.model, self.say = model.to(self.device), say
        objective.to(self.device)
        self.objective, self.config, self.folder, self.evaluate = objective, config, folder, evaluate
        self.phases = list(phases) if isinstance(phases, Sequence) else [Phase(phases)]
        if config.checkpointing:
            recompute_(model)
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizers = Optimizers(model, config)
        self.dtype = resolve_precision(config.precision, self.device)
        self.scale = LossScale(self.dtype)
        self.average = WeightAverage(model, config.average) if config.average else None
        self.position = Position()
        self.update = self.pairs = 0
        self.seconds = 0.0
        self.log = RunLog(folder / "log.jsonl", objective.figures, observer, self.processes.is_first)

    def run(self, finish: int | None = None) -> None:
        """Train to the end of the schedule, from the last checkpoint if there is one.

        finish: the rate starts to fall now, and the run ends after so many more updates. This is kept: a
        run that goes on after an interruption need not be told again.
        """
        self.resume()
        if finish is not None:
            self.optimizers.schedule.finish(self.update, finish)
            self.save()
        began = time.monotonic() - self.seconds
        for batches in self._updates():
            if self.finished:
                break
            # Anew for each update, so that a resumed run draws as an uninterrupted one would.
            torch.manual_seed(self.config.seed * 10**6 + self.update + self.processes.rank * 10**12)
            figures = self._train(batches)
            self.update += 1
            self.log.add(self.update, self.optimizers.schedule.ends, figures)
            if self.average is not None:
                self.average.add()
            self.seconds = time.monotonic() - began
            if self.update % self.config.log_every == 0:
                self.log.write_window(self._state(), self.optimizers.rate)
            if self.update % self.config.evaluate_every == 0 or self.finished:
                self._evaluate()
            if self.update % self.config.save_every == 0 or self.finished:
                self.save()

    @property
    def finished(self) -> bool:
        return self.update >= self.optimizers.schedule.ends

    def _state(self) -> dict[str, Any]:
        return {"update": self.update, "pairs": self.pairs, "seconds": round(self.seconds, 1)}

    def _evaluate(self) -> None:
        # Where weights are spread no process computes alone.
        if self.evaluate is None or not (self.processes.is_first or self.config.spread):
            return
        self.model.eval()
        averaged = contextlib.nullcontext() if self.average is None else self.average.used()
        with averaged:
            found = self.evaluate(self.model)
        self.log.write({"update": self.update, "pairs": self.pairs, **found})

    # ---- batches ----

    @property
    def feed(self) -> Feed:
        """What is read now."""
        return self.phases[self.position.phase].feed

    def _phase(self) -> int:
        """Which phase the coming update belongs to."""
        return max(i for i, phase in enumerate(self.phases) if phase.begins <= self.update)

    def _updates(self) -> Iterator[list[Any]]:
        """The batches of each coming update, of all processes, from where the run has read to."""
        wanted = self.config.accumulate * self.processes.count
        batches: list[Any] = []
        empty = 0
        while True:
            if self.position.phase != self._phase():
                self.position, batches = Position(phase=self._phase()), []
            found = self.feed.round(self.position.round)
            self._tell_fit(found)
            empty = 0 if found else empty + 1
            if empty == EMPTY_ROUNDS:
                raise InvalidOption(
                    f"{empty} rounds of examples hold none that fits; raise max_tokens, or look at the texts"
                )
            for place in range(self.position.batch, len(found)):
                batches.append(found[place])
                if len(batches) < wanted:
                    continue
                self.position = replace(self.position, batch=place + 1)
                yield batches
                batches = []
                if self.position.phase != self._phase():
                    break
            else:
                self.position = replace(self.position, round=self.position.round + 1, batch=0)

    def _tell_fit(self, batches: Sequence[Any]) -> None:
        """Say how much of a phase's first round fits."""
        if self.processes.is_first and (self.position.round, self.position.batch) == (0, 0):
            self.say(
                f"phase {self.position.phase + 1}: the first round has {sum(map(len, batches)):,} of "
                f"{self.config.round_examples:,} examples in {len(batches):,} batches"
            )

    # ---- one update ----

    def _train(self, batches: Sequence[Any]) -> dict[str, float]:
        """One update; the sums of all figures over all its batches, and what they are counted by."""
        self.model.train()
        counts = _added(self.objective.counts(batch) for batch in batches)
        found: list[Mapping[str, float]] = []
        for batch in self.processes.share(batches):
            losses = self.losses(batch)
            parts = [term / counts[name] for name, term in losses.terms.items() if counts[name]]
            loss = sum(parts[1:], parts[0])
            if loss.requires_grad:
                with attention_in(self.dtype, self.device):
                    self.scale.scaled(loss).backward()
            found.append(losses.figures)
        figures = dict.fromkeys(self.objective.figures, 0.0) | _added(found)
        figures = self.processes.add_figures(figures)
        self._check(figures)
        # Those of spread weights are added up already.
        self.processes.add_gradients_([p for p in self.parameters if not is_spread(p)])
        self.scale.unscale_(self.parameters)
        self.pairs += sum(map(len, batches))
        return {**figures, **counts, "updates": 1.0, **self._step()}

    def _step(self) -> dict[str, float]:
        """Change the weights, unless a gradient is infinite."""
        norm = float(clip_(self.parameters, self.config.clip))
        is_finite = math.isfinite(norm)
        self.scale.update(is_finite)
        if not is_finite:
            self.optimizers.skip()
            return {"skipped": 1.0}
        self.optimizers.step()
        return {"norm": norm}

    def _check(self, figures: Mapping[str, float]) -> None:
        if not all(map(math.isfinite, figures.values())):
            raise TrainingDiverged(
                f"the loss is {figures['loss']} in update {self.update + 1}; lower `rate`, or raise "
                f"`warmup`, and run again: it goes on from {self.folder / CHECKPOINT}, if that is there"
            )

    def losses(self, batch: Any) -> Losses:
        """What the objective makes of a batch, in the run's precision."""
        with products_in(self.dtype, self.device):
            return self.objective(self.model, batch.to(self.device))

    # ---- checkpoints ----

    def save(self) -> None:
        """Write `checkpoint.pt`; a crash while writing leaves the previous one."""
        if not (self.processes.is_first or self.config.spread):
            return
        state = {
            "model": trained_state(self.model),
            "optimizers": self.optimizers.state_dict(),
            "scale": self.scale.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "update": self.update,
            "pairs": self.pairs,
            "seconds": self.seconds,
            "position": asdict(self.position),
            "texts": self.feed.fingerprint(),
            "window": self.log.window,
            "config": asdict(self.config),
        }
        state = gathered(state, self.processes.is_first)
        if not self.processes.is_first:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing_file(self.folder / CHECKPOINT) as file:
            torch.save(state, file)

    def resume(self) -> None:
        """Take up the run of `checkpoint.pt`, if there is one; the log loses what came after it."""
        path = self.folder / CHECKPOINT
        if not path.exists():
            self.log.resume(0, {})
            return
        # If weights are spread, a whole state need not fit where this process computes, nor into main memory
        # once for each of them: they read their parts from the file.
        place = "cpu" if self.config.spread else self.device
        state = torch.load(path, map_location=place, mmap=self.config.spread, weights_only=True)
        self._compare(state["config"])
        load_trained_(self.model, state["model"])
        self.optimizers.load_state_dict(state["optimizers"], state["config"])
        if "scale" in state:
            self.scale.load_state_dict(state["scale"])
        if self.average is not None and state["average"] is not None:
            self.average.load_state_dict(state["average"])
        self.update, self.pairs, self.seconds = state["update"], state["pairs"], state["seconds"]
        self.position = Position(**state["position"])
        if self.position.phase >= len(self.phases):
            self.position = Position(phase=self._phase())
        elif state["texts"] != self.feed.fingerprint():
            self.position = Position(self.position.round + 1, phase=self.position.phase)
        self.log.resume(self.update, state.get("window", {}))

    def _compare(self, before: Mapping[str, Any]) -> None:
        """Say which settings are others than those of the checkpoint; the new ones hold from now on."""
        optimizer = before["optimizer"]
        if optimizer != self.config.optimizer:
            raise InvalidOption(
                f"the checkpoint in {self.folder} is of a run by {optimizer}, which {self.config.optimizer} "
                "can't go on with; take that back, or give another folder for the run"
            )
        found = list(changes(before, asdict(self.config)))
        if found and self.processes.is_first:
            self.say(f"other settings than before: {'; '.join(found)}")


def _added(rows: Iterator[Mapping[str, float]] | Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The sums by name."""
    total: dict[str, float] = {}
    for row in rows:
        for name, value in row.items():
            total[name] = total.get(name, 0.0) + value
    return total
