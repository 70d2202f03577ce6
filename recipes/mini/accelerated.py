"""Train the embedded model on one accelerator, for a given time.

    python recipes/mini/accelerated.py prepare SETTINGS --data DIR --texts DIR
    python recipes/mini/accelerated.py train   SETTINGS --texts DIR --out DIR --seconds 540

`train` needs nothing but what `prepare` has written, so texts and accelerator may be on different machines.
Processes make examples while the network learns: what it has already seen is only repeated where
they are slower than it is. The rate follows the clock, and the run ends on time.
"""

import argparse
import json
import lzma
import math
import multiprocessing
import os
import pickle
import shutil
import time
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from packed_loss import PackedLoss
from packing import Rows, pack

from dragoman.models.nllb import Nllb, initialize_
from dragoman.text.tokenizers.nllb import NllbTokenizer
from dragoman.training.collecting import collect
from dragoman.training.config import TrainingConfig
from dragoman.training.data import Batches
from dragoman.training.making import feed_of
from dragoman.training.optimizers import Optimizers, clip_
from dragoman.training.parts import Part
from dragoman.training.starting import open_new_tokenizer

WIDTH = 128
"""Of rows; no side of an example is longer."""
LINES = 25
"""Updates between lines of figures."""
SOON = 4
"""Files of rows that are taken to the device before their turn."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=("prepare", "train"))
    parser.add_argument("settings", type=Path)
    parser.add_argument("--data", type=Path, help="folder with train/, train2/, held-out/ and so on")
    parser.add_argument("--texts", type=Path, required=True, help="folder of what is prepared")
    parser.add_argument("--out", type=Path, help="folder for the weights and the log")
    parser.add_argument("--seconds", type=float, default=540, help="how long the run takes")
    parser.add_argument("--makers", type=int, default=max(1, (os.cpu_count() or 2) - 2))
    parser.add_argument("--rows", type=int, help="of a batch; as many as batch_tokens take by default")
    args = parser.parse_args()
    config = TrainingConfig.from_toml(args.settings)
    if args.step == "prepare":
        prepare(config, args.data, args.texts)
    else:
        train(config, args.texts, args.out, args.seconds, args.makers, args.rows)


# ---- texts ----


def prepare(config: TrainingConfig, data: Path, folder: Path) -> None:
    """Write all texts, a file a part, the development rows, and the tokenizer."""
    texts = collect(config, data, None)
    print(texts, flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    for kind, parts in (("part", texts.parts), ("dev", texts.dev)):
        for number, part in enumerate(parts):
            assert isinstance(part, Part)
            with lzma.open(folder / f"{kind}-{number:02}.xz", "wb", preset=6) as file:
                file.write(json.dumps([part.code, part.name, part.share, len(part)]).encode() + b"\n")
                # All of one language, then all of the other, which compresses better.
                for side in (0, 1):
                    for pair in part.pairs:
                        file.write(pair[side].replace("\n", " ").encode() + b"\n")
    open_new_tokenizer(config, texts.parts, folder)


def read(folder: Path, kind: str, config: TrainingConfig) -> list[Part]:
    """The prepared parts, with the shares that they have now."""
    shares = {options.name: options.share for options in config.parts}
    with multiprocessing.Pool() as pool:
        found = pool.map(_read, sorted(folder.glob(f"{kind}-*.xz")))
    return [replace(part, share=shares.get(part.name, part.share)) for part in found]


def _read(path: Path) -> Part:
    with lzma.open(path, "rt", encoding="utf-8", newline="\n") as file:
        code, name, share, count = json.loads(next(file))
        lines = file.read().split("\n")
    return Part(code, name, share, tuple(zip(lines[:count], lines[count : 2 * count], strict=True)))


# ---- examples ----


def make_rows(batches: Batches, folder: Path, first: int, step: int) -> None:
    """Rounds of examples `first`, `first + step` and so on, packed, each a file in `folder`; for ever."""
    torch.set_num_threads(1)
    number = first
    while True:
        rows = packed(batches, number)
        temporary = folder / f"{number}.new"
        with temporary.open("wb") as file:
            pickle.dump(rows.arrays(), file, protocol=5)
        temporary.rename(folder / f"{number:06}.rows")
        number += step
        while len(list(folder.iterdir())) > 40:  # nobody takes them: memory is not for hoarding
            time.sleep(1)


def packed(batches: Batches, number: int) -> Rows:
    """A round of examples in rows, both in random order."""
    examples = batches.examples(number)
    rng = Random(number)
    rng.shuffle(examples)
    rows = pack(examples, WIDTH)
    order = np.random.default_rng(number).permutation(len(rows))
    return Rows(*(array[order] for array in rows.arrays()))


class Pool:
    """Rows on the device: new ones first; old ones again, in another order, where there are no new ones."""

    def __init__(self, folder: Path, device: torch.device, batch: int) -> None:
        self.folder, self.device, self.batch = folder, device, batch
        self.chunks: list[list[torch.Tensor]] = []
        self.used: list[int] = []
        self.unread: list[int] = []
        """Chunks that nobody has had yet."""
        self.order: list[tuple[int, torch.Tensor]] = []
        self.seen = 0
        """Rows that were new."""
        self.rng = np.random.default_rng(0)

    def look(self) -> None:
        """Take in what the makers have made, as far as it is soon needed."""
        for path in sorted(self.folder.glob("*.rows"))[: SOON - len(self.unread)]:
            with path.open("rb") as file:
                arrays = pickle.load(file)
            path.unlink()
            whole = len(arrays[0]) // self.batch * self.batch
            tensors = [torch.from_numpy(array[:whole].astype(np.int16)) for array in arrays]
            self.chunks.append([tensor.to(self.device) for tensor in tensors])
            self.used.append(0)
            self.unread.append(len(self.chunks) - 1)
            self.seen += whole

    def next(self) -> list[torch.Tensor]:
        """The arrays of a batch."""
        while not self.order:
            self.look()
            if self.unread:
                chunk = self.unread.pop(0)
            elif self.chunks:
                fewest = min(self.used)
                chunk = int(self.rng.choice([i for i, n in enumerate(self.used) if n == fewest]))
            else:
                time.sleep(0.2)
                continue
            self.used[chunk] += 1
            count = len(self.chunks[chunk][0])
            order = torch.from_numpy(self.rng.permutation(count)).to(self.device)
            self.order = [(chunk, part) for part in order.split(self.batch)]
        chunk, part = self.order.pop()
        return [array[part] for array in self.chunks[chunk]]


# ---- training ----


def train(
    config: TrainingConfig, texts: Path, out: Path, seconds: float, makers: int, rows: int | None
) -> None:
    """Train for so many seconds, from now on; `out` gets weights.pt, tokenizer/ and log.jsonl."""
    began = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    made = out / "made"
    made.mkdir(exist_ok=True)
    shutil.copytree(texts / "tokenizer", out / "tokenizer", dirs_exist_ok=True)
    parts, dev = read(texts, "part", config), read(texts, "dev", config)
    tokenizer = NllbTokenizer.from_folder(texts / "tokenizer")
    batches: Any = feed_of(config, parts, tokenizer)
    processes = [
        # Before the device is begun with, which no fork survives.
        multiprocessing.get_context("fork").Process(
            target=make_rows, args=(batches, made, n, makers), daemon=True
        )
        for n in range(makers)
    ]
    for process in processes:
        process.start()
    print(f"texts read and {makers} makers begun after {time.monotonic() - began:.1f} s", flush=True)
    feed: Any = feed_of(config, dev, tokenizer, dev=True)
    held_out = pack(feed.examples(0), WIDTH)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.manual_seed(config.seed)
    model = Nllb(config.model_config(tokenizer.vocabulary + 206))
    initialize_(model, config.seed)
    model.to(device)
    count = rows or max(1, config.batch_tokens // (2 * WIDTH))
    trainer = Timed(model, config, device, Pool(made, device, count), out / "log.jsonl")
    try:
        trainer.run(began + seconds, held_out)
    finally:
        for process in processes:
            process.kill()
    torch.save({name: w.half() for name, w in trainer.result.items()}, out / "weights.pt")


class Timed:
    """Updates until a moment comes."""

    def __init__(
        self, model: Nllb, config: TrainingConfig, device: torch.device, pool: Pool, log: Path
    ) -> None:
        self.model, self.config, self.device, self.pool, self.log = model, config, device, pool, log
        self.optimizers = Optimizers(model, config)
        self.loss = PackedLoss(model, config.label_smoothing, config.balance_loss).to(device)
        self.compiled: Any = torch.compile(self.loss, dynamic=False) if device.type == "cuda" else self.loss
        self.parameters = list(model.parameters())
        self.average = [p.detach().clone() for p in self.parameters]
        self.update = 0
        self.sound = [p.detach().clone() for p in self.parameters]
        """Weights of a moment when all was well."""
        self.result: dict[str, torch.Tensor] = {}

    def run(self, ends: float, held_out: Rows) -> None:
        """Updates until `ends`, a time of the monotonic clock."""
        began = time.monotonic()
        self.model.train()
        window = torch.zeros(4, device=self.device)
        dev_at = 0.15
        clock = began
        while True:
            now = time.monotonic()
            done = (now - began) / (ends - began)
            if done >= 1:
                break
            self._set_rate(done)
            window += self._step(self.pool.next())
            self.update += 1
            if self.update == 1:
                began_updates = time.monotonic()
                print(f"first update after {began_updates - began:.1f} s", flush=True)
            if self.update % LINES == 0:
                loss, nll, balance, norm = (window / LINES).tolist()  # waits for the device
                window.zero_()
                self._guard(nll)
                rate = LINES / (time.monotonic() - clock)
                clock = time.monotonic()
                self._write(
                    update=self.update, seconds=round(clock - began, 1), loss=loss, nll=nll,
                    balance=balance, norm=norm, updates_per_s=rate, rate=self.optimizers.rate,
                    new_rows=self.pool.seen, passes=max(self.pool.used),
                )  # fmt: skip
            if done > dev_at:
                dev_at += 0.15
                self._write(update=self.update, **self._dev(held_out))
        own = self._dev(held_out)
        weights = [p.detach().clone() for p in self.parameters]
        self._put(self.average)
        averaged = self._dev(held_out)
        self._write(update=self.update, own=own, averaged=averaged)
        if own["dev_nll"] < averaged["dev_nll"]:
            self._put(weights)
        self.result = {name: w.detach().cpu() for name, w in self.model.state_dict().items()}

    @torch.no_grad()
    def _guard(self, nll: float) -> None:
        """Go back to sound weights where the loss is no number: time is too short to look why."""
        if math.isfinite(nll):
            if self.update % (8 * LINES) == 0:
                torch._foreach_copy_(self.sound, self.parameters)
            return
        self._write(update=self.update, back_to="the last sound weights")
        self._put(self.sound)
        self.average = [weight.clone() for weight in self.sound]
        for optimizer in self.optimizers.all:
            optimizer.state.clear()

    def _set_rate(self, done: float) -> None:
        """Linear warm-up by updates, then constant, then linear to zero over the last `decay` of the time."""
        config = self.config
        factor = min(1.0, (self.update + 1) / config.warmup) * min(1.0, (1 - done) / config.decay)
        for optimizer, rate in zip(
            self.optimizers.all, (config.matrix_rate or config.rate, config.rate), strict=True
        ):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor

    def _step(self, rows: list[torch.Tensor]) -> torch.Tensor:
        with torch.autocast(self.device.type, torch.bfloat16):
            loss, nll, balance = self.compiled(rows)
        loss.backward()
        norm = clip_(self.parameters, self.config.clip)
        for optimizer in self.optimizers.all:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            share = 1 - min(self.config.average, (1 + self.update) / (10 + self.update))
            torch._foreach_lerp_(self.average, self.parameters, share)
        return torch.stack([loss.detach(), nll, balance, norm])

    @torch.no_grad()
    def _dev(self, rows: Rows) -> dict[str, float]:
        self.model.eval()
        self.loss.eval()
        total = tokens = 0.0
        arrays = [torch.from_numpy(array.astype(np.int16)).to(self.device) for array in rows.arrays()]
        for parts in zip(*(array.split(32) for array in arrays), strict=True):
            with torch.autocast(self.device.type, torch.bfloat16):
                _, nll, _ = self.loss(parts)
            count = float((parts[5] > 0).sum())
            total, tokens = total + float(nll) * count, tokens + count
        self.model.train()
        self.loss.train()
        return {"dev_nll": total / tokens}

    @torch.no_grad()
    def _put(self, weights: list[torch.Tensor]) -> None:
        for parameter, weight in zip(self.parameters, weights, strict=True):
            parameter.copy_(weight)

    def _write(self, **figures: Any) -> None:
        line = json.dumps(figures, default=float)
        print(line, flush=True)
        with self.log.open("a") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    main()
