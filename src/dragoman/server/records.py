"""What is known of a file that a client has brought: its record, and how far the work on it is."""

import asyncio
import math
import time
from dataclasses import dataclass
from typing import Literal

Status = Literal["queued", "translating", "done", "downloaded", "error", "cancelled"]


@dataclass
class Upload:
    """A file on its way, as its record has it."""

    id: str
    digest: str
    """SHA-256 of the key with which it is asked for."""
    owner: str
    name: str
    source: str | None
    target: str
    model: str | None
    glossaries: tuple[str, ...]
    """Ids of the owner's."""
    keeper: str
    """Whose they are."""
    size: int
    began: float
    """Seconds since 1970."""
    status: Status = "queued"
    ended: float | None = None
    result: str = ""
    """What the translated file is called."""
    spoken: str | None = None
    """The language that it was in."""
    characters: int = 0
    segments: int = 0
    flagged: int = 0
    error: str = ""
    error_status: int = 500
    """Of HTTP."""
    is_counted: bool = False
    """Whether its characters are counted for its key."""
    attempts: int = 0
    """How often work on it began of which no process has seen the end."""

    @property
    def is_over(self) -> bool:
        return self.status in ("done", "downloaded", "error", "cancelled")


@dataclass
class Progress:
    """How far the work on a file is."""

    task: "asyncio.Task[None] | None" = None
    is_removed: bool = False
    """Whether nobody goes on with it: what its thread holds, it drops itself."""
    began: float = 0.0
    share: float = 0.0
    goes: float = math.inf
    """When it is forgotten, by the clock that never jumps."""

    @property
    def seconds_left(self) -> int | None:
        """A guess, from what is done."""
        if self.share < 0.02:
            return None
        spent = time.monotonic() - self.began
        return max(1, round(spent * (1 - self.share) / self.share))
