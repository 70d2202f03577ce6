"""The training loop: updates, evaluations, checkpoints, and going on after an interruption."""

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from dragoman.files import replacing_file
from dragoman.models.nllb import Nllb, Trace
from dragoman.training.averaging import WeightAverage
from dragoman.training.config import TrainingConfig
from dragoman.training.data import Batch, Batches, Position
from dragoman.training.losses import router_losses, smoothed_cross_entropy
from dragoman.training.optimizers import Optimizers, clip_

Evaluate = Callable[[Nllb], dict[str, float]]


class Trainer:
    """Trains a model on endless batches, in a folder from which it can resume.

    The folder gets `log.jsonl` (a line of figures every few updates and at every
    evaluation) and `checkpoint.pt`, replaced atomically. A run whose settings or texts have changed
    since goes on with them, from the next round of examples on.
    """

    def __init__(
        self, model: Nllb, batches: Batches, config: TrainingConfig, folder: Path, evaluate: Evaluate
    ) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device)
        self.batches, self.config, self.folder, self.evaluate = batches, config, folder, evaluate
        self.optimizers = Optimizers(model, config)
        self.dtype = resolve_precision(config.precision, self.device)
        self.average = WeightAverage(model, config.average) if config.average else None
        self.position = Position()
        self.update = self.pairs = 0
        self.seconds = 0.0
        folder.mkdir(parents=True, exist_ok=True)

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
        window: dict[str, float] = {}
        for batches in self._updates():
            if self.finished:
                break
            # Anew for each update, so that a resumed run draws as an uninterrupted one would.
            torch.manual_seed(self.config.seed * 10**6 + self.update)
            for name, value in self._train(batches).items():
                window[name] = window.get(name, 0.0) + value
            self.update += 1
            if self.average is not None:
                self.average.add()
            self.seconds = time.monotonic() - began
            if self.update % self.config.log_every == 0:
                self._log(window)
                window = {}
            if self.update % self.config.evaluate_every == 0 or self.finished:
                self._evaluate()
            if self.update % self.config.save_every == 0 or self.finished:
                self.save()

    @property
    def finished(self) -> bool:
        return self.update >= self.optimizers.schedule.ends

    def _evaluate(self) -> None:
        self.model.eval()
        averaged = contextlib.nullcontext() if self.average is None else self.average.used()
        with averaged:
            self._write({"update": self.update, "pairs": self.pairs, **self.evaluate(self.model)})

    def _updates(self) -> Iterator[list[Batch]]:
        """The batches of each coming update, from where the run has read to."""
        batches: list[Batch] = []
        while True:
            found = self.batches.round(self.position.round)
            for place in range(self.position.batch, len(found)):
                batches.append(found[place])
                if len(batches) == self.config.accumulate:
                    self.position = Position(self.position.round, place + 1)
                    yield batches
                    batches = []
            self.position = Position(self.position.round + 1)

    def _train(self, batches: list[Batch]) -> dict[str, float]:
        self.model.train()
        tokens = sum(int((b.target[:, 1:] != self.batches.pad).sum()) for b in batches)
        figures = {"updates": 1.0, "nll": 0.0, "tokens": float(tokens), "aux": 0.0}
        for batch in batches:
            loss, nll, aux = self.losses(batch, self.config.label_smoothing)
            if not math.isfinite(nll):
                raise FloatingPointError(
                    f"the loss is {nll} in update {self.update + 1}; lower `rate`, or raise `warmup`, "
                    f"and run again: it goes on from {self.folder / 'checkpoint.pt'}, if that is there"
                )
            (loss / tokens + aux / len(batches)).backward()
            figures["nll"] += nll
            figures["aux"] += float(aux.detach()) / len(batches)
            self.pairs += len(batch.source)
        norm = float(clip_(list(self.model.parameters()), self.config.clip))
        if math.isfinite(norm):
            figures["norm"] = norm
            self.optimizers.step()
        else:
            figures["skipped"] = 1.0
            self.optimizers.skip()
        return figures

    def losses(self, batch: Batch, smoothing: float) -> tuple[Tensor, float, Tensor]:
        """Smoothed loss and negative log-likelihood, summed over target tokens; router losses."""
        source, target = batch.source.to(self.device), batch.target.to(self.device)
        pad = self.batches.pad
        encoder, decoder = Trace(), Trace()
        with self._context():
            keep = source != pad
            encoded = self.model.encoder(source, keep, encoder)
            keep_target = target[:, :-1] != pad
            hidden = self.model.decoder(target[:, :-1], encoded, keep, keep_target, trace=decoder)
        gold = target[:, 1:]
        real = gold != pad
        loss, nll = smoothed_cross_entropy(
            hidden[real].to(self.dtype), self.model.lm_head.weight, gold[real], smoothing
        )
        routings = encoder.routings + decoder.routings
        return loss, float(nll), router_losses(routings, self.config.balance_loss, self.config.z_loss)

    @contextlib.contextmanager
    def _context(self) -> Iterator[None]:
        enabled = self.dtype != torch.float32
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.autocast(self.device.type, self.dtype, enabled=enabled))
            if self.device.type == "cpu" and enabled:
                # On short sentences the CPU's bf16 flash kernel takes seven times as long backwards.
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            yield

    def _log(self, window: dict[str, float]) -> None:
        count, skipped = window["updates"], window.get("skipped", 0.0)
        figures = {
            "update": self.update,
            "pairs": self.pairs,
            "seconds": round(self.seconds, 1),
            "loss": round(window["nll"] / window["tokens"], 4),
            "aux": round(window["aux"] / count, 5),
            "norm": round(window.get("norm", 0.0) / max(1.0, count - skipped), 3),
            "rate": self.optimizers.rate,
        }
        # Updates that were not made because a gradient was infinite.
        self._write(figures | ({"skipped": int(skipped)} if skipped else {}))

    def _write(self, figures: dict[str, Any]) -> None:
        line = json.dumps(figures)
        print(line, flush=True)
        with open(self.folder / "log.jsonl", "a", encoding="utf-8") as log:
            log.write(line + "\n")

    def save(self) -> None:
        """Write `checkpoint.pt`; a crash while writing leaves the previous one."""
        state = {
            "model": self.model.state_dict(),
            "optimizers": self.optimizers.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "update": self.update,
            "pairs": self.pairs,
            "seconds": self.seconds,
            "position": asdict(self.position),
            "texts": self.batches.fingerprint(),
            "config": asdict(self.config),
        }
        with replacing_file(self.folder / "checkpoint.pt") as file:
            torch.save(state, file)

    def resume(self) -> None:
        """Take up the run of `checkpoint.pt`, if there is one; the log loses what came after it."""
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizers.load_state_dict(state["optimizers"])
        if self.average is not None and state["average"] is not None:
            self.average.load_state_dict(state["average"])
        self.update, self.pairs, self.seconds = state["update"], state["pairs"], state["seconds"]
        self.position = Position(**state["position"])
        if state["texts"] != self.batches.fingerprint():
            self.position = Position(self.position.round + 1)
        log = self.folder / "log.jsonl"
        if log.exists():
            lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
            log.write_text("".join(line for line in lines if self._is_past(line)), encoding="utf-8")

    def _is_past(self, line: str) -> bool:
        try:
            return json.loads(line)["update"] <= self.update
        except ValueError:
            return False  # cut off by a crash


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """The data type of products: what is asked for, or bf16 where the hardware multiplies it natively."""
    if precision == "fp32":
        return torch.float32
    if precision == "bf16" or device.type == "cuda":
        return torch.bfloat16
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32
