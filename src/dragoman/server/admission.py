"""Who is served next: a fair queue over keys, bounded in requests, characters and time.

All of it happens in the event loop's thread.
"""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from dragoman.server.faults import Fault


@dataclass(frozen=True)
class Bounds:
    """How much may be under way, and how much may wait."""

    active: int
    """Requests that are worked on at a time."""
    waiting: int
    """Requests that may wait."""
    waiting_per_owner: int
    characters_per_owner: int
    """Characters that may wait of one owner; a single request may have more."""
    seconds: float | None
    """How long a request may wait; None is without end."""


@dataclass(eq=False)
class _Waiting:
    owner: str
    characters: int
    turn: "asyncio.Future[None]"


class Place:
    """A request's place among those that are worked on; whoever holds it gives it back once."""

    def __init__(self, admission: "Admission", owner: str) -> None:
        self._admission: Admission | None = admission
        self._owner = owner

    def leave(self) -> None:
        """Let the next one in."""
        admission, self._admission = self._admission, None
        if admission is not None:
            admission._left(self._owner)


class Admission:
    """Lets so many requests work at a time; the others wait, or are refused at once."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._working: Counter[str] = Counter()
        self._queues: dict[str, deque[_Waiting]] = {}
        """Who waits, by owner; the owner served last is the last."""
        self._characters: Counter[str] = Counter()

    @property
    def working(self) -> int:
        """Requests that are worked on."""
        return self._working.total()

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return sum(map(len, self._queues.values()))

    async def enter(self, owner: str, characters: int, is_accepted: bool = False) -> Place:
        """Wait for a place. Raises a Fault (429, 503) at once if too many wait, or once it takes too long.

        is_accepted: whether it may wait was asked before (`refuse`).
        """
        if self.working < self.bounds.active and not self.waiting:
            self._working[owner] += 1
            return Place(self, owner)
        if not is_accepted:
            self.refuse(owner, characters)
        entry = _Waiting(owner, characters, asyncio.get_running_loop().create_future())
        self._queues.setdefault(owner, deque()).append(entry)
        self._characters[owner] += characters
        try:
            async with asyncio.timeout(self.bounds.seconds):
                await entry.turn
        except BaseException as error:
            if entry.turn.cancelled():
                self._forget(entry)
            else:  # its turn has come at this very moment
                self._left(owner)
            if isinstance(error, TimeoutError):
                said = "the request waited too long; try again later"
                raise Fault(503, "overloaded", said, None, 10) from None
            raise
        return Place(self, owner)

    @contextlib.asynccontextmanager
    async def place(self, owner: str, characters: int) -> AsyncIterator[None]:
        """Hold a place for as long as the block takes."""
        place = await self.enter(owner, characters)
        try:
            yield
        finally:
            place.leave()

    def refuse(self, owner: str, characters: int) -> None:
        """Raise a Fault if one more request may not wait."""
        bounds = self.bounds
        own = self._queues.get(owner, ())
        if len(own) >= bounds.waiting_per_owner:
            raise Fault(429, "rate_limited", f"{len(own)} of your requests wait already", None, 5)
        if own and self._characters[owner] + characters > bounds.characters_per_owner:
            raise Fault(429, "rate_limited", "too much of yours waits already", None, 5)
        if self.waiting >= bounds.waiting:
            raise Fault(503, "overloaded", "too many requests wait already; try again later", None, 5)

    def _left(self, owner: str) -> None:
        self._working[owner] -= 1
        if not self._working[owner]:
            del self._working[owner]
        while self._queues and self.working < self.bounds.active:
            # Who has least under way comes first, then whose last turn is longest ago.
            following = min(self._queues, key=lambda each: self._working[each])
            entry = self._queues[following][0]
            self._forget(entry, is_served=True)
            self._working[following] += 1
            entry.turn.set_result(None)

    def _forget(self, entry: _Waiting, is_served: bool = False) -> None:
        queue = self._queues[entry.owner]
        queue.remove(entry)
        self._characters[entry.owner] -= entry.characters
        if not queue:
            del self._queues[entry.owner], self._characters[entry.owner]
        elif is_served:
            self._queues[entry.owner] = self._queues.pop(entry.owner)
