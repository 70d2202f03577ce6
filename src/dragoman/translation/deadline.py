"""Waiting for events, but not for ever."""

import time
from queue import Empty, SimpleQueue
from typing import TypeVar

from dragoman.errors import TranslationTimeout

Event = TypeVar("Event")


class Deadline:
    """A point in time, so many seconds from now; never, if that is None."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds

    @property
    def left(self) -> float | None:
        """Seconds until then."""
        return None if self._end is None else max(self._end - time.monotonic(), 0.0)

    def next_of(self, events: "SimpleQueue[Event]") -> Event:
        """The next event, as soon as there is one. Raises TranslationTimeout from the deadline on."""
        self.check()
        try:
            return events.get(timeout=self.left)
        except Empty:
            raise self._over() from None

    def check(self) -> None:
        """Raise TranslationTimeout from the deadline on."""
        if self.left == 0:
            raise self._over()

    def _over(self) -> TranslationTimeout:
        return TranslationTimeout(
            f"the translation takes longer than {self._seconds:g} seconds; "
            "give it more time (timeout), or less to translate"
        )
