"""Experts on a store's shelf."""

from collections.abc import Sequence
from dataclasses import dataclass

from dragoman.kernels.arrays import Array
from dragoman.native.weights import Key, News
from dragoman.store.shelf import Shelf, Slot
from dragoman.store.store import Store


@dataclass(frozen=True)
class StoredExperts:
    """Those that are read from the disk when a pass needs them; its `native.weights.Experts`."""

    store: Store
    shelf: Shelf
    """Its pieces make an expert's two layers."""
    precision: str

    @property
    def leave(self) -> bool:
        return len(self.shelf.slots) < len(self.shelf.pieces)

    def settle(self) -> News:
        return self._made(*self.store.settle(self.shelf))

    def take(self, keys: Sequence[Key], fresh: bool) -> News:
        return self._made(*self.store.take(self.shelf, keys, fresh))

    def release(self, visits: Array) -> None:
        self.store.release(self.shelf, visits)

    def _made(self, slots: list[Slot], gone: list[Key]) -> News:
        made = [
            (slot.key, self.shelf.pieces[slot.key].make(slot.room)) for slot in slots if slot.key is not None
        ]
        return made, gone
