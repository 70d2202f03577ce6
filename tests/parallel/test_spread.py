"""What doesn't take several processes: orders on their way, and scores that are no numbers."""

from collections import deque
from typing import Any

import numpy as np
import pytest
import torch

from dragoman.errors import NoNumbers
from dragoman.models.prompt import Prompt
from dragoman.models.scores import TorchScores
from dragoman.parallel.orders import INLINE, Order, Wire, of_prompt, to_prompt
from dragoman.parallel.ranks import Ranks
from dragoman.parallel.spread import SpreadScores, SpreadState


class Sent:
    """Rank 0's end: what it sends lies there until it is fetched."""

    def __init__(self) -> None:
        self.messages: deque[Any] = deque()

    def broadcast(self, numbers: Any) -> Any:
        self.messages.append(numbers.clone())
        return numbers


class Heard(Sent):
    """The other end."""

    def broadcast(self, numbers: Any) -> Any:
        return numbers.copy_(self.messages.popleft())


def through_the_wire(order: Order, arrays: list[Any]) -> tuple[int, Order, list[Any]]:
    """How many messages an order took, and what arrived."""
    sent, heard = Sent(), Heard()
    Wire(sent).tell(order, arrays)  # type: ignore[arg-type]
    heard.messages, count = sent.messages, len(sent.messages)
    return count, *Wire(heard).hear()  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [0, 7, INLINE - 2, INLINE - 1, 5 * INLINE])
def test_orders_arrive_as_they_were_sent_short_ones_in_one_message(length: int) -> None:
    arrays = [np.array([3, 4]), None, np.arange(length), np.zeros((0, 2), np.int64)]
    count, order, found = through_the_wire(Order.SELECT, arrays)
    assert (order, count) == (Order.SELECT, 1 if length + 2 <= INLINE else 2)
    assert found[1] is None
    for place in (0, 2, 3):
        assert found[place].shape == arrays[place].shape  # type: ignore[union-attr]
        assert np.array_equal(found[place], arrays[place])


def test_a_prompt_arrives_as_it_was_sent() -> None:
    source = np.arange(300).reshape(3, 100)
    prompt = Prompt(source, source % 7 > 2, source[:, :2], source[:, :2] >= 0, [4, 0, 4])
    _, _, arrays = through_the_wire(Order.BEGIN, [np.array([0]), *of_prompt(prompt)])
    found = to_prompt(arrays[1:])
    assert np.array_equal(found.source, prompt.source)
    assert found.source_keep.dtype == bool
    assert np.array_equal(found.source_keep, prompt.source_keep)
    assert found.groups == prompt.groups
    _, _, arrays = through_the_wire(Order.BEGIN, [np.array([0]), *of_prompt(Prompt(source))])
    assert to_prompt(arrays[1:]).keep is None


def test_scores_that_are_no_numbers_are_rank_0_s_to_tell() -> None:
    ranks = Ranks(0, 1, torch.device("cpu"))
    logits = torch.zeros(2, 5)
    logits[1, 3] = torch.nan
    scores = SpreadScores(ranks, np.zeros(2, int), TorchScores(logits), 5)
    with pytest.raises(NoNumbers):
        scores.top(3)
    with pytest.raises(NoNumbers):
        scores.logits()
    assert np.array_equal(scores.logits(np.array([0, 0])), np.zeros((2, 5)))  # type: ignore[arg-type]


class Rows:
    """A state that remembers which rows it has."""

    def __init__(self, *rows: int) -> None:
        self.rows = np.array(rows)

    def select(self, rows: Any, beams: int) -> None:
        self.rows = self.rows[rows]

    def join(self, other: "Rows") -> None:
        self.rows = np.concatenate([self.rows, other.rows])


def test_a_rank_keeps_the_rows_of_its_own_sentences() -> None:
    homes = np.array([0, 1, 1, 0])
    states = [SpreadState(rank, homes, Rows(*np.flatnonzero(homes == rank))) for rank in (0, 1)]  # type: ignore[arg-type]
    for state in states:
        state.select(np.repeat(np.arange(4), 2), 2)  # two beams of each
        state.select(np.array([5, 4, 3, 2]), 2)  # the first and the last sentence have ended
    assert states[0].inner is None
    assert states[1].inner.rows.tolist() == [2, 2, 1, 1]  # type: ignore[union-attr]
    for state in states:
        other = SpreadState(state.rank, np.array([0]), Rows(7, 7) if state.rank == 0 else None)  # type: ignore[arg-type]
        state.join(other)
    assert [state.row_homes.tolist() for state in states] == [[1, 1, 1, 1, 0, 0]] * 2
    assert states[0].inner.rows.tolist() == [7, 7]  # type: ignore[union-attr]
