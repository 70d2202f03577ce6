"""`dragoman bulk --cluster` as a discrete-event simulation; a block is an event.

As in `dragoman.bulk.cluster`: the driver looks through the input, has one worker load the model, then asks
for a pool of actors. Blocks are handed out in pieces, at most 10,000. An actor has one piece under way and
one waiting, which nobody takes from it. An actor that dies is started again with the same two pieces: blocks
whose files are there are passed over, the one under way is done anew. A piece that has been at too many
deaths ends the command; given again, it does what is missing.
"""

from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from benchmarks.scale.events import Clock, Job, Shared
from benchmarks.scale.world import Corpus, Costs, Hazards, Machines, Outcome, Rules, Store

_GIVEN_UP = 1000
"""A run whose command has ended so often will not come to its end."""


@dataclass(eq=False, slots=True)
class _Piece:
    blocks: range
    """Places in what is missing."""
    tries: int = 0


@dataclass(eq=False, slots=True)
class _Worker:
    machine: int
    slowness: float
    life: int = 0
    """Counts its starts; what belongs to an earlier one is void."""
    is_wanted: bool = False
    """Whether the pool has it, ready or not."""
    is_asking: bool = False
    """Whether the driver is about to hand it a piece."""
    queue: deque[_Piece] = field(default_factory=deque)
    at: int = 0
    """The place within its piece."""
    job: Job | None = None
    began: float = -1.0
    """When it began the block under way; negative if there is none."""
    modules: list[int] = field(default_factory=list)
    """Those in memory, the one used last at the end."""
    restarts: int = 0


class Simulation:
    """One run from the command to its end."""

    def __init__(
        self,
        corpus: Corpus,
        machines: Machines,
        costs: Costs | None = None,
        store: Store | None = None,
        hazards: Hazards | None = None,
        rules: Rules | None = None,
    ) -> None:
        self._corpus, self._machines = corpus, machines
        self._costs, self._store = costs or Costs(), store or Store()
        self._hazards, self._rules = hazards or Hazards(), rules or Rules()
        self._clock = Clock()
        self._cores = [Shared(self._clock, machines.rate) for _ in range(machines.count)]
        self._net = Shared(self._clock, self._net_rate)
        speed, *failing = np.random.SeedSequence(self._hazards.seed).spawn(1 + machines.count)
        slowness = self._slowness(np.random.default_rng(speed))
        self._failing = [np.random.default_rng(one) for one in failing]
        self._workers = [
            _Worker(machine, slowness[machine])
            for machine in range(machines.count)
            for _ in range(machines.workers)
        ]
        self._work = corpus.work.tolist()
        self._io = self._io_seconds().tolist()
        self._modules = corpus.modules.tolist()
        self._written = np.full(corpus.blocks, np.nan)
        self._writes = np.zeros(corpus.blocks, np.int64)
        self._left = corpus.blocks
        self._todo: list[int] = []
        self._pieces: deque[_Piece] = deque()
        self._driver_free = 0.0
        self._epoch = 0
        self._busy = self._lost = self._end = 0.0
        self._failures = self._reruns = self._misses = 0

    def run(self) -> Outcome:
        """To the end."""
        if not self._corpus.blocks:
            raise ValueError("a corpus without blocks is done before it begins")
        looked = float(self._corpus.bytes_in.sum()) / self._costs.plan_rate
        self._clock.after(self._costs.driver + looked, self._begin, self._epoch)
        if self._hazards.failures:
            for machine in range(self._machines.count):
                self._wait_for_failure(machine)
        self._clock.run()
        return Outcome(
            self._end,
            self._written,
            self._writes,
            self._busy,
            self._lost,
            self._end * self._machines.count,
            self._failures,
            self._reruns,
            self._misses,
            self._clock.events,
        )

    # The driver.

    def _begin(self, epoch: int) -> None:
        """Share out what is missing, and have one worker load the model."""
        if epoch != self._epoch:
            return
        self._todo = np.flatnonzero(self._writes == 0).tolist()
        count = min(len(self._todo), self._rules.pieces)
        size, more = divmod(len(self._todo), count)
        edges = [number * size + min(number, more) for number in range(count + 1)]
        self._pieces = deque(_Piece(range(*ends)) for ends in pairwise(edges))
        self._driver_free = self._clock.now
        self._clock.after(self._costs.probe, self._pool, epoch)

    def _pool(self, epoch: int) -> None:
        if epoch == self._epoch:
            self._clock.after(self._costs.pool, self._start_all, epoch)

    def _start_all(self, epoch: int) -> None:
        if epoch == self._epoch:
            # No more actors than there are pieces.
            for worker in self._workers[: len(self._pieces)]:
                worker.is_wanted = True
                self._start(worker)

    def _ask(self, worker: _Worker) -> None:
        """Have the driver hand a piece to a worker, if it may have another."""
        if not worker.is_asking and len(worker.queue) < self._rules.in_flight:
            worker.is_asking = True
            self._driver_free = max(self._driver_free, self._clock.now) + self._costs.dispatch
            self._clock.after(self._driver_free - self._clock.now, self._hand, worker, worker.life)

    def _hand(self, worker: _Worker, life: int) -> None:
        if life != worker.life:
            return
        worker.is_asking = False
        if not self._pieces:
            return
        worker.queue.append(self._pieces.popleft())
        self._ask(worker)
        if len(worker.queue) == 1:
            worker.at = 0
            self._next(worker, life)

    def _give_again(self) -> None:
        """The command has ended with something missing: somebody gives it once more."""
        self._reruns += 1
        if self._reruns > _GIVEN_UP:
            raise ArithmeticError("machines fail so often that the run never ends")
        self._epoch += 1
        for worker in self._workers:
            self._stop(worker)
            worker.queue.clear()
            worker.is_wanted, worker.restarts = False, 0
        self._clock.after(self._hazards.restart + self._costs.driver, self._begin, self._epoch)

    # A worker.

    def _start(self, worker: _Worker) -> None:
        """Load the model over the network, then compute what there is to compute."""
        life = worker.life
        worker.job = self._net.add(self._costs.model, self._loaded, worker, life)

    def _loaded(self, worker: _Worker, life: int) -> None:
        worker.job = self._compute(worker, self._costs.start, self._ready, life)

    def _compute(self, worker: _Worker, work: float, then, *args) -> Job:
        return self._cores[worker.machine].add(work * worker.slowness, then, worker, *args)

    def _ready(self, worker: _Worker, life: int) -> None:
        worker.job = None
        if worker.queue:  # those it had when it died
            worker.at = 0
            self._next(worker, life)
        self._ask(worker)

    def _next(self, worker: _Worker, life: int) -> None:
        """Begin the next block of the piece, or the next piece."""
        if life != worker.life:
            return
        while worker.queue:
            piece = worker.queue[0]
            while worker.at < len(piece.blocks):
                block = self._todo[piece.blocks[worker.at]]
                if not self._writes[block]:
                    self._begin_block(worker, block, life)
                    return
                worker.at += 1  # its file is there; one request says so, in no time that counts
            worker.queue.popleft()
            worker.at = 0
            self._ask(worker)

    def _begin_block(self, worker: _Worker, block: int, life: int) -> None:
        worker.began = self._clock.now
        wait = self._io[block] + self._costs.block + self._fetched(worker, self._modules[block])
        if wait:
            self._clock.after(wait, self._translate, worker, block, life)
        else:
            self._translate(worker, block, life)

    def _translate(self, worker: _Worker, block: int, life: int) -> None:
        if life == worker.life:
            worker.job = self._compute(worker, self._work[block], self._write, block, life)

    def _write(self, worker: _Worker, block: int, life: int) -> None:
        self._busy += self._clock.now - worker.began
        worker.began, worker.job = -1.0, None
        self._writes[block] += 1
        self._written[block] = self._clock.now
        self._left -= 1
        if not self._left:
            self._end = self._clock.now + self._costs.end
            self._clock.stop()
            return
        worker.at += 1
        self._next(worker, life)

    def _fetched(self, worker: _Worker, needed: int) -> float:
        """Seconds for the modules that a block needs and the worker lacks; the least recently used leave."""
        seconds, number = 0.0, 0
        while needed >> number:
            if needed >> number & 1:
                if number in worker.modules:
                    worker.modules.remove(number)
                else:
                    self._misses += 1
                    seconds += self._costs.module / self._store.disk
                worker.modules.append(number)
                del worker.modules[: -self._costs.resident]
            number += 1
        return seconds

    # What goes wrong.

    def _wait_for_failure(self, machine: int) -> None:
        wait = float(self._failing[machine].exponential(3600 / self._hazards.failures))
        self._clock.after(wait, self._fail, machine)

    def _fail(self, machine: int) -> None:
        self._failures += 1
        first = machine * self._machines.workers
        ended = False
        for worker in self._workers[first : first + self._machines.workers]:
            if not worker.is_wanted:
                continue
            self._stop(worker)
            for piece in worker.queue:
                piece.tries += 1
                ended |= piece.tries > self._rules.tries
            worker.restarts += 1
            ended |= worker.restarts > self._rules.restarts
            self._clock.after(self._hazards.replacement, self._start_again, worker, worker.life)
        self._clock.after(self._hazards.replacement, self._wait_for_failure, machine)
        if ended:
            self._give_again()

    def _start_again(self, worker: _Worker, life: int) -> None:
        if life == worker.life:
            self._start(worker)

    def _stop(self, worker: _Worker) -> None:
        """What it had under way is lost."""
        if worker.began >= 0:
            self._busy += self._clock.now - worker.began
            self._lost += self._clock.now - worker.began
        if worker.job is not None:
            worker.job.shared.cancel(worker.job)
        worker.life += 1
        worker.is_asking, worker.job, worker.began, worker.at = False, None, -1.0, 0
        worker.modules.clear()

    # Speeds.

    def _slowness(self, random: np.random.Generator) -> list[float]:
        """By machine: how many times longer than the reference it takes."""
        hazards, count = self._hazards, self._machines.count
        speeds = random.lognormal(0.0, hazards.spread, count)
        # Together as fast as so many references: luck must not pass for an effect of their number.
        found = speeds.mean() / speeds
        slow = random.permutation(count)[: round(hazards.slow * count)]
        found[slow] *= hazards.slowdown
        return found.tolist()

    def _net_rate(self, loading: int) -> float:
        """Bytes a second for each of so many workers that load the model."""
        return min(
            self._store.bandwidth / loading, self._store.link / min(self._machines.workers, loading), 1e18
        )

    def _io_seconds(self) -> np.ndarray:
        """What each block waits for the store; its bytes with an equal part of what all workers have."""
        share = min(self._store.bandwidth / self._machines.total, self._store.link / self._machines.workers)
        bytes_ = self._corpus.bytes_in + self._corpus.bytes_out
        return self._costs.requests * self._store.latency + bytes_ / share


def simulate(corpus: Corpus, machines: Machines, **others) -> Outcome:
    """A run; `others` are those of `Simulation`."""
    return Simulation(corpus, machines, **others).run()
