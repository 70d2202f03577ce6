"""Which piece has to leave when another one comes."""

from collections.abc import Callable

import numpy as np

from dragoman.store.shelf import Shelf, State, Usage
from tests.store.conftest import Pieces


def usage(layers: int = 3, numbers: int = 4) -> Usage:
    return Usage(tuple(range(1, 2 * layers, 2)), np.full((layers, numbers), 0.5))


def passed(of: Usage, *used: tuple[int, int]) -> None:
    visits = np.zeros((2 * len(of.layers), of.prior.shape[1]), np.int32)
    for key in used:
        visits[key] = 3
    of.note(visits)


def test_of_equals_the_one_whose_layer_was_just_left_is_needed_latest() -> None:
    of = usage()
    of.enter(3)
    assert of.latest([(1, 0), (3, 0), (5, 0)]) == 1
    of.enter(5)
    assert of.latest([(1, 0), (3, 0), (5, 0)]) == 2


def test_what_passes_left_out_is_needed_later_than_what_they_used() -> None:
    of = usage()
    for _ in range(20):
        passed(of, (1, 0), (3, 1), (5, 2))
    of.enter(1)
    assert of.latest([(1, 0), (3, 1), (5, 3)]) == 2
    assert of.likelihood()[0, 0] > 0.8 > 0.3 > of.likelihood()[0, 1]


def test_a_prior_decides_until_passes_have_shown_otherwise() -> None:
    prior = np.full((1, 3), 0.2)
    prior[0, 2] = 0.9
    of = Usage((0,), prior)
    of.enter(0)
    assert of.latest([(0, 1), (0, 2)]) == 0
    for _ in range(60):
        visits = np.array([[0, 1, 0]])
        of.note(visits)
    assert of.latest([(0, 1), (0, 2)]) == 1


def test_pieces_in_use_never_leave(pieces: Callable[[int, int], Pieces]) -> None:
    shelf = Shelf(pieces(1, 4), slots=2)
    for number in range(2):
        slot = shelf.claim((0, number))
        assert slot is not None
        shelf.finish(slot, None)
    shelf.held = frozenset({(0, 0), (0, 1)})
    assert shelf.claim((0, 2)) is None
    assert not shelf.gone
    shelf.held = frozenset({(0, 0)})
    slot = shelf.claim((0, 2))
    assert shelf.gone == [(0, 1)]
    assert slot is not None
    assert slot.state is State.LOADING
    assert set(shelf.where) == {(0, 0), (0, 2)}


def test_free_slots_are_filled_with_the_likeliest(pieces: Callable[[int, int], Pieces]) -> None:
    prior = np.array([[0.1, 0.9, 0.4], [0.2, 0.3, 0.8]])
    shelf = Shelf(pieces(2, 3), slots=3, prior=prior)
    shelf.plan()
    assert [slot.key for slot in (shelf.spare(), shelf.spare(), shelf.spare()) if slot] == [
        (0, 1),
        (1, 2),
        (0, 2),
    ]
    assert shelf.spare() is None
