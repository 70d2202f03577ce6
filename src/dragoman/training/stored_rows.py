"""Rows of text on the disk: any of them is found at once, and memory holds only where each one is."""

import json
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from dragoman.errors import InvalidOption
from dragoman.files import replacing_file


class StoredRows(Sequence[Any]):
    """Tuples of texts, one to a line of a file, read when they are asked for."""

    def __init__(self, path: Path, ends: np.ndarray) -> None:
        """ends: where each line of the file ends, in bytes."""
        self.path, self._ends = path, ends
        self._bytes = np.memmap(path, np.uint8, "r") if len(ends) else np.empty(0, np.uint8)

    @classmethod
    def write(cls, rows: Iterable[Sequence[str]], path: Path) -> "StoredRows":
        """Put rows into a new file, one after the other; InvalidOption if it can't be written.

        A file of that name that is there already is replaced, not written over: whoever reads it goes on.
        """
        ends = array("q")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing_file(path) as file:
                for row in rows:
                    file.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass"))
                    ends.append(file.tell())
        except OSError as error:
            raise InvalidOption(f"texts can't be kept in {path}: {error.strerror}") from error
        return cls(path, np.frombuffer(ends, np.int64) if ends else np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> tuple[str, ...]: ...

    @overload
    def __getitem__(self, index: slice) -> list[tuple[str, ...]]: ...

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        begin = int(self._ends[place - 1]) if place else 0
        line = self._bytes[begin : int(self._ends[place])].tobytes()
        return tuple(json.loads(line.decode("utf-8", "surrogatepass")))
