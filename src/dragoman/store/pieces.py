"""Pieces of files, and how they are read: in whole pages, checked, tried again."""

import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dragoman.errors import CheckpointError

PAGE = 4096
"""Bytes: what files are read in, and what slabs begin at."""
AT_ONCE = 8 * 2**20
"""Bytes that are read in one go; between two of them a store can be closed."""
PAUSES = (0.0, 0.05, 0.5)
"""Seconds before each further attempt at a piece that can't be read."""


@dataclass(frozen=True)
class Extent:
    """Adjacent bytes of a file."""

    file: Path
    start: int
    stop: int


@dataclass(frozen=True)
class Piece:
    """What is read together."""

    name: str
    """For people."""
    extents: tuple[Extent, ...]
    check: Callable[[memoryview], str | None]
    """Given the slab's bytes, what is wrong with them, if anything."""
    make: Callable[[memoryview], Any]
    """What it is, in the memory of its slab."""

    @cached_property
    def bytes(self) -> int:
        """How large a slab has to be."""
        return sum(_pages(extent)[1] for extent in self.extents)


class Files:
    """Open files, by the way around the system's cache where that is wanted and possible."""

    def __init__(self, direct: bool) -> None:
        self.direct = direct and hasattr(os, "O_DIRECT")
        self._open: dict[tuple[Path, bool], int] = {}
        self._lock = threading.Lock()

    def read(self, piece: Piece, slab: memoryview, alive: Callable[[], bool] = lambda: True) -> None:
        """Fill a slab with a piece, and make sure that it is what was written.

        CheckpointError for what can't be read, is cut off or damaged, however often it is tried.
        alive: whether it is still wanted.
        """
        for pause in (*PAUSES, None):
            try:
                self._read(piece, slab, alive)
                problem = piece.check(slab) if alive() else None
            except OSError as cause:
                problem = cause.strerror or str(cause)
            if problem is None:
                return
            if pause is None:
                where = ", ".join(dict.fromkeys(str(extent.file) for extent in piece.extents))
                raise CheckpointError(
                    f"{piece.name} can't be had from {where}: {problem}. Check the disk, and convert the "
                    "model anew with dragoman convert"
                )
            time.sleep(pause)

    def close(self) -> None:
        """Nobody may be reading any more."""
        with self._lock:
            for descriptor in self._open.values():
                with suppress(OSError):
                    os.close(descriptor)
            self._open.clear()

    def forked(self) -> None:
        """In a forked child: who held the lock stayed with the parent."""
        self._lock = threading.Lock()

    def _read(self, piece: Piece, slab: memoryview, alive: Callable[[], bool]) -> None:
        at = 0
        for extent in piece.extents:
            first, size = _pages(extent)
            done, wanted = 0, extent.stop - first
            while done < wanted and alive():
                room = slab[at + done : at + min(size, done + AT_ONCE)]
                count = self._some(extent.file, room, first + done)
                if done + count < wanted:
                    count -= count % PAGE  # what comes next must begin at a page again
                if not count:
                    raise OSError(f"the file ends before byte {extent.stop}")
                done += count
            at += size

    def _some(self, path: Path, room: memoryview, at: int) -> int:
        if not hasattr(os, "preadv"):  # on Windows
            with open(path, "rb", buffering=0) as file:
                file.seek(at)
                return file.readinto(room) or 0
        if self.direct:
            # Not every file system can do it, and some only say so when they are read.
            try:
                return os.preadv(self._descriptor(path, True), [room], at)
            except OSError:
                self.direct = False
        return os.preadv(self._descriptor(path, False), [room], at)

    def _descriptor(self, path: Path, direct: bool) -> int:
        with self._lock:
            if (path, direct) not in self._open:
                self._open[path, direct] = os.open(path, os.O_RDONLY | (os.O_DIRECT if direct else 0))
            return self._open[path, direct]


def slab_places(extents: Iterable[Extent]) -> list[int]:
    """Where each extent begins in a slab: as far behind the begin of a page as in its file."""
    found, end = [], 0
    for extent in extents:
        found.append(end + extent.start % PAGE)
        end += _pages(extent)[1]
    return found


def _pages(extent: Extent) -> tuple[int, int]:
    """Where the first page of an extent begins, and the size of all of its pages."""
    first = extent.start // PAGE * PAGE
    return first, -(-(extent.stop - first) // PAGE) * PAGE
