"""Pieces come when they are needed, from threads that end with their store."""

import gc
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dragoman.errors import CheckpointError
from dragoman.store import pieces as module
from dragoman.store.shelf import Key, Shelf, Slot
from dragoman.store.store import Store
from tests.store.conftest import SIZE, Pieces, content

Make = Callable[[int, int], Pieces]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSES", (0.0,))


class User:
    """Uses pieces as passes do: it knows what has arrived and what has left."""

    def __init__(self, shelf: Shelf, direct: bool = False) -> None:
        self.shelf, self.store = shelf, Store([shelf], direct)
        self.there: dict[Key, Slot] = {}

    def use(self, *keys: Key) -> dict[Key, bytes]:
        """What pieces of a layer say, each used as soon as it is there."""
        left, found, fresh = list(keys), {}, True
        self.heed(*self.store.settle(self.shelf))
        while left:
            if any(key not in self.there for key in left):  # a pass doesn't stop where all are there
                self.heed(*self.store.take(self.shelf, left, fresh))
            for key in [key for key in left if key in self.there]:
                found[key] = self.shelf.pieces[key].make(self.there[key].room)
                left.remove(key)
            fresh = False
        return found

    def heed(self, arrived: list[Slot], gone: list[Key]) -> None:
        for key in gone:
            self.there.pop(key, None)
        self.there |= {slot.key: slot for slot in arrived if slot.key is not None}


@pytest.mark.parametrize("slots", [1, 2, 3, 12])
def test_a_pass_gets_all_it_needs_however_few_slots_there_are(pieces: Make, slots: int) -> None:
    shelf = Shelf(pieces(2, 6), slots)
    user = User(shelf)
    for _ in range(3):
        for layer in range(2):
            keys = [(layer, number) for number in (0, 2, 3, 5)]
            assert user.use(*keys) == {key: content(6 * key[0] + key[1]) for key in keys}
        user.store.release(shelf, np.ones((2, 6), np.int32))
    assert len(shelf.where) <= slots
    assert shelf.tally.uses == 36
    assert (shelf.tally.evictions == 0) == (slots == 12)
    user.store.close()


def test_free_slots_fill_while_nobody_waits(pieces: Make) -> None:
    shelf = Shelf(pieces(2, 6), 5)
    store = Store([shelf])
    store.fill()
    deadline = time.monotonic() + 20
    while shelf.tally.reads < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert shelf.tally.reads == 5
    assert len(store.settle(shelf)[0]) == 5
    store.close()


def test_an_unreadable_piece_is_an_error_for_whoever_needs_it(pieces: Make, tmp_path: Path) -> None:
    shelf = Shelf(pieces(1, 3), 2)
    user = User(shelf)
    os.truncate(tmp_path / "pieces", 2 * SIZE)
    with pytest.raises(CheckpointError, match="piece 2 can't be had"):
        user.use((0, 2))
    assert user.use((0, 0), (0, 1)).keys() == {(0, 0), (0, 1)}
    (tmp_path / "pieces").write_bytes(b"".join(map(content, range(3))))
    assert user.use((0, 2)) == {(0, 2): content(2)}  # it is tried anew
    user.store.close()


def test_what_had_to_leave_for_an_unreadable_piece_is_not_used_any_more(pieces: Make, tmp_path: Path) -> None:
    user = User(Shelf(pieces(1, 3), 2))
    user.use((0, 0), (0, 1))
    file = tmp_path / "pieces"
    file.write_bytes(file.read_bytes()[: 2 * SIZE] + b"x" * SIZE)
    with pytest.raises(CheckpointError, match="piece 2 can't be had"):
        user.use((0, 2))
    assert user.use((0, 0), (0, 1)) == {(0, 0): content(0), (0, 1): content(1)}
    user.store.close()


def test_a_closed_store_says_so(pieces: Make) -> None:
    shelf = Shelf(pieces(1, 2), 1)
    store = Store([shelf])
    store.close()
    store.close()
    with pytest.raises(RuntimeError, match="closed"):
        store.take(shelf, [(0, 0)], fresh=True)


def test_the_threads_end_with_the_last_reference(pieces: Make) -> None:
    others = set(threading.enumerate())
    user = User(Shelf(pieces(1, 2), 1))
    user.use((0, 0))
    mine = [thread for thread in threading.enumerate() if thread not in others]
    assert {thread.name for thread in mine} == {"dragoman-reader"}
    del user
    gc.collect()
    for thread in mine:
        thread.join(20)
    assert not any(thread.is_alive() for thread in mine)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_a_forked_child_reads_for_itself(pieces: Make) -> None:
    shelf = Shelf(pieces(1, 4), 2)
    user = User(shelf)
    user.use((0, 0), (0, 1))

    def child() -> None:
        assert user.use((0, 2), (0, 3)) == {(0, 2): content(2), (0, 3): content(3)}

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    # The parent's slots are its own.
    assert user.use((0, 0), (0, 1)) == {(0, 0): content(0), (0, 1): content(1)}
    user.store.close()
