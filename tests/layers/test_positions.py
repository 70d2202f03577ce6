import math

import numpy as np
import pytest
import torch

from dragoman.layers.angles import sinusoids
from dragoman.layers.positions import SinusoidalPositions


def vector(position: int, hidden: int) -> list[float]:
    """fairseq's formula, for a position counted from 0: its table row is two further down."""
    half = hidden // 2
    angles = [(position + 2) / 10000 ** (i / (half - 1)) for i in range(half)]
    return [math.sin(a) for a in angles] + [math.cos(a) for a in angles] + [0.0] * (hidden % 2)


def keep(*rows: str) -> torch.Tensor:
    """A mask from strings: `x` is a token, `.` is padding."""
    return torch.tensor([[sign == "x" for sign in row] for row in rows])


@pytest.mark.parametrize("hidden", [4, 8, 9, 64])
def test_positions_follow_the_formula(hidden: int) -> None:
    found = SinusoidalPositions(hidden)(keep("x" * 12))
    expected = torch.tensor([[vector(p, hidden) for p in range(12)]])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)


def test_padding_is_zero_and_not_counted_on_either_side() -> None:
    found = SinusoidalPositions(8)(keep("xxx..", "..xxx", "x.x.x"))
    counts = [[0, 1, 2, None, None], [None, None, 0, 1, 2], [0, None, 1, None, 2]]
    expected = torch.tensor([[[0.0] * 8 if p is None else vector(p, 8) for p in row] for row in counts])
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("past", [1, 5, 254, 255, 300])
def test_steps_after_a_past_get_the_positions_of_the_whole(past: int) -> None:
    whole = SinusoidalPositions(8)(keep("x" * (past + 3)))
    step = SinusoidalPositions(8)(keep("xxx"), past)
    assert torch.equal(step, whole[:, past:])


def test_past_padding_is_not_counted() -> None:
    mask = keep("..xxxx", "xxxxxx")
    whole = SinusoidalPositions(8)(mask)
    step = SinusoidalPositions(8)(mask[:, 4:], 4, padded=torch.tensor([[2], [0]]))
    assert torch.equal(step, whole[:, 4:])


def test_table_grows_in_strides_and_keeps_its_values() -> None:
    positions = SinusoidalPositions(8)
    short = positions(keep("x" * 10))
    tables = []
    for past in range(600):
        positions(keep("x"), past)
        tables.append(positions._table)
    assert len(set(map(id, tables))) <= 3  # a step needs one more row, and not a new table
    assert torch.equal(positions(keep("x" * 10)), short)
    last = torch.tensor([[vector(599, 8)]])
    torch.testing.assert_close(positions(keep("x"), 599), last, atol=1e-4, rtol=0)


def test_nothing_of_the_table_is_stored() -> None:
    positions = SinusoidalPositions(8)
    positions(keep("xxx"))
    assert not positions.state_dict()
    assert not list(positions.buffers())


@pytest.mark.parametrize("hidden", [4, 16, 33, 1024])
def test_numpy_has_the_same_vectors(hidden: int) -> None:
    rows = np.array([[0, 1, 2, 3], [4, 5, 600, 1026]])
    table = SinusoidalPositions(hidden).table(1026, torch.device("cpu"))
    found = sinusoids(rows, hidden)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, table[torch.from_numpy(rows)].numpy(), atol=1e-6)
    assert not found[0, 1].any()
