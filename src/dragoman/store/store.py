"""Reads pieces in threads of its own: at once what a pass waits for, the rest when nobody waits."""

import atexit
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from dragoman.store.pieces import Files
from dragoman.store.shelf import Key, Shelf, Slot, State

READERS = 2
"""As many reads as a disk has to have at once to be busy."""


class Store:
    """Some shelves, and the threads that fill them. One thread at a time may use a shelf.

    The threads begin with the first read, sleep while there is nothing to read, and end with `close`, with
    the last reference, or at the interpreter's exit. A forked child starts its own.
    """

    def __init__(self, shelves: Sequence[Shelf], direct: bool = True) -> None:
        """direct: whether to read past the system's cache, if possible: right for what it can't hold."""
        self._core = _Core(tuple(shelves), Files(direct))
        self._end = weakref.finalize(self, self._core.close)

    @property
    def shelves(self) -> tuple[Shelf, ...]:
        return self._core.shelves

    @property
    def direct(self) -> bool:
        """Whether reads go past the system's cache."""
        return self._core.files.direct

    def fill(self) -> None:
        """Read what is likely to be needed into free slots, whenever there is nothing else to do."""
        with self._core.changed:
            for shelf in self._core.shelves:
                shelf.plan()
            self._core.wake()

    def settle(self, shelf: Shelf) -> tuple[list[Slot], list[Key]]:
        """Before a pass: what has arrived since the last one, and what has left without its being told."""
        with self._core.changed:
            return shelf.news()

    def take(self, shelf: Shelf, keys: Sequence[Key], fresh: bool) -> tuple[list[Slot], list[Key]]:
        """Have pieces read that a pass needs, as many as there is room for; if none is there, wait for one.

        keys: all that it has still to use in this layer; those that are there stay, all others may have to
        leave. fresh: whether it has just come to the layer. Returns what has arrived, and what has left.
        Raises CheckpointError if a piece can't be read; what has left then, `settle` tells.
        """
        core = self._core
        with core.changed:
            shelf.held = frozenset(keys)
            shelf.usage.enter(keys[0][0])
            missing = [key for key in keys if not _is_ready(shelf, key)]
            shelf.tally.misses += len(missing) * fresh
            for key in missing:
                shelf.failed.pop(key, None)
            core.request(shelf, missing)
            since = time.perf_counter()
            while len(missing) == len(keys) and not shelf.arrived:
                if core.closed:
                    raise RuntimeError("the model's store is closed")
                if error := next((shelf.failed.pop(key) for key in missing if key in shelf.failed), None):
                    raise error
                core.changed.wait()
                core.request(shelf, missing)
            shelf.tally.waited += time.perf_counter() - since
            return shelf.news()

    def release(self, shelf: Shelf, visits: Any) -> None:
        """A pass is over, and all may leave. visits: rows by layer and number, for all layers of a stack."""
        with self._core.changed:
            shelf.held = frozenset()
            shelf.note(visits)

    def close(self) -> None:
        """End the threads."""
        self._end()
        self._core.join()


class _Core:
    """What the threads know: not the store itself, which they would keep alive."""

    def __init__(self, shelves: tuple[Shelf, ...], files: Files) -> None:
        self.shelves, self.files = shelves, files
        self.closed = False
        self._begin()
        _cores.add(self)

    def _begin(self) -> None:
        self.changed = threading.Condition()
        self.urgent: deque[tuple[Shelf, Slot]] = deque()
        self.threads: list[threading.Thread] = []

    def request(self, shelf: Shelf, keys: Iterable[Key]) -> None:
        """Queue reads of what is neither there nor on its way, as far as there are slots."""
        for key in keys:
            slot = shelf.where.get(key)
            if slot is not None:
                slot.wanted = True
                continue
            if key in shelf.failed:
                continue
            slot = shelf.claim(key)
            if slot is None:
                break
            self.urgent.append((shelf, slot))
        self.wake()

    def wake(self) -> None:
        if self.closed:
            raise RuntimeError("the store is closed")
        while len(self.threads) < READERS:
            thread = threading.Thread(target=_serve, args=(self,), name="dragoman-reader", daemon=True)
            self.threads.append(thread)
            thread.start()
        self.changed.notify_all()

    def next(self) -> tuple[Shelf, Slot] | None:
        """What to read now."""
        if self.urgent:
            return self.urgent.popleft()
        for shelf in self.shelves:
            slot = shelf.spare()
            if slot is not None:
                return shelf, slot
        return None

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def join(self) -> None:
        for thread in self.threads:
            thread.join()
        self.files.close()

    def forked(self) -> None:
        self._begin()
        self.files.forked()
        for shelf in self.shelves:
            shelf.forked()


def _is_ready(shelf: Shelf, key: Key) -> bool:
    slot = shelf.where.get(key)
    return slot is not None and slot.state is State.READY


def _serve(core: _Core) -> None:
    """A reader's thread."""
    while True:
        with core.changed:
            while not core.closed and (work := core.next()) is None:
                core.changed.wait()
            if core.closed:
                return
        assert work is not None
        shelf, slot = work
        assert slot.key is not None
        error: Exception | None = None
        try:
            core.files.read(shelf.pieces[slot.key], slot.room, lambda: not core.closed)
        except Exception as problem:
            error = problem
        with core.changed:
            shelf.finish(slot, error)
            core.changed.notify_all()


_cores: "weakref.WeakSet[_Core]" = weakref.WeakSet()


def _end_all() -> None:
    """At exit: a thread must not wake up in the ruins of an interpreter."""
    for core in list(_cores):
        core.close()
        core.join()


def _reset_all() -> None:
    for core in list(_cores):
        core.forked()


atexit.register(_end_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)
