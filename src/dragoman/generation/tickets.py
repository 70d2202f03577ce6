"""What an engine is asked to do, and what the asker holds meanwhile."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import Any

from dragoman.errors import Overloaded
from dragoman.generation.hypotheses import Hypothesis
from dragoman.generation.options import GenerationOptions
from dragoman.generation.terms import Terms
from dragoman.generation.worker import is_worker, refuse_waiting

OnTokens = Callable[[list[int]], None]


@dataclass(frozen=True)
class Job:
    """One sentence to generate for."""

    source: Sequence[int]
    """An encoder's input; empty for a model that has none."""
    options: GenerationOptions
    prompt: Sequence[int] = ()
    """The tokens that are continued: a decoder's first ones."""
    forced: int = 0
    """How many of the prompt's last tokens count as generated."""
    group: int | None = None
    """The language group, for a model with language modules."""
    terms: Terms | None = None
    """What beam search is to put into the result, if it can; without any effect on other searches."""

    @property
    def reads(self) -> Sequence[int]:
        """What takes time to read, and what a sample is seeded by."""
        return self.source or self.prompt

    @property
    def rows(self) -> int:
        """How many rows of a batch it takes."""
        return self.options.n_best if self.options.sample else self.options.beams


class Ticket(Future[list[Hypothesis]]):
    """The future hypotheses of a job, best first.

    `cancel()` works until there is a result; the job's place is free before the next step. Callbacks
    run in the engine's thread, which they must not keep: there `result()` raises RuntimeError
    instead of waiting.
    """

    def __init__(self, job: Job, number: int, on_tokens: OnTokens | None = None) -> None:
        super().__init__()
        self.job, self.number = job, number
        self.passed_over = 0
        """How often others were taken before it."""
        self._on_tokens = on_tokens
        self._sent = 0

    @property
    def listens(self) -> bool:
        """Whether someone wants to know tokens before the end."""
        return self._on_tokens is not None

    def result(self, timeout: float | None = None) -> list[Hypothesis]:
        """The hypotheses, or the job's error raised; TimeoutError after so many seconds."""
        if not self.done():
            refuse_waiting()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The job's error, None if it has a result; TimeoutError after so many seconds."""
        if not self.done():
            refuse_waiting()
        return super().exception(timeout)

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Have a function called with the ticket once it is done; what it raises is logged."""

        def call(ticket: Any) -> None:
            try:
                fn(ticket)
            except BaseException:
                if not is_worker():
                    raise  # somebody wants to stop the thread that cancels, or came too late
                logging.getLogger(__name__).exception("a done callback of a job failed")

        super().add_done_callback(call)

    def tell(self, certain: Sequence[int]) -> None:
        """Pass on what is new among the tokens that are certain now."""
        if self._on_tokens is not None and len(certain) > self._sent:
            new, self._sent = list(certain[self._sent :]), len(certain)
            self._on_tokens(new)

    def finish(self, ranked: list[Hypothesis]) -> None:
        """Give the result, after the last tokens."""
        try:
            if not self.cancelled():
                self.tell(ranked[0].tokens if ranked else ())
        except BaseException as error:  # such as asyncio's CancelledError: it is the listener's own
            self.fail(error)
            return
        with contextlib.suppress(InvalidStateError):  # cancelled at this very moment
            self.set_result(ranked)

    def fail(self, error: BaseException) -> None:
        """Give an error for a result."""
        with contextlib.suppress(InvalidStateError):
            self.set_exception(error)

    def forked(self) -> None:
        """In a forked child: a thread that held the lock is not here."""
        self._condition = threading.Condition()


class Places:
    """The tickets that aren't done, of which there may be only so many."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._taken: dict[int, Ticket] = {}
        # Reentrant: the garbage collector may cancel a ticket in a thread that is in here.
        self._changed = threading.Condition()

    def take(self, tickets: Sequence[Ticket], deadline: float | None) -> int:
        """Give places to as many of these as there are free ones, but at least one; returns how many.

        Waits for a place until `deadline`, a value of time.monotonic(), then raises Overloaded. An
        engine's own thread gets its places without waiting, as none would come free meanwhile.
        """
        if len(self._taken) >= self.most:
            self._tidy()
        with self._changed:
            while (free := self.most - len(self._taken)) <= 0 and not is_worker():
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise Overloaded(
                        f"{len(self._taken)} jobs are waiting or under way, and no more are taken; "
                        "try again later, or allow for more waiting time"
                    )
                self._changed.wait(left)
            count = len(tickets) if is_worker() else min(free, len(tickets))
            for ticket in tickets[:count]:
                self._taken[ticket.number] = ticket
            return count

    def leave(self, ticket: Ticket) -> None:
        """A ticket is done."""
        with self._changed:
            self._taken.pop(ticket.number, None)
            self._changed.notify_all()

    def open(self) -> list[Ticket]:
        """The tickets that aren't done."""
        with self._changed:
            taken = list(self._taken.values())
        # Without the lock: a ticket has one of its own.
        return [ticket for ticket in taken if not ticket.done()]

    def forked(self) -> list[Ticket]:
        """In a forked child: the parent's tickets, which are nobody's now."""
        self._changed = threading.Condition()
        left, self._taken = list(self._taken.values()), {}
        for ticket in left:
            ticket.forked()
        return left

    def _tidy(self) -> None:
        """Free the places of those whose thread was interrupted when it cancelled them."""
        with self._changed:
            taken = list(self._taken.values())
        for ticket in taken:
            if ticket.done():
                self.leave(ticket)
