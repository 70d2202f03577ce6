"""An engine whose jobs are done elsewhere: the same tickets, and somebody else's models."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any, Protocol, TypeVar

from dragoman.generation.engine import Engine, Job, OnTokens, Places, Ticket
from dragoman.generation.hypotheses import Hypothesis

T = TypeVar("T")


class Crew(Protocol):
    """Whoever does jobs elsewhere."""

    async def generate(self, job: Job, tell: OnTokens | None) -> list[Hypothesis]:
        """The hypotheses of a job, best first; cancelled, it has the work stopped. Raises the job's error.

        tell: is to be called with all tokens that are certain so far; None if nobody listens.
        """


class RemoteEngine(Engine):
    """What `Engine` is to those who submit; each job is a task of an event loop, which must not be closed
    before this."""

    def __init__(self, crew: Crew, loop: asyncio.AbstractEventLoop, most: int = 16384) -> None:
        """most: jobs that may be under way, before `submit` has to wait itself; in the
        event loop it raises Overloaded instead."""
        self._crew, self._loop = crew, loop
        self._places = Places(most)
        self._numbers = count(1)
        self._tasks: dict[Ticket, asyncio.Task[None]] = {}
        self._is_closed = False

    def between_steps(self, change: Callable[[], T]) -> T:
        raise RuntimeError("the model is elsewhere, and nothing of it can be changed from here")

    @property
    def memory(self) -> int:
        """Bytes that decoding takes here."""
        return 0

    @memory.setter
    def memory(self, count: int) -> None:
        raise RuntimeError("the model is elsewhere, and so is the memory that it works in")

    @property
    def turns(self) -> int:
        """None: whoever has the model watches over it."""
        return 0

    def close(self) -> None:
        self._is_closed = True
        for ticket in self._places.open():
            ticket.cancel()

    # Inside

    def _ticket(self, job: Job, on_tokens: OnTokens | None = None) -> Ticket:
        ticket = Ticket(job, next(self._numbers), on_tokens)
        ticket.add_done_callback(self._leave)
        return ticket

    def _submit(self, tickets: list[Ticket], timeout: float | None) -> list[Ticket]:
        # Who waits in the event loop for a place keeps those from ending who have one.
        return super()._submit(tickets, 0 if _running_loop() is self._loop else timeout)

    def _enter(self, tickets: Sequence[Ticket]) -> None:
        if self._is_closed:
            raise RuntimeError("the engine is closed")
        self._loop.call_soon_threadsafe(self._begin, tickets)

    def _leave(self, ticket: Any) -> None:
        """A ticket is done, in any thread: if it was cancelled, its task doesn't know yet."""
        self._places.leave(ticket)
        if ticket.cancelled():
            ticket.set_running_or_notify_cancel()
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._stop, ticket)

    # In the event loop

    def _begin(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            if not ticket.done():
                task = self._tasks[ticket] = self._loop.create_task(self._do(ticket))
                task.add_done_callback(partial(self._end, ticket))

    def _stop(self, ticket: Ticket) -> None:
        if task := self._tasks.get(ticket):
            task.cancel()

    def _end(self, ticket: Ticket, task: object) -> None:
        del self._tasks[ticket]
        ticket.cancel()  # unless it has a result: then the task was ended with its loop

    async def _do(self, ticket: Ticket) -> None:
        try:
            ticket.finish(await self._crew.generate(ticket.job, ticket.tell if ticket.listens else None))
        except Exception as error:
            ticket.fail(error)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs in this thread."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
