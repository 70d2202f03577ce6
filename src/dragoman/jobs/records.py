"""What is known of a job."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

RUNNING, INTERRUPTED, DONE, FAILED, CANCELLED = "running", "interrupted", "done", "failed", "cancelled"
UNFINISHED = (RUNNING, INTERRUPTED, FAILED)
"""States from which a job can go on."""


@dataclass(frozen=True)
class Plan:
    """What is to be done. A plan that is equal to that of an unfinished job goes on with it."""

    decisive: Mapping[str, Any]
    """All that decides the result, besides what the files hold: JSON."""
    files: Sequence[tuple[str, str]]
    """Input and output of each file, as absolute paths."""
    command: Sequence[str] = ()
    """The command line's arguments, with which the job can be taken up again."""
    folder: str = ""
    """Where the command was given."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that the command depends on."""
    model: str = ""
    source: str | None = None
    target: str = ""

    @property
    def key(self) -> str:
        """The same for equal plans."""
        told = json.dumps([self.decisive, list(self.files)], sort_keys=True)
        return sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:32]


@dataclass(frozen=True)
class JobFile:
    """One file of a job."""

    number: int
    """From 0 on, in the order of the plan."""
    input: Path
    output: Path
    state: str
    """RUNNING, DONE or FAILED; what is not begun is RUNNING too."""
    digest: str | None = None
    """XXH3 of what the input held when the job read it, as hexadecimal digits."""
    part: Path | None = None
    """Where the output is being written."""
    segments: int = 0
    flagged: int = 0
    """Segments that a reader should look at."""
    error: str | None = None


@dataclass(frozen=True)
class Job:
    """One job as it is now."""

    id: int
    state: str
    """RUNNING while a process works on it, INTERRUPTED, DONE, FAILED or CANCELLED."""
    began: float
    """Seconds since 1970."""
    changed: float
    seconds: float
    """How long processes have worked on it."""
    model: str
    source: str | None
    target: str
    command: tuple[str, ...]
    folder: str
    environment: dict[str, str]
    done: int
    """Sentences that are committed."""
    share: float
    """How much of it is done, from 0 to 1, as far as that is known."""
    error: str | None
    files: tuple[JobFile, ...] = ()

    @property
    def is_unfinished(self) -> bool:
        """Whether it can be taken up again."""
        return self.state in UNFINISHED
