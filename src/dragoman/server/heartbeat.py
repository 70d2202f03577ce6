"""What a worker tells the process above it: that it is ready, that it lives, and what went wrong."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal, Protocol

INTERVAL = 0.5
"""Seconds between two signs of life."""


@dataclass(frozen=True)
class Sign:
    """Something that a worker tells."""

    kind: Literal["ready", "alive", "stalled", "failed", "ended"]
    """ready: it answers from now on; alive: its event loop turns; stalled: an engine doesn't; failed: it
    can't begin; ended: it has answered all it had to."""
    error: Exception | None = None
    """Why it failed."""


class Turning(Protocol):
    """An engine, as far as one can see whether it gets on."""

    @property
    def busy(self) -> bool:
        """Whether it has something to do."""

    @property
    def turns(self) -> int:
        """How often it has done a part of it."""


class Stalls:
    """Notices when an engine has work, and makes no step of it."""

    def __init__(self, seconds: float, interval: float = INTERVAL) -> None:
        """seconds: that a step may take; interval: those between two looks."""
        self._seconds, self._interval = seconds, interval
        self._seen: dict[int, tuple[int, float]] = {}
        """By engine: its turns, and the seconds for which they have been so many."""
        self._looked = time.monotonic()

    def any(self, engines: Iterable[Turning]) -> bool:
        """Whether one of them stands still; to be asked again and again."""
        now, before, self._seen = time.monotonic(), self._seen, {}
        # While this process was stopped or starved, no engine could make a step.
        passed, self._looked = min(now - self._looked, 2 * self._interval), now
        for engine in engines:
            if engine.busy:
                turns, rested = before.get(id(engine), (-1, 0.0))
                is_same = turns == engine.turns
                self._seen[id(engine)] = (engine.turns, rested + passed if is_same else 0.0)
        return any(rested > self._seconds for _, rested in self._seen.values())


class Beats:
    """A worker's end of the pipe."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)  # a reader that rests is no reason to wait
        self._pipe: Connection[Any, Any] = Connection(descriptor, readable=False)

    def tell(self, sign: Sign) -> None:
        """Say something. BrokenPipeError if nobody is there any more."""
        with contextlib.suppress(BlockingIOError):
            self._pipe.send(sign)

    async def go_on(self, engines: Callable[[], Iterable[Turning]], stall_seconds: float) -> None:
        """Give signs of life for as long as the event loop turns. Without a reader the server is told to
        stop: nobody would end it otherwise."""
        import asyncio  # the supervisor has no need of it, and begins the sooner

        stalls = Stalls(stall_seconds)
        try:
            self.tell(Sign("ready"))
            while True:
                await asyncio.sleep(INTERVAL)
                self.tell(Sign("stalled" if stalls.any(engines()) else "alive"))
        except BrokenPipeError:
            signal.raise_signal(signal.SIGTERM)
