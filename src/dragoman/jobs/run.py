"""The job that a process works on."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from dragoman.database import transaction
from dragoman.errors import JobError
from dragoman.jobs.database import told
from dragoman.jobs.records import CANCELLED, DONE, FAILED, INTERRUPTED, RUNNING, UNFINISHED, JobFile
from dragoman.systems import Request
from dragoman.translation.recall import packed, request_key, unpacked
from dragoman.translation.results import Candidate

_LOOKS = 0.5
"""Seconds between looks at whether a job is cancelled, and between notes of how far it is."""


class Run:
    """A process's work on a job: the `Recall` of its sentences, and its files; a context manager.

    However the block ends, the job says so. Where nothing can be kept (the disk is full), the work goes on.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        id: int,
        held: BinaryIO,
        is_resumed: bool,
        note: Callable[[str], None],
    ) -> None:
        self._connection, self._held, self._note = connection, held, note
        self.id, self.is_resumed = id, is_resumed
        self.reused = 0
        """Sentences that were known already."""
        self.known: int = self._value("SELECT count(*) FROM results WHERE job = ?")
        """Sentences that an earlier process had done."""
        self._seconds: float = self._value("SELECT seconds FROM jobs WHERE id = ?")
        self._began = self._looked = time.monotonic()
        self._done = self.known
        self._share = 0.0
        self._is_broken = False

    # Sentences

    def get(self, request: Request) -> tuple[Candidate, ...] | None:
        with told():
            row = self._connection.execute(
                "SELECT value FROM results WHERE job = ? AND key = ?", (self.id, request_key(request))
            ).fetchone()
        if row is None:
            return None
        self.reused += 1
        return unpacked(row[0])

    def put(self, request: Request, candidates: tuple[Candidate, ...]) -> None:
        values = (self.id, request_key(request), packed(candidates))
        self._write("INSERT OR REPLACE INTO results VALUES (?, ?, ?)", values)
        self._done += 1
        self.look()

    def tell(self, share: float) -> None:
        """How much of the job is done, from 0 to 1."""
        self._share = share
        self.look()

    def look(self) -> None:
        """Note how far the job is, now and then. Raises JobError if it was cancelled."""
        now = time.monotonic()
        if now - self._looked < _LOOKS or self._is_broken:
            return
        self._looked = now
        self._write_down()
        if self._value("SELECT cancel FROM jobs WHERE id = ?"):
            raise _Cancelled(f"job {self.id} was cancelled")

    # Files

    def file(self, number: int) -> JobFile:
        """What is known of a file."""
        with told():
            return next(file for file in job_files(self._connection, self.id) if file.number == number)

    def open_file(self, number: int, digest: str, part: Path | None = None) -> None:
        """A file is being translated. digest: of what it holds; part: where the output is being written."""
        self._write(
            "UPDATE files SET digest = ?, part = ?, state = ?, error = NULL WHERE job = ? AND number = ?",
            (digest, None if part is None else os.fsencode(part), RUNNING, self.id, number),
        )

    def close_file(self, number: int, segments: int, flagged: int, error: str | None = None) -> None:
        """A file is done, or can't be for a reason."""
        self._write(
            "UPDATE files SET state = ?, segments = ?, flagged = ?, error = ?, part = NULL "
            "WHERE job = ? AND number = ?",
            (FAILED if error else DONE, segments, flagged, error, self.id, number),
        )

    # Life

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            state, reason = self._state_of_files()
        elif isinstance(error, _Cancelled):
            state, reason = CANCELLED, None
        elif isinstance(error, Exception):
            state, reason = FAILED, str(error)[:500]
        else:  # Ctrl-C, SIGTERM
            state, reason = INTERRUPTED, None
        with self._held:
            self._write_down()
            try:
                with transaction(self._connection):
                    end(self._connection, self.id, state, reason)
            except sqlite3.Error as trouble:
                self._broke(trouble)
        if error is not None and not isinstance(error, _Cancelled) and not self._is_broken:
            kept = "1 sentence is" if self._done == 1 else f"{self._done:,} sentences are"
            error.add_note(
                f"{kept} kept; go on with the same command, or with: dragoman jobs resume {self.id}"
            )

    # Inside

    def _value(self, query: str) -> Any:
        with told():
            return self._connection.execute(query, (self.id,)).fetchone()[0]

    def _state_of_files(self) -> tuple[str, str | None]:
        """How a job ends whose files have all had their turn: one that has failed may yet be mended."""
        failed: int = self._value("SELECT count(*) FROM files WHERE job = ? AND state = 'failed'")
        if not failed:
            return DONE, None
        return (
            FAILED,
            f"{failed} files could not be translated" if failed > 1 else "a file could not be translated",
        )

    def _write_down(self) -> None:
        seconds = self._seconds + time.monotonic() - self._began
        self._write(
            "UPDATE jobs SET changed = ?, seconds = ?, done = ?, share = ? WHERE id = ?",
            (time.time(), seconds, self._done, self._share, self.id),
        )

    def _write(self, statement: str, values: tuple[Any, ...]) -> None:
        if not self._is_broken:
            try:
                self._connection.execute(statement, values)
            except sqlite3.Error as error:
                self._broke(error)

    def _broke(self, error: sqlite3.Error) -> None:
        """Say once that nothing can be kept."""
        if not self._is_broken:
            self._note(
                f"note: job {self.id} can't keep what is done ({error}); the work goes on, but couldn't be "
                "taken up again"
            )
        self._is_broken = True


class _Cancelled(JobError):
    """Somebody wants the job to end."""


def end(connection: sqlite3.Connection, id: int, state: str, error: str | None = None) -> None:
    """Give a job its last state for now; what it had translated is forgotten if it can't go on."""
    connection.execute(
        "UPDATE jobs SET state = ?, changed = ?, error = ?, cancel = 0 WHERE id = ?",
        (state, time.time(), error, id),
    )
    if state not in UNFINISHED:
        connection.execute("DELETE FROM results WHERE job = ?", (id,))


def job_files(connection: sqlite3.Connection, id: int) -> Iterator[JobFile]:
    """The files of a job, in their order."""
    rows = connection.execute(
        "SELECT number, input, output, state, digest, part, segments, flagged, error FROM files "
        "WHERE job = ? ORDER BY number",
        (id,),
    )
    for number, source, output, state, digest, part, *rest in rows:
        paths = Path(os.fsdecode(source)), Path(os.fsdecode(output))
        yield JobFile(number, *paths, state, digest, part and Path(os.fsdecode(part)), *rest)


def digest(path: str | os.PathLike[str]) -> str:
    """XXH3 of a file's content, as hexadecimal digits. Raises OSError."""
    from xxhash import xxh3_128

    state = xxh3_128()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            state.update(chunk)
    return state.hexdigest()


def digest_of(data: bytes) -> str:
    """`digest` of a file that holds these bytes."""
    from xxhash import xxh3_128_hexdigest

    return xxh3_128_hexdigest(data)
