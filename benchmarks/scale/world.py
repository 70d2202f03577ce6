"""What is simulated: a corpus in blocks, machines, a store, what bulk itself costs, and what goes wrong."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Corpus:
    """Blocks in the order of the plan: arrays of one length."""

    rows: np.ndarray
    sentences: np.ndarray
    work: np.ndarray
    """Seconds of one undisturbed reference worker."""
    bytes_in: np.ndarray
    bytes_out: np.ndarray
    modules: np.ndarray
    """Bits: which language modules (or sets of experts) a block needs, one bit each."""

    @property
    def blocks(self) -> int:
        return len(self.work)

    @property
    def total(self) -> int:
        """Sentences."""
        return int(self.sentences.sum())


@dataclass(frozen=True)
class Machines:
    """Equal machines, and workers on them."""

    count: int = 1
    cores: int = 2
    workers: int = 1
    """On each machine."""
    threads: int = 1
    """Of each worker."""
    daemons: float = 0.0
    """Cores that Ray's own processes keep busy on a machine."""
    crowding: float = 0.0
    """By how much a worker computes longer when all other cores are busy (caches, memory), as a share."""
    sharing: float = 0.0
    """By how much it computes longer when it has to share its core, as a share."""

    @property
    def total(self) -> int:
        """Workers."""
        return self.count * self.workers

    def rate(self, busy: int) -> float:
        """Seconds of undisturbed work that each of so many busy workers of one machine does in a second."""
        wanted = busy * self.threads
        share = min(1.0, max(self.cores - self.daemons, 0.1) / wanted)
        others = max(min(wanted, self.cores) - self.threads, 0) / max(self.cores - self.threads, 1)
        slower = 1.0 + self.crowding * others
        return share / (slower * (1.0 + self.sharing) if wanted > self.cores else slower)


@dataclass(frozen=True)
class Store:
    """Where inputs, results and models lie. 0 for a time, infinity for a speed: it costs nothing."""

    latency: float = 0.0
    """Seconds of a request until the first byte."""
    bandwidth: float = float("inf")
    """Bytes a second of the whole store."""
    link: float = float("inf")
    """Bytes a second of one machine's network."""
    disk: float = float("inf")
    """Bytes a second that a machine reads modules from, once it has the model."""


@dataclass(frozen=True)
class Costs:
    """What a run costs besides translating. Seconds, unless it says otherwise."""

    driver: float = 0.0
    """From the command to where the first worker is asked for."""
    plan_rate: float = float("inf")
    """Bytes of input a second that the driver looks through before anything begins."""
    probe: float = 0.0
    """One worker that loads the model, before the others are asked for."""
    pool: float = 0.0
    """Waiting for the pool of actors, besides what they compute."""
    start: float = 0.0
    """What a worker computes until it can take a block: imports, model, first calls."""
    model: float = 0.0
    """Bytes that each worker reads from the store for it."""
    block: float = 0.0
    """Waiting between two blocks of a worker, besides what it computes."""
    dispatch: float = 0.0
    """What the driver computes for each piece of work; it does one after the other."""
    end: float = 0.0
    """From the last block to the end of the command."""
    requests: int = 5
    """To the store for each block: is it there, two looks at the input, a read, a write."""
    module: float = 0.0
    """Bytes of a language module."""
    resident: int = 64
    """How many of them a worker has in memory."""


@dataclass(frozen=True)
class Hazards:
    """What goes wrong. Everything is drawn from one seed, each kind from a stream of its own."""

    spread: float = 0.0
    """Machines differ: deviation of the logarithm of their speeds, whose mean is 1."""
    slow: float = 0.0
    """Share of machines that are slow all the time, rounded to whole machines."""
    slowdown: float = 1.0
    """How many times longer these take."""
    failures: float = 0.0
    """A machine's failures in an hour."""
    replacement: float = 120.0
    """Seconds until another machine is there."""
    restart: float = 600.0
    """Seconds until somebody gives the command again, should it have ended."""
    seed: int = 0


@dataclass(frozen=True)
class Rules:
    """What `dragoman.bulk.cluster` does: its constants, read from there in the tests."""

    pieces: int = 10_000
    """So many pieces of work at the most, each of some blocks."""
    in_flight: int = 2
    """Pieces at an actor: the one it does and those that wait there."""
    tries: int = 5
    """So often a piece is done again; then the command ends."""
    restarts: int = 100
    """So often an actor is."""


@dataclass(frozen=True)
class Outcome:
    """A simulated run."""

    seconds: float
    written: np.ndarray
    """When each block's file appeared, in seconds from the command on."""
    writes: np.ndarray
    """How often each was written."""
    busy: float
    """Seconds that workers had a block, all of them together."""
    lost: float
    """Seconds of these that a failure undid."""
    machine_seconds: float
    failures: int = 0
    reruns: int = 0
    """How often the command had to be given again."""
    misses: int = 0
    """Language modules read."""
    events: int = 0
    facts: Mapping[str, float] = field(default_factory=dict)

    def rate(self, sentences: np.ndarray) -> float:
        """Sentences a second once all are at work, as `steady_rate` has it."""
        return steady_rate(self.written, int(sentences.sum()))


def steady_rate(times: np.ndarray, sentences: int) -> float:
    """Sentences a second of the half of the blocks in the middle: neither start-up nor the end counts.

    times: when each block was done, in any order. Between the first block and the last it would matter
    that several workers have a first one, and that some have nothing to do at the end.
    """
    ordered = np.sort(times)
    first, last = len(ordered) // 4, 3 * len(ordered) // 4
    between = float(ordered[last] - ordered[first]) if len(ordered) > last else 0.0
    return sentences * (last - first) / len(ordered) / between if between > 0 else float("nan")
