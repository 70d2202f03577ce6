"""Where the tensors of a checkpoint are: found, compared with what a model expects, read one by one.

No tensor is read before all names and shapes are known to fit.
"""

import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dragoman.checkpoints.compressed import SCALE, WHOLE, check_scale, is_compressed, restored
from dragoman.checkpoints.numbers import Numbers, nbytes
from dragoman.checkpoints.weight_files import Entry, open_shard
from dragoman.errors import CheckpointError, KeyMismatch, Shape

Name = TypeVar("Name")


@dataclass(frozen=True)
class Place:
    """Where a tensor is stored, and what its header says."""

    file: Path
    key: str
    shape: Shape
    dtype: str
    """Of the numbers as they are read, as a file calls it."""
    factor: float = 1.0
    """What it is multiplied by when it is read."""
    rows: tuple[int, ...] | range | None = None
    """Those of the stored tensor that are taken; None: all. `shape` is what is left."""
    columns: range | None = None
    """Likewise of a matrix; what lies between is read from no file that is mapped."""
    scale: "Place | None" = None
    """The scales of its rows if it is stored in 8 bits."""

    @property
    def nbytes(self) -> int:
        """Its size in memory."""
        return nbytes(self.shape, self.dtype)

    def cut(self, rows: Sequence[int]) -> "Place":
        """Some of its rows, in this order; a range of a whole tensor's stays in the file until it is used."""
        kept = rows if self.rows is None else [self.rows[row] for row in rows]
        taken = kept if isinstance(kept, range) else tuple(kept)
        scale = None if self.scale is None else self.scale.cut(rows)
        return replace(self, shape=(len(rows), *self.shape[1:]), rows=taken, scale=scale)

    def cut_columns(self, columns: range) -> "Place":
        """A run of a whole matrix's columns."""
        assert self.columns is None, "columns are cut once"
        return replace(self, shape=(self.shape[0], len(columns)), columns=columns)


class Reader:
    """Reads tensors from their places, a bounded part of the files in memory.

    Pages of a mapped file count as memory once they were read, until the file is closed.
    """

    BUDGET = 256 * 2**20

    def __init__(self) -> None:
        self._open: dict[Path, dict[str, Entry]] = {}
        self._read_bytes = 0

    def __call__(self, place: Place) -> Numbers:
        if self._read_bytes > self.BUDGET or (place.file not in self._open and not is_mapped(place.file)):
            self._open.clear()
            self._read_bytes = 0
        if place.file not in self._open:
            self._open[place.file] = open_shard(place.file)
        # A file that is read whole would be read again, and no memory won by it.
        self._read_bytes += place.nbytes * is_mapped(place.file)
        numbers = self._open[place.file][place.key].read()
        if place.rows is not None or place.columns is not None:
            numbers = Numbers(_taken(numbers.data, place), numbers.dtype)
        if place.scale is not None:
            numbers = restored(numbers, self(place.scale))
        if place.factor == 1.0:
            return numbers
        return Numbers(numbers.float32() * np.float32(place.factor), "F32").to(numbers.dtype)


def _taken(data: Any, place: Place) -> Any:
    """The rows and columns of a stored tensor that a place says; rows side by side are no copy."""
    rows = place.rows
    if isinstance(rows, range):
        data = data[rows.start : rows.stop : rows.step]
    elif rows is not None:
        data = data[list(rows)]
    if place.columns is not None:
        data = np.ascontiguousarray(data[:, place.columns.start : place.columns.stop])
    return data


@dataclass(frozen=True)
class Change:
    """A low-rank change of a weight: it becomes W + scale * B A."""

    a: Place
    """[rank, in]"""
    b: Place
    """[out, rank]"""
    scale: float

    def applied(self, weight: Numbers, read: Reader, dtype: str | None = None) -> Numbers:
        """The changed weight in `dtype` (None: that of `weight`): summed in float32 and rounded once."""
        a, b = read(self.a).float32(), read(self.b).float32()
        changed = b @ a
        changed *= np.float32(self.scale)
        changed += weight.float32()
        return Numbers(changed, "F32").to(dtype or weight.dtype)


def find_tensors(
    files: Iterable[Path], name_of: Callable[[str], Name | None], folder: Path
) -> dict[Name, Place]:
    """The places of all tensors in `files`, in their order, by the names that `name_of` gives their keys.

    Those without a name are left out, and so are scales, which go with the weights they belong to.
    ConfigError if the config.json in `folder` tells of weights that are quantised in a way that isn't known,
    CheckpointError if a name is there twice, or a tensor is quantised and nothing tells how.
    """
    stored = [(file, key, entry) for file in files for key, entry in open_shard(file).items()]
    scales = _scales(stored) if is_compressed(folder) else {}
    used = {scale.key for scale in scales.values()}
    found: dict[Name, Place] = {}
    for file, key, entry in stored:
        name = None if key in used else name_of(key)
        if name is None:
            continue
        if name in found:
            twin = found[name]
            raise CheckpointError(
                f"{folder} holds {name} twice: as {twin.key} in {twin.file.name} and as {key} in "
                f"{file.name}. Leave only the files of one model there."
            )
        scale = scales.get(key)
        if scale is None and not entry.is_plain:
            raise CheckpointError(
                f"{file} stores {key} as {entry.dtype}, so it is quantised. Get the model in float32, "
                "float16 or bfloat16; it can be quantised after loading."
            )
        found[name] = Place(
            file, key, entry.shape, entry.dtype if scale is None else scale.dtype, scale=scale
        )
    return found


def _scales(stored: Iterable[tuple[Path, str, Entry]]) -> dict[str, Place]:
    """Where the scales of weights in 8 bits are, by the keys of these weights."""
    entries = {key: (file, entry) for file, key, entry in stored}
    found = {}
    for key, (_, weight) in entries.items():
        if weight.dtype == WHOLE and key + SCALE in entries:
            file, scale = entries[key + SCALE]
            check_scale(key, weight.shape, scale.shape, scale.dtype)
            found[key] = Place(file, key + SCALE, scale.shape, scale.dtype)
    return found


def compare(
    folder: Path,
    found: Mapping[Name, Place],
    expected: Mapping[Name, Shape],
    optional: Iterable[Name] = (),
    spell: Callable[[Name], str] = str,
    described_by: str = "its config.json",
) -> None:
    """KeyMismatch with every tensor that is missing, unexpected or of another shape.

    spell: what a missing one would be called in a file.
    """
    optional = set(optional)
    missing = [spell(name) for name in expected if name not in found and name not in optional]
    unexpected = [place.key for name, place in found.items() if name not in expected]
    misshapen = {
        place.key: (place.shape, expected[name])
        for name, place in found.items()
        if name in expected and place.shape != expected[name]
    }
    if missing or unexpected or misshapen:
        raise KeyMismatch.in_folder(folder, missing, unexpected, misshapen, described_by)


def is_mapped(file: Path) -> bool:
    """Whether tensors are read from a file one by one; pickles of torch before 1.6 are read whole."""
    return file.suffix == ".safetensors" or zipfile.is_zipfile(file)
