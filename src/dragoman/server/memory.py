"""A translation memory over HTTP: what people have approved of is the answer, and nothing is added to it.

What clients send is theirs: unlike `dragoman translate --tm` a server keeps none of it.
"""

import logging
import threading
from pathlib import Path

from dragoman.errors import InvalidOption
from dragoman.generation.options import GenerationOptions
from dragoman.languages import Language
from dragoman.server import logs
from dragoman.systems import Request
from dragoman.translation.memory import TranslationMemory
from dragoman.translation.results import MEMORY, Candidate, Match

SUFFIXES = (".tmx", ".sqlite", ".db")


class SharedMemory:
    """A memory that any thread may ask; for translations a `TranslationMemory`, of which it is a part."""

    def __init__(self, path: Path) -> None:
        """Raises InvalidOption if there is none at this path."""
        if path.suffix.lower() not in SUFFIXES:
            raise InvalidOption(
                f"{path} is no translation memory by its name; it may be {', '.join(SUFFIXES)}"
            )
        if not path.is_file():
            raise InvalidOption(f"{path} is not there; make it with: dragoman memory import {path} FILE.tmx")
        try:
            self._memory = TranslationMemory(path)
        except OSError as error:
            raise InvalidOption(f"{path} can't be read: {error.strerror}") from None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        with self._lock:
            return len(self._memory)

    def find(self, text: str, source: Language, target: Language) -> str | None:
        """As `TranslationMemory.find`. A file that can't be read any more knows nothing: models do."""
        try:
            with self._lock:
                return self._memory.find(text, source, target)
        except InvalidOption as error:
            logs.event("the translation memory can't be read", logging.ERROR, error=logs.told(error))
            return None

    def similar(self, text: str, source: Language, target: Language) -> list[Match]:
        """None: only what is known exactly is an answer."""
        return []

    def recall(self, fingerprint: str, options: GenerationOptions, others: str = "") -> "_Reading":
        """What any model recalls, whatever its options."""
        return _Reading(self)

    def close(self) -> None:
        with self._lock:
            self._memory.close()


class _Reading:
    """A recall that learns nothing."""

    def __init__(self, memory: SharedMemory) -> None:
        self._memory = memory

    def get(self, request: Request) -> tuple[Candidate, ...] | None:
        known = self._memory.find(request.text, request.source, request.target)
        return None if known is None else (Candidate(known, 0.0, (), True, MEMORY),)

    def put(self, request: Request, candidates: tuple[Candidate, ...]) -> None:
        """Nothing is kept."""
