"""What engines are compared at: sentences of random ids, and who does them in which precision."""

import argparse
import os
import random
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.peers.client import OURS, PEERS, Engine, PeerError, Pool, needed
from benchmarks.shapes import SHAPES, Shape, folder_for
from dragoman.models.config import NllbConfig
from dragoman.text.tokenizers.layout import EOS, NllbLayout

# Bytes of a weight; the four-bit formats have a 16-bit scale for 32 weights.
WEIGHT_BYTES = {
    "plain": 4.0,
    "fp32": 4.0,
    "fp16": 2.0,
    "bf16": 2.0,
    "int8": 1.0,
    "int4": 0.5625,
    "q4_0": 0.5625,
}
# Which of our precisions each engine is held against.
MATCHES: dict[str, dict[tuple[str, str], tuple[str, ...]]] = {
    "nllb-600m": {
        ("transformers", "fp32"): ("fp32", "fp16", "int8", "int4"),
        ("transformers", "bf16"): ("fp16",),
        ("ctranslate2", "fp32"): ("fp32",),
        ("ctranslate2", "int8"): ("int8", "int4"),
    },
    "nllb-moe-32": {
        ("transformers", "fp32"): ("fp32", "fp16", "int8", "int4"),
        ("transformers", "bf16"): ("fp16",),
    },
    "llama-13b-8": {
        ("llama_cpp", "q4_0"): ("int4", "int8"),
        ("transformers", "fp32"): ("int4",),
        ("transformers", "bf16"): ("fp16", "int8"),
    },
}


@dataclass(frozen=True)
class Work:
    """A batch of sentences without padding, and how much to write for each."""

    shape: Shape
    batch: int
    beams: int
    source_tokens: int
    new_tokens: int

    @property
    def label(self) -> str:
        return (
            f"{self.shape.name}, batch {self.batch}, beam {self.beams}, "
            f"{self.source_tokens} in, {self.new_tokens} out"
        )

    @property
    def short(self) -> int:
        """So few new tokens that what remains is the start; where one is given, the second is the first."""
        return 1 if self.shape.is_llama else 2

    @cached_property
    def sources(self) -> list[list[int]]:
        """Ids as a tokenizer would frame them."""
        draw, config = random.Random(0), self.shape.config
        if not isinstance(config, NllbConfig):
            inner = self.source_tokens - 1
            return [[1, *_ids(draw, 259, config.vocab_size, inner)] for _ in range(self.batch)]
        layout = _layout(config)
        source, last = layout.languages["eng_Latn"], layout.vocabulary
        inner = self.source_tokens - 2
        return [[source, *_ids(draw, 4, last, inner), EOS] for _ in range(self.batch)]

    def request(self, new_tokens: int) -> dict[str, Any]:
        """What a worker is asked."""
        request = {"do": "run", "sources": self.sources, "new_tokens": new_tokens, "beams": self.beams}
        config = self.shape.config
        if isinstance(config, NllbConfig):
            request["prompt"] = [EOS, _layout(config).languages["deu_Latn"]]
        return request


@dataclass(frozen=True)
class Pair:
    """A peer's engine, and ours held against it."""

    peer: Engine
    ours: Engine


def chosen(peer: str, precision: str, peers: Sequence[str]) -> bool:
    """Whether `--peers`, with or without precisions, names this one."""
    return peer in peers or f"{peer}:{precision}" in peers


def pairs(shape: Shape, peers: Sequence[str], precisions: Sequence[str], vocabulary: int = 0) -> list[Pair]:
    """Who is compared for a shape. vocabulary: also with ours limited to so many words, if above 0."""
    found = []
    for (peer, precision), ours in MATCHES[shape.name].items():
        if not chosen(peer, precision, peers):
            continue
        theirs = engine(shape, peer, precision)
        for own in ours:
            if own in precisions:
                found.append(Pair(theirs, engine(shape, OURS, own)))
                if vocabulary and not shape.is_llama:
                    found.append(Pair(theirs, engine(shape, OURS, own, _words(shape, vocabulary))))
    return found


def engine(shape: Shape, peer: str, precision: str, vocabulary: tuple[int, ...] | None = None) -> Engine:
    """An engine for a shape, its model made or converted if need be."""
    weights = shape.parameters() * WEIGHT_BYTES[precision] / 1e9
    folder = folder_for(shape, peer, precision)
    maps = peer == "transformers" and precision == str(shape.dtype).replace("torch.float", "fp")
    own, mapped = (0.0, weights) if maps else (weights, 0.0)
    if peer == "llama_cpp":
        own, mapped = weights, weights  # what is repacked for the processor is kept twice
    return Engine(peer, folder, precision, own + 0.5, mapped, vocabulary)


@dataclass(frozen=True)
class Timing:
    """Median seconds of each of an engine's requests, or why there are none."""

    seconds: dict[str, float]
    spread: dict[str, tuple[float, float]]
    error: str | None = None


def take_turns(
    pool: Pool, engines: Iterable[Engine], requests: dict[str, dict[str, Any]], repeats: int
) -> dict[Engine, Timing]:
    """Each engine does all requests, then the next one, and so on `repeats` times."""
    engines = list(dict.fromkeys(engines))
    found: dict[Engine, dict[str, list[float]]] = {one: {name: [] for name in requests} for one in engines}
    errors: dict[Engine, str] = {}
    for _ in range(repeats):
        for one in engines:
            if one in errors:
                continue
            try:
                for name, seconds in pool.measure(one, requests).items():
                    found[one][name].append(seconds)
            except PeerError as error:
                errors[one] = str(error)
    return {one: _timing(found[one], errors.get(one)) for one in engines}


def compare(
    pool: Pool, wanted: Sequence[Pair], requests: dict[str, dict[str, Any]], repeats: int
) -> list[tuple[Pair, Timing, Timing]]:
    """Timings of both sides of each pair; all take turns if memory holds them, or else each two."""
    everyone = [one for pair in wanted for one in (pair.peer, pair.ours)]
    if needed(dict.fromkeys(everyone)) <= pool.gigabytes:
        timings = take_turns(pool, everyone, requests, repeats)
        return [(pair, timings[pair.peer], timings[pair.ours]) for pair in wanted]
    results = []
    for pair in wanted:
        timings = take_turns(pool, (pair.peer, pair.ours), requests, repeats)
        results.append((pair, timings[pair.peer], timings[pair.ours]))
    return results


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options that all comparisons have."""
    parser.add_argument("--quick", action="store_true", help="one short run of each: does it work at all?")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each kind (default: 5)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="for every engine")
    parser.add_argument("--memory", type=float, default=free_gigabytes(), help="gigabytes to use")
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--peers", nargs="+", default=PEERS, help="with or without :precision")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "fp16", "int8", "int4"], help="ours")
    parser.add_argument("--vocabulary", type=int, default=0, help="also with so many target words")


def free_gigabytes() -> float:
    """Nine tenths of the memory that is free."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable"):
            return round(0.9 * int(line.split()[1]) * 1024 / 1e9, 1)
    return 8.0


def ratio(peer: float | None, ours: float | None) -> float | None:
    """How many times faster we are."""
    return peer / ours if peer and ours else None


def _timing(found: dict[str, list[float]], error: str | None) -> Timing:
    if error is not None:
        return Timing({}, {}, error)
    seconds = {name: statistics.median(values) for name, values in found.items()}
    return Timing(seconds, {name: (min(values), max(values)) for name, values in found.items()})


def _ids(draw: random.Random, low: int, high: int, count: int) -> list[int]:
    return [draw.randrange(low, high) for _ in range(count)]


def _layout(config: NllbConfig) -> NllbLayout:
    """The ids of a vocabulary of this size."""
    return NllbLayout(config.vocab_size - NllbLayout(0).rows)


def _words(shape: Shape, count: int) -> tuple[int, ...]:
    """Specials and languages, and as many pieces as make `count` ids."""
    layout = _layout(shape.config)  # type: ignore[arg-type]
    fixed = [*range(4), *layout.languages.values()]
    pieces = random.Random(1).sample(range(4, layout.vocabulary), count - len(fixed))
    return tuple(sorted([*fixed, *pieces]))
