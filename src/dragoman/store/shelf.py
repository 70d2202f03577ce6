"""Slots of memory for pieces of one size, and which of them is needed latest."""

import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

import numpy as np

from dragoman.store.pieces import PAGE, Piece

Key = tuple[int, int]
"""A layer, and a number in it."""

FADING = 0.98
"""What a pass counts for after the next one."""
PRIOR = 8.0
"""How many passes a prior is worth."""


class State(Enum):
    FREE = "free"
    LOADING = "loading"
    READY = "ready"


@dataclass(eq=False)
class Slot:
    """Room for a piece."""

    room: memoryview
    key: Key | None = None
    state: State = State.FREE
    wanted: bool = True
    """Whether somebody waits for it; otherwise it is read because there is nothing else to do."""


@dataclass
class Tally:
    """What happened since the beginning."""

    uses: int = 0
    """Pieces that passes used, each pass for itself."""
    misses: int = 0
    """Those of them that had to be read first."""
    reads: int = 0
    bytes: int = 0
    """Read from the disk."""
    evictions: int = 0
    waited: float = 0.0
    """Seconds in which nothing could be done but wait."""

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


@dataclass
class Usage:
    """How often passes use a shelf's pieces: what has been seen lately, and what is known from elsewhere."""

    layers: tuple[int, ...]
    """Those with pieces, in the order in which a pass comes to them."""
    prior: Any
    """How likely a pass uses a piece, [layers, numbers]."""
    seen: Any = field(init=False)
    passes: float = 0.0
    at: int = 0
    """Which of the layers the present pass is at."""

    def __post_init__(self) -> None:
        self.seen = np.zeros_like(self.prior)
        self._place = {layer: place for place, layer in enumerate(self.layers)}

    def note(self, visits: Any) -> None:
        """A pass is over. visits: rows by layer and number, for all of the stack's layers."""
        self.seen *= FADING
        self.seen += visits[list(self.layers)] > 0
        self.passes = self.passes * FADING + 1

    def enter(self, layer: int) -> None:
        """A pass has come to this layer."""
        self.at = self._place[layer]

    def likelihood(self) -> Any:
        """That the next pass uses a piece, [layers, numbers]."""
        return (self.seen + PRIOR * self.prior) / (self.passes + PRIOR)

    def latest(self, keys: Sequence[Key]) -> int:
        """Which of the keys is needed latest, as far as one can know.

        A pass takes the layers in turn, so the next one comes to a piece's layer after a known time; and once
        for every pass that leaves it out on the average, a whole round later.
        """
        places = np.array([self._place[layer] for layer, _ in keys])
        numbers = np.array([number for _, number in keys])
        away = (places - self.at - 1) % len(self.layers)
        chance = np.maximum(self.likelihood()[places, numbers], 1e-6)
        return int(np.argmax(away + len(self.layers) * (1 / chance - 1)))


class Shelf:
    """Slots for pieces of one kind. Whoever calls holds the store's lock."""

    def __init__(self, pieces: Mapping[Key, Piece], slots: int, prior: Any | None = None) -> None:
        """slots: how many pieces can be there at once, at least one; prior: see `Usage`."""
        self.pieces = pieces
        self.size = max(piece.bytes for piece in pieces.values())
        self.memory = _anonymous(slots * self.size)
        view = memoryview(self.memory)
        self.slots = [Slot(view[n * self.size : (n + 1) * self.size]) for n in range(slots)]
        self.where: dict[Key, Slot] = {}
        """What is there, or on its way."""
        self.arrived: list[Slot] = []
        """Ready, but their user doesn't know yet."""
        self.gone: list[Key] = []
        """Their slots are others' now, but their user doesn't know yet."""
        self.failed: dict[Key, Exception] = {}
        self.held: frozenset[Key] = frozenset()
        """What a pass is using."""
        self.tally = Tally()
        layers = tuple(sorted({layer for layer, _ in pieces}))
        numbers = 1 + max(number for _, number in pieces)
        self.usage = Usage(layers, np.full((len(layers), numbers), 0.5) if prior is None else prior)
        self._fill: list[Key] = []

    def claim(self, key: Key) -> Slot | None:
        """A slot to read a piece into, whatever has to leave it; None if there can be none now."""
        slot = next((slot for slot in self.slots if slot.state is State.FREE), None)
        if slot is None:
            there = [slot for slot in self.slots if slot.state is State.READY and slot.key not in self.held]
            if not there:
                return None
            keys = [slot.key for slot in there if slot.key is not None]
            slot = there[self.usage.latest(keys)]
            assert slot.key is not None
            del self.where[slot.key]
            self.gone.append(slot.key)
            if slot in self.arrived:
                self.arrived.remove(slot)
            self.tally.evictions += 1
        slot.key, slot.state, slot.wanted = key, State.LOADING, True
        self.where[key] = slot
        return slot

    def news(self) -> tuple[list[Slot], list[Key]]:
        """What has arrived and what has left since its user was told; the latter is to be heeded first."""
        found = self.arrived, self.gone
        self.arrived, self.gone = [], []
        return found

    def note(self, visits: Any) -> None:
        """A pass is over. visits: rows by layer and number, for all of the stack's layers."""
        self.usage.note(visits)
        self.tally.uses += int((visits > 0).sum())

    def finish(self, slot: Slot, error: Exception | None) -> None:
        """A read is over."""
        assert slot.key is not None
        if error is None:
            slot.state = State.READY
            self.arrived.append(slot)
            self.tally.reads += 1
            self.tally.bytes += self.pieces[slot.key].bytes
            return
        if slot.wanted:  # else who needs it will find out
            self.failed[slot.key] = error
        del self.where[slot.key]
        slot.key, slot.state = None, State.FREE

    def plan(self) -> None:
        """Have free slots filled, the likeliest pieces first."""
        chances = self.usage.likelihood()
        place = {layer: number for number, layer in enumerate(self.usage.layers)}
        order = sorted(self.pieces, key=lambda key: (chances[place[key[0]], key[1]], -key[0], -key[1]))
        self._fill = order

    def spare(self) -> Slot | None:
        """A free slot with what is to be read into it while there is nothing else to do."""
        while self._fill:
            key = self._fill.pop()
            if key in self.where:
                continue
            slot = next((slot for slot in self.slots if slot.state is State.FREE), None)
            if slot is None:
                self._fill = []
                return None
            slot.key, slot.state, slot.wanted = key, State.LOADING, False
            self.where[key] = slot
            return slot
        return None

    def forked(self) -> None:
        """In a forked child: whoever was reading stayed with the parent."""
        for slot in self.slots:
            if slot.state is State.LOADING and slot.key is not None:
                self.where.pop(slot.key, None)
                slot.key, slot.state = None, State.FREE
        self._fill = []


def _anonymous(size: int) -> mmap.mmap:
    """Memory that begins at a page, is there once it is written to, and not shared with forked children."""
    size = max(size, PAGE)
    if not hasattr(mmap, "MAP_PRIVATE"):  # on Windows
        return mmap.mmap(-1, size)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
