"""Who waits, who runs, and who may start next: all of it in one thread."""

import contextlib
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from dragoman.generation.batch import Batch, Ended, Reader
from dragoman.generation.options import GenerationOptions
from dragoman.generation.search import given
from dragoman.generation.tickets import Job, Places, Ticket

PREFILL_TOKENS = 8192  # read together at most, padding included
WINDOW = 1024  # of the waiting, so many of the oldest are looked through for the longest
PATIENCE = 16  # times that longer sentences may be taken first
SPACING = 2  # steps from one reading for newcomers to the next, unless they are a good number

Key = tuple[GenerationOptions, int, int, bool]
"""What jobs in one batch have in common."""


class Lane:
    """Jobs that can share a batch, as their options are the same: those that wait, and the batch."""

    def __init__(self) -> None:
        self.waiting: dict[int, Ticket] = {}
        """By number, oldest first."""
        self.batch: Batch | None = None
        self.admitted = 0
        """Which admission of the scheduler's was the last one here."""
        self.steps = 0
        """How many the batch has made since then."""

    @property
    def running(self) -> list[Ticket]:
        return [] if self.batch is None else list(self.batch.tickets.values())

    @property
    def gathers(self) -> bool:
        """Whether those that wait should wait for more.

        Reading for one takes all of the model's weights, as reading for many does. Who comes while nobody
        else does is read for at once; where they come step after step, some of them together.
        """
        return self.steps < SPACING and 4 * len(self.waiting) < len(self.running)

    def next(self) -> list[Ticket]:
        """Some of the waiting, in the order in which they are to start."""
        return sorted(islice(self.waiting.values(), WINDOW), key=_precedence)

    def rest(self) -> None:
        """Let the batch go if all have left it."""
        if self.batch is not None and not self.batch.tickets:
            self.batch = None

    def requeue(self, tickets: Iterable[Ticket]) -> None:
        """Let tickets wait again, before the others."""
        again = {ticket.number: ticket for ticket in tickets if not ticket.done()}
        self.waiting = {**again, **self.waiting}


class Load:
    """What a batch of some jobs takes; all its sentences have the room of the longest."""

    def __init__(self, model: Any, tickets: Iterable[Ticket] = ()) -> None:
        self._model = model
        self.sentences = self.rows = self.source = self._new = 0
        for ticket in tickets:
            self.add(ticket.job)

    def add(self, job: Job) -> None:
        self.sentences += 1
        self.rows += job.rows
        self.source = max(self.source, len(job.reads))
        self._new = max(self._new, job.options.max_new_tokens)

    @property
    def bytes(self) -> int:
        if not self.sentences:
            return 0
        beams = self.rows // self.sentences
        return self.sentences * int(self._model.state_bytes(self.source, self._new, beams))


def choose(
    model: Any, lane: Lane, others: Sequence[Lane], rows: float, memory: int, started: bool
) -> list[Ticket]:
    """Those in `lane` who are to be read together next, within so many rows and bytes in all lanes.

    The longest come first, so that what is read together is of like lengths; but whoever has been
    passed over PATIENCE times comes before them, in the order of arrival. Unless some have
    `started` in this turn already, there must be room for a good number: reading for a few at a
    time would hold up those who run. One job that is too large for any room may run alone.
    """
    present = Load(model, lane.running)
    loads = [Load(model, other.running) for other in others]
    running = present.rows + sum(load.rows for load in loads)
    memory -= sum(load.bytes for load in loads)
    if running and not started and (4 * running > 3 * rows or 4 * present.bytes > 3 * memory):
        return []
    window = lane.next()
    chosen: list[Ticket] = []
    reading = Load(model)
    for ticket in window:
        present.add(ticket.job)
        reading.add(ticket.job)
        running += ticket.job.rows
        fits = running <= rows and present.bytes <= memory
        if chosen:
            fits = fits and reading.source * reading.sentences <= PREFILL_TOKENS
        if not fits and running > ticket.job.rows:
            break
        chosen.append(ticket)
    if chosen:
        for ticket in window[len(chosen) :]:
            ticket.passed_over += 1
    return chosen


def _precedence(ticket: Ticket) -> tuple[int, int]:
    if ticket.passed_over >= PATIENCE:
        return (0, ticket.number)
    return (1, -len(ticket.job.reads))


class Scheduler:
    """Decodes what waits, a step of a batch at a time. No thread but an engine's own comes here."""

    def __init__(self, reader: Reader, places: Places, rows: int, memory: int) -> None:
        """rows: the most that are decoded together; memory: bytes for their keys and values."""
        self.rows, self.memory = rows, memory
        self._reader, self._places = reader, places
        self._ceiling = float(rows)  # lower for a while after memory ran out
        self._lanes: dict[Key, Lane] = {}
        self._admissions = 0

    def add(self, tickets: Sequence[Ticket]) -> None:
        """Put jobs behind those that wait."""
        for ticket in tickets:
            if ticket.done():
                continue
            job = ticket.job
            if job.options.max_new_tokens <= job.forced:
                ticket.finish([given(job.prompt, job.forced, job.options.max_new_tokens)])
                continue
            # Behind an encoder prompts of different lengths can't share a batch.
            prompt = len(job.prompt) if job.source else 0
            key = (replace(job.options, max_new_tokens=1), job.forced, prompt, job.group is None)
            self._lanes.setdefault(key, Lane()).waiting[ticket.number] = ticket

    def drop(self, tickets: Sequence[Ticket]) -> None:
        """Let tickets go that are done before their time: somebody has cancelled them."""
        for lane in self._lanes.values():
            for ticket in tickets:
                lane.waiting.pop(ticket.number, None)
            with self._guarded(lane, lane.running):
                if lane.batch is not None:
                    lane.batch.drop(tickets)
                    lane.rest()

    def turn(self) -> bool:
        """Admit those who wait, make a step, let go who is done. False if none is left."""
        self._admit()
        for key in [key for key, lane in self._lanes.items() if not (lane.waiting or lane.batch)]:
            del self._lanes[key]
        running = [key for key, lane in self._lanes.items() if lane.batch]
        if running:
            # The first goes behind the others, whose turns come before its next.
            lane = self._lanes[running[0]] = self._lanes.pop(running[0])
            self._step(lane)
        return bool(self._lanes)

    def crash(self, error: BaseException) -> None:
        """Something is wrong with the scheduler itself: all get the error, and it begins anew."""
        self._lanes, self._ceiling = {}, float(self.rows)
        for ticket in self._places.open():
            ticket.fail(error)

    def forked(self) -> None:
        """In a forked child: the jobs are the parent's, and so are the locks."""
        self._lanes, self._ceiling = {}, float(self.rows)
        for ticket in self._places.forked():
            ticket.fail(RuntimeError("this job is the parent process's; submit it again in this one"))

    def _admit(self) -> None:
        """Start as many of the waiting as there is room for, if it is worth while."""
        started = False
        lanes = list(self._lanes.values())
        ready = [lane for lane in lanes if not lane.gathers]
        while True:
            # Who has least comes first, then whose last turn is longest ago.
            lane = min(
                (lane for lane in ready if lane.waiting),
                key=lambda lane: (len(lane.running), lane.admitted),
                default=None,
            )
            if lane is None:
                return
            others = [other for other in lanes if other is not lane]
            chosen = choose(self._reader.model, lane, others, self._ceiling, self.memory, started)
            if not chosen:
                return
            for ticket in chosen:
                del lane.waiting[ticket.number]
            self._admissions += 1
            lane.admitted, lane.steps = self._admissions, 0
            started = True
            self._start(lane, chosen)

    def _start(self, lane: Lane, tickets: list[Ticket]) -> None:
        """Read for newcomers, make their first step, and put them with those who run."""
        try:
            self._reader.read_ahead(tickets, lane.next)
            batch = self._reader.read(tickets)
            ended = batch.step()
        except BaseException as error:
            if len(tickets) == 1 or _lacks_memory(error):
                self._back_off(lane, tickets, error)
                return
        else:
            with self._guarded(lane, [*lane.running, *tickets]):
                self._deliver(batch, ended)
                if lane.batch is None:
                    lane.batch = batch
                elif batch.tickets:
                    lane.batch.join(batch)
                lane.rest()
            return
        # One of them is to blame; the others need not suffer.
        half = len(tickets) // 2
        self._start(lane, tickets[:half])
        self._start(lane, tickets[half:])

    def _step(self, lane: Lane) -> None:
        with self._guarded(lane, lane.running):
            assert lane.batch is not None
            lane.steps += 1
            self._deliver(lane.batch, lane.batch.step())
            lane.rest()

    def _deliver(self, batch: Batch, ended: Ended) -> None:
        """Hand out what has ended, and tell listeners what is certain."""
        for ticket, ranked in ended:
            self._ceiling = min(self.rows, self._ceiling + ticket.job.rows / 16)
            ticket.finish(ranked)
        deaf = batch.tell()
        for ticket, error in deaf:
            ticket.fail(error)
        batch.drop([ticket for ticket, _ in deaf])

    @contextlib.contextmanager
    def _guarded(self, lane: Lane, tickets: list[Ticket]) -> Iterator[None]:
        """Should the lane's batch come to harm, `tickets` have to begin again."""
        try:
            yield
        except BaseException as error:
            lane.batch = None
            self._back_off(lane, tickets, error)

    def _back_off(self, lane: Lane, tickets: list[Ticket], error: BaseException) -> None:
        """Let tickets whose batch failed wait again, to run with fewer beside them.

        If one fails alone, the error is its own.
        """
        tickets = [ticket for ticket in tickets if not ticket.done()]
        memory = _lacks_memory(error)
        others = sum(ticket.job.rows for each in self._lanes.values() for ticket in each.running)
        if memory:
            # The frames hold what the pass that failed has computed.
            traceback.clear_frames(error.__traceback__)
        if len(tickets) == 1 and not (memory and others):
            tickets[0].fail(error)
            if not memory:
                self._ceiling = self.rows  # who was to blame is gone
        elif tickets:
            lane.requeue(tickets)
            half = sum(ticket.job.rows for ticket in tickets) // 2 if len(tickets) > 1 else 0
            self._ceiling = max(tickets[0].job.rows, others + half)


def _lacks_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    # What an accelerator's libraries raise is an error of their own, with one of these.
    signs = ("out of memory", "allocate memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in signs)
