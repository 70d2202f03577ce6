"""Sources are encoded the same whatever they are encoded with, and whenever."""

from collections.abc import Callable

import numpy as np
import pytest

from dragoman.kernels.arrays import Array
from dragoman.native.encoder import TOKENS, Encoder, Source, groups

WIDTH = 4


class Layers:
    """In place of a stack: each row becomes the sum of its sentence; knows how many rows came together."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, x: Array, spans: Array, count: int, write: tuple[Array, Array, Array]) -> None:
        self.rows.append(len(x))
        starts = np.unique(spans["key"], return_index=True)[1].tolist()
        for first, last in zip(starts, [*starts[1:], len(x)], strict=True):
            assert (spans["count"][first:last] == last - first).all()
            x[first:last] = x[first:last].sum(0)


@pytest.fixture
def encoder() -> Callable[[int], Encoder]:
    def embed(tokens: Array, places: Array) -> Array:
        return np.stack([tokens, places, tokens * 2, places * 3], 1).astype(np.float32)

    return lambda ahead: Encoder(Layers(), embed, WIDTH, ahead)  # type: ignore[arg-type]


def sources(count: int, length: int) -> list[Source]:
    return [tuple(range(first, first + length)) for first in range(count)]


def test_groups_hold_so_many_tokens_or_one_source() -> None:
    made = [(1,) * 3, (2,) * 4, (3,) * 9, (4,), (5,)]
    assert [len(group) for group in groups(made, 7)] == [2, 1, 2]
    assert [source for group in groups(made, 7) for source in group] == made
    assert list(groups([], 7)) == []


def test_equal_sources_are_encoded_once(encoder: Callable[[int], Encoder]) -> None:
    made = encoder(0)
    one, other = sources(2, 5)
    first, second, third = made([one, other, one])
    assert np.array_equal(first, third)
    assert not np.array_equal(first, second)
    assert made.passes.rows == [10]  # type: ignore[attr-defined]


def test_what_was_read_ahead_is_the_same_and_read_once(encoder: Callable[[int], Encoder]) -> None:
    plain, made = encoder(0), encoder(TOKENS)
    wanted = sources(20, 30)
    made.read_ahead(wanted)
    assert made.passes.rows == [600]  # type: ignore[attr-defined]
    assert all(map(made.has_read, wanted))
    for source in wanted:
        assert np.array_equal(made([source])[0], plain([source])[0])
    assert made.passes.rows == [600]  # type: ignore[attr-defined]
    assert not any(map(made.has_read, wanted))
    made([wanted[0]])  # it was handed out, so it is encoded anew
    assert made.passes.rows == [600, 30]  # type: ignore[attr-defined]


def test_what_nobody_asks_for_is_forgotten(encoder: Callable[[int], Encoder]) -> None:
    made = encoder(100)
    wanted = sources(30, 10)
    for source in wanted:
        made.read_ahead([source])
    assert [made.has_read(source) for source in wanted] == [False] * 10 + [True] * 20
