"""Scores that stay on their device: what comes to the host is what NumPy makes of the whole matrix."""

import math

import numpy as np
import pytest
import torch

from dragoman.errors import NoNumbers
from dragoman.generation.scores import DenseScores
from dragoman.models.scores import ROWS, TorchScores


def random_logits(rows: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return 3 * torch.randn(rows, 50, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("banned", [(), (0, 7, 49)])
@pytest.mark.parametrize("rows", [1, 2 * ROWS + 3])
def test_the_best_are_those_of_the_whole_matrix(
    rows: int, banned: tuple[int, ...], dtype: torch.dtype
) -> None:
    logits = random_logits(rows, dtype)
    scores, dense = TorchScores(logits), DenseScores(logits.float().numpy())
    assert scores.rows == rows
    for count in (1, 5, 60):
        (values, tokens), (expected, theirs) = scores.top(count, banned), dense.top(count, banned)
        assert (values.dtype, tokens.dtype) == (np.float32, np.int64)
        np.testing.assert_allclose(values, expected, atol=2e-6)
        if dtype == torch.float32:  # others have equal scores
            known = np.isfinite(values)
            assert np.array_equal(tokens[known], theirs[known])


def test_all_scores_of_some_rows_are_the_caller_s_own() -> None:
    logits = random_logits(6)
    scores = TorchScores(logits)
    chosen = np.array([4, 0, 4])
    for rows in (None, chosen, np.arange(6)):
        found = scores.logits(rows)
        assert found.dtype == np.float32
        assert np.array_equal(found, logits.numpy()[slice(None) if rows is None else rows])
        found[:] = 0
    assert torch.equal(logits, random_logits(6))
    half = random_logits(6, torch.bfloat16)
    assert np.array_equal(TorchScores(half).logits(chosen), half.float().numpy()[chosen])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_row_without_numbers_is_an_error_and_not_a_choice(bad: float) -> None:
    logits = random_logits(6)
    logits[4] = bad
    scores = TorchScores(logits)
    for ask in (lambda: scores.top(2), lambda: scores.logits(np.array([4])), scores.logits):
        with pytest.raises(NoNumbers, match="no numbers"):
            ask()
    assert len(scores.logits(np.array([1, 3]))) == 2
