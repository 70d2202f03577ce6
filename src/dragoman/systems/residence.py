"""What of a packed model is in memory: all of it as maps of its files, or experts only while needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dragoman.checkpoints.packed_folders import PackedModel
from dragoman.evaluation.experts import SIDES, STATISTICS, ExpertStatistics
from dragoman.kernels.arrays import Array
from dragoman.limits import memory_limit
from dragoman.native.experts import StoredExperts
from dragoman.native.weights import Experts, Key, News, PackedWeights
from dragoman.store.pieces import Piece
from dragoman.store.shelf import Shelf
from dragoman.store.store import Store

ROWS = {"encoder": 32, "decoder": 4}
"""What a pass usually has: the tokens of a sentence, and its beams."""
FEW = 8
"""Experts that the encoder has slots for even beside a decoder all of whose experts stay."""
CACHED = 0.8
"""How much of the memory the system's cache and the slots may be meant to fill together."""


class FolderWeights(PackedWeights):
    """The weights of a packed folder as `native.weights.Weights`."""

    def __init__(self, packed: PackedModel, room: int | None = None) -> None:
        """room: bytes for experts, which are read when they are needed; None: they are maps as all else."""
        super().__init__(packed)
        self.packed, self.room = packed, room

    def __reduce__(self) -> tuple[Any, ...]:
        return FolderWeights, (self.packed, self.room)

    def experts(self, side: str) -> Experts | None:
        if not self.packed.experts(side):
            return None
        return MappedExperts(self.packed, side) if self.room is None else self._stored[side]

    @cached_property
    def store(self) -> Store | None:
        """Where experts are kept that don't stay."""
        return (
            next((stored.store for stored in self._stored.values()), None) if self.room is not None else None
        )

    @cached_property
    def _stored(self) -> dict[str, StoredExperts]:
        assert self.room is not None
        return stored_experts(self.packed, self.room)


@dataclass(frozen=True)
class MappedExperts:
    """Experts that are maps of files: compared with their checksums when a pass first needs them."""

    packed: PackedModel
    side: str
    leave: bool = False

    @property
    def precision(self) -> str:
        return self.packed.precision

    @cached_property
    def _names(self) -> dict[Key, tuple[str, str]]:
        return self.packed.experts(self.side)

    def settle(self) -> News:
        return [], []

    def take(self, keys: Sequence[Key], fresh: bool) -> News:
        names = [(key, *self._names[key]) for key in keys]
        return [(key, (self.packed[first], self.packed[second])) for key, first, second in names], []

    def release(self, visits: Array) -> None:
        """All may stay."""


def stored_experts(packed: PackedModel, room: int) -> dict[str, StoredExperts]:
    """Experts on shelves that take `room` bytes together, by side; reading them begins at once."""
    pieces = {side: _pieces(packed, side) for side in SIDES if packed.experts(side)}
    slots = share_slots(room, {side: (len(each), _largest(each)) for side, each in pieces.items()})
    # The decoder's first: a sentence comes to the encoder's once, to these at every step.
    statistics = _statistics(packed)
    shelves = {
        side: Shelf(pieces[side], slots[side], _prior(statistics, side, pieces[side]))
        for side in reversed(SIDES)
        if side in pieces
    }
    total = sum(piece.bytes for each in pieces.values() for piece in each.values())
    store = Store(list(shelves.values()), direct=total + room > CACHED * memory_limit())
    store.fill()
    return {side: StoredExperts(store, shelf, packed.precision) for side, shelf in shelves.items()}


def share_slots(room: int, kinds: dict[str, tuple[int, int]]) -> dict[str, int]:
    """How many slots each side gets of `room` bytes, one at least.

    kinds: how many experts a side has, and their size. A decoder comes to its experts at every step, so it
    keeps all of them if there is room for some of the encoder's besides; else it has three quarters of it.
    """
    if len(kinds) == 1:
        ((side, (count, size)),) = kinds.items()
        return {side: min(count, max(1, room // size))}
    (readers, reader), (writers, writer) = kinds["encoder"], kinds["decoder"]
    least = min(readers, FEW) * reader
    if writers * writer + least <= room:
        decoder = writers
    else:
        decoder = min(writers, max(1, int(0.75 * room) // writer))
    return {"decoder": decoder, "encoder": min(readers, max(1, (room - decoder * writer) // reader))}


def _statistics(packed: PackedModel) -> ExpertStatistics | None:
    """What lies beside the model and says which experts its languages use."""
    path = packed.folder / STATISTICS
    return ExpertStatistics.read(path) if path.is_file() else None


def _prior(statistics: ExpertStatistics | None, side: str, pieces: dict[Key, Piece]) -> Array | None:
    """What is known of the side's experts, as `store.shelf.Usage.prior`."""
    if statistics is None:
        return None
    layers = sorted({layer for layer, _ in pieces})
    return statistics.prior(side, layers, 1 + max(number for _, number in pieces), ROWS[side])


def _pieces(packed: PackedModel, side: str) -> dict[Key, Piece]:
    return {key: packed.piece(names) for key, names in packed.experts(side).items()}


def _largest(pieces: dict[Key, Piece]) -> int:
    return max(piece.bytes for piece in pieces.values())
