"""Parts of a packed model as pieces of its files: what a store reads together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dragoman.checkpoints.numbers import TYPES, Numbers
from dragoman.checkpoints.packed_facts import ANEW
from dragoman.checkpoints.packed_shards import LARGE, checksum
from dragoman.checkpoints.part_forms import put_together
from dragoman.checkpoints.weight_files import Entry
from dragoman.errors import CheckpointError
from dragoman.store.pieces import Extent, Piece, slab_places


@dataclass(frozen=True)
class _Parts:
    """Knows some parts' arrays in a slab."""

    described: Mapping[str, Mapping[str, Any]]
    tensors: Mapping[str, Entry]
    checksums: Mapping[str, str]
    places: Mapping[str, int]
    """Where each tensor begins."""

    def check(self, slab: memoryview) -> str | None:
        for name in self.places:
            if checksum(self._numbers(name, slab).data) != self.checksums.get(name):
                return f"the checksum of {name} differs"
        return None

    def make(self, slab: memoryview) -> tuple[Any, ...]:
        return tuple(
            put_together(
                name,
                facts.get("kind"),
                {field: self._numbers(tensor, slab) for field, tensor in facts["arrays"].items()},
                facts,
            )
            for name, facts in self.described.items()
        )

    def _numbers(self, name: str, slab: memoryview) -> Numbers:
        entry, at = self.tensors[name], self.places[name]
        assert entry.extent is not None
        data = np.frombuffer(slab, np.uint8, entry.extent.stop - entry.extent.start, at)
        return Numbers(data.view(TYPES[entry.dtype]).reshape(entry.shape), entry.dtype)


def packed_piece(
    described: Mapping[str, Mapping[str, Any]], tensors: Mapping[str, Entry], checksums: Mapping[str, str]
) -> Piece:
    """Parts, in their order, as one piece; CheckpointError if the files lack some of it."""
    names = {tensor: part for part, facts in described.items() for tensor in facts["arrays"].values()}
    gone = next((name for name in names if name not in tensors), None)
    if gone is not None:
        raise CheckpointError(f"the packed model has no {gone}, which belongs to {names[gone]}. {ANEW}")
    found: list[Extent] = []
    ranges: dict[str, int] = {}
    for name, extent in sorted(_extents(tensors, names), key=lambda item: (item[1].file, item[1].start)):
        last = found[-1] if found else None
        # What lies between parts that were written one after the other are a few zeros.
        if last is not None and last.file == extent.file and extent.start - last.stop < LARGE:
            found[-1] = Extent(extent.file, last.start, max(last.stop, extent.stop))
        else:
            found.append(extent)
        ranges[name] = len(found) - 1
    extents = tuple(found)
    title = _common(list(described))
    begins = slab_places(extents)
    places = {}
    for name, extent in _extents(tensors, names):
        number = ranges[name]
        places[name] = begins[number] + extent.start - extents[number].start
    parts = _Parts(described, tensors, checksums, places)
    return Piece(title, extents, parts.check, parts.make)


def _extents(tensors: Mapping[str, Entry], names: Mapping[str, str]) -> list[tuple[str, Extent]]:
    found = []
    for name in names:
        extent = tensors[name].extent
        assert extent is not None  # of a safetensors file
        found.append((name, extent))
    return found


def _common(names: list[str]) -> str:
    """What names of parts have in common, for people."""
    if len(names) == 1:
        return names[0]
    words = [name.split(".") for name in names]
    same = 0
    while all(len(each) > same and each[same] == words[0][same] for each in words):
        same += 1
    return ".".join(words[0][:same]) or names[0]
