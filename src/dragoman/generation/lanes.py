"""Who waits, who runs, and who may start next."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from dragoman.generation.batch import Batch
from dragoman.generation.jobs import Job, Ticket

PREFILL_TOKENS = 8192  # read together at most, padding included
WINDOW = 1024  # of the waiting, so many of the oldest are looked through for the longest
PATIENCE = 16  # times that longer sentences may be taken first


class Lane:
    """Jobs that can share a batch, as their options are the same: those that wait, and the batch."""

    def __init__(self) -> None:
        self.waiting: dict[int, Ticket] = {}
        """By number, oldest first."""
        self.batch: Batch | None = None
        self.admitted = 0
        """Which admission of the engine's was the last one here."""

    @property
    def running(self) -> list[Ticket]:
        return [] if self.batch is None else list(self.batch.tickets.values())

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
        self.source = max(self.source, len(job.source))
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

    The longest come first, so that what is read together is of like lengths. Unless some have
    `started` in this turn already, there must be room for a good number: reading for a few at a
    time would hold up those who run. One job that is too large for any room may run alone.
    """
    present = Load(model, lane.running)
    loads = [Load(model, other.running) for other in others]
    running = present.rows + sum(load.rows for load in loads)
    memory -= sum(load.bytes for load in loads)
    if running and not started and (4 * running > 3 * rows or 4 * present.bytes > 3 * memory):
        return []
    window = list(islice(lane.waiting.values(), WINDOW))
    window.sort(key=lambda ticket: (ticket.passed_over < PATIENCE, -len(ticket.job.source)))
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
