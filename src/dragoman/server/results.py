"""Translated files that wait to be fetched: each under a name that can't be guessed, for a while."""

import re
import secrets
import shutil
import tempfile
import threading
import time
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from dragoman.server.faults import Fault

LARGEST = 2 << 30
"""Bytes that all of them may take; the oldest make room."""


@dataclass(frozen=True)
class Waiting:
    """A file that waits."""

    path: Path
    name: str
    """What it is called for whoever fetches it."""
    until: float
    size: int


class Results:
    """Files in a folder of their own, which goes with the server. Any thread may use it."""

    def __init__(self, minutes: float) -> None:
        self._seconds = 60 * minutes
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._waiting: dict[str, Waiting] = {}

    def add(self, data: bytes, name: str) -> str:
        """Keep a file; returns what it is asked for by."""
        token = secrets.token_urlsafe(24)
        with self._lock:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="dragoman-results-"))
            self._forget(len(data))
            path = self._folder / token
            path.write_bytes(data)
            self._waiting[token] = Waiting(path, name, time.monotonic() + self._seconds, len(data))
        return token

    def find(self, token: str) -> Waiting:
        """The file of a token. Raises a Fault if there is none, or none any more."""
        with self._lock:
            self._forget(0)
            found = self._waiting.get(token)
        if found is None:
            raise Fault(404, "not_found", "there is no such file, or not any more")
        return found

    def remove(self, token: str) -> None:
        """Forget a file."""
        with self._lock:
            if found := self._waiting.pop(token, None):
                found.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Forget all."""
        with self._lock:
            self._waiting.clear()
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder = None

    def _forget(self, room: int) -> None:
        """Forget what has waited too long, and as much of the oldest as has to make room."""
        now, total = time.monotonic(), room + sum(each.size for each in self._waiting.values())
        for token, each in list(self._waiting.items()):
            if each.until <= now or total > LARGEST:
                total -= each.size
                each.path.unlink(missing_ok=True)
                del self._waiting[token]


def safe_name(name: str) -> str:
    """A file's name without folders, and without what could be anything else than a name."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    stem, dot, extension = re.sub(r"[^\w .()+-]", "_", last).strip(" .").rpartition(".")
    if not dot:
        return extension[:80] or "file"
    return f"{stem[:80] or 'file'}.{extension[:12]}"
