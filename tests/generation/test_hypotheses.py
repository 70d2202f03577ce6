import numpy as np
import pytest

from dragoman.generation.hypotheses import History, common_prefix


def test_rows_grow_leave_and_join_each_at_its_own_length() -> None:
    history = History([[7, 8, 1], [9, 1]], forced=1, whole=True)
    assert [history.of(row) for row in range(2)] == [[1], [1]]
    history.extend(np.array([1, 0, 0]), np.array([2, 3, 4]))
    assert [history.of(row) for row in range(3)] == [[1, 2], [1, 3], [1, 4]]
    other = History([[5] * 60], forced=0, whole=True)
    other.extend(np.array([0]), np.array([6]))
    history.join(other)
    history.select(np.array([3, 0]))
    assert [history.of(row) for row in range(2)] == [[6], [1, 2]]
    assert history.generated.tolist() == [1, 2]
    aligned = history.aligned().tolist()
    assert aligned == [[5] * 60 + [6], [-1] * 58 + [9, 1, 2]]


def test_prompts_are_kept_only_if_someone_looks_at_them() -> None:
    history = History([[7, 8, 1], [9, 1]], forced=1, whole=False)
    assert history.aligned().tolist() == [[1], [1]]


def test_lines_grow_beyond_their_room() -> None:
    history = History([[1]], forced=1, whole=False)
    for token in range(200):
        history.extend(np.array([0]), np.array([token]))
    assert history.of(0) == [1, *range(200)]


@pytest.mark.parametrize(
    ("lines", "prefix"),
    [
        ([], []),
        ([(1, 2)], [1, 2]),
        ([(1, 2, 3), (1, 2)], [1, 2]),
        ([(1, 2, 3), (1, 2, 4), (1, 5)], [1]),
        ([(1,), (2,)], []),
        ([(3, 1), ()], []),
    ],
)
def test_common_prefix_is_what_all_begin_with(lines: list[tuple[int, ...]], prefix: list[int]) -> None:
    assert common_prefix(lines) == prefix
