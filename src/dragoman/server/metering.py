"""How much each key has used: requests and characters of the last minute, characters of the month."""

import contextlib
import json
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from dragoman.files import replacing_file
from dragoman.server.faults import Fault
from dragoman.server.keys import Key

_SAVED_EVERY = 30.0
"""Seconds between two times that the month's characters are written down."""


@dataclass
class _Use:
    recent: deque[tuple[float, int]] = field(default_factory=deque)
    """When requests of the last minute came, and their characters."""
    characters: int = 0
    """Of those."""
    month: str = ""
    of_month: int = 0


class Meter:
    """Counts what keys use, and refuses what is more than they may. Any thread may use it.

    The month's counts are in a file, so that they outlive the process; what came in the last half minute
    before it was killed is lost.
    """

    def __init__(self, path: Path | None) -> None:
        """path: where the month's counts are kept; None keeps them in memory alone."""
        self._path = path
        self._lock = threading.RLock()
        self._uses: dict[str, _Use] = {}
        self._saved = time.monotonic()
        self._is_changed = False
        for name, (month, characters) in _read(path).items():
            self._uses[name] = _Use(month=month, of_month=characters)

    def used(self, key: Key | None) -> int:
        """The characters of this month."""
        return self._of(key.name).of_month if key else 0

    def take(self, key: Key | None, characters: int) -> None:
        """Count a request. Raises a Fault if the key may not have so much now (429) or this month (456)."""
        if key is not None:
            with self._lock:
                self._take(key, characters)

    def _take(self, key: Key, characters: int) -> None:
        use, now = self._of(key.name), time.monotonic()
        while use.recent and use.recent[0][0] <= now - 60:
            use.characters -= use.recent.popleft()[1]
        if key.characters_per_month is not None and use.of_month + characters > key.characters_per_month:
            limit = key.characters_per_month
            raise Fault(456, "quota_exceeded", f"the key's {limit:,} characters of this month are used up")
        wait = None
        if key.requests_per_minute is not None and len(use.recent) >= key.requests_per_minute:
            wait = use.recent[0][0] + 60 - now
        most = key.characters_per_minute
        if most is not None and use.recent and use.characters + characters > most:
            wait = max(wait or 0.0, use.recent[0][0] + 60 - now)
        if wait is not None:
            raise Fault(429, "rate_limited", "the key may not have more in a minute", None, wait)
        use.recent.append((now, characters))
        use.characters += characters
        use.of_month += characters
        self._is_changed = True
        if now - self._saved > _SAVED_EVERY:
            self.save()

    def give_back(self, key: Key | None, characters: int) -> None:
        """Count a request no more that was refused for another reason."""
        if key is not None:
            with self._lock:
                self._of(key.name).of_month -= characters

    def save(self) -> None:
        """Write the month's counts down; a disk that is full is no reason to refuse a translation."""
        self._saved = time.monotonic()
        if self._path is None or not self._is_changed:
            return
        with self._lock:
            data = {name: [use.month, use.of_month] for name, use in self._uses.items()}
        with contextlib.suppress(OSError):
            with replacing_file(self._path) as file:
                file.write(json.dumps(data).encode())
            self._is_changed = False

    def _of(self, name: str) -> _Use:
        use = self._uses.setdefault(name, _Use())
        month = time.strftime("%Y-%m", time.gmtime())
        if use.month != month:
            use.month, use.of_month = month, 0
        return use


def _read(path: Path | None) -> dict[str, tuple[str, int]]:
    """What was written down; a file that can't be read is as good as none."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        data = json.loads(path.read_text(encoding="utf-8")) if path else {}
        return {str(name): (str(month), int(count)) for name, (month, count) in data.items()}
    return {}
