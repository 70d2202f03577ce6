import math

import numpy as np
import pytest
import torch

from dragoman.errors import NoNumbers
from dragoman.generation.beam import SPARE, BeamSearch
from dragoman.generation.hypotheses import Array
from dragoman.generation.options import GenerationOptions
from dragoman.generation.scores import (
    NUCLEUS,
    ROWS,
    DenseScores,
    adjust,
    ban_repeated_ngrams,
    draw,
    log_softmax,
    penalize_repetition,
    repeated_tokens,
    restrict,
)
from dragoman.generation.search import new_search

BANNED = -math.inf


def random_scores(rows: int = 6, vocabulary: int = 9, seed: int = 0) -> Array:
    return 3 * np.random.default_rng(seed).standard_normal((rows, vocabulary), np.float32)


def sampling(**options: object) -> GenerationOptions:
    return GenerationOptions(beams=1, sample=True, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("history", "size", "banned"),
    [
        ([1, 2, 3, 1, 2], 3, [3]),
        ([1, 2, 3, 1, 2, 4, 1, 2], 3, [3, 4]),
        ([1, 2, 3, 1], 2, [2]),
        ([1, 1, 1], 2, [1]),
        ([1, 1, 1], 3, [1]),
        ([1, 1], 3, []),
        ([1, 2], 2, []),
        ([4, 2, 4], 1, [2, 4]),
        ([1, 2, 3], 4, []),
        ([1], 5, []),
    ],
)
def test_token_that_would_repeat_an_ngram_is_banned(history: list[int], size: int, banned: list[int]) -> None:
    scores = random_scores(rows=1)
    expected = scores.copy()
    expected[0, banned] = BANNED
    ban_repeated_ngrams(scores, np.array([history]), size)
    assert np.array_equal(scores, expected)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_ngrams_are_banned_row_by_row(size: int) -> None:
    history = np.random.default_rng(size).integers(0, 4, (20, 12))
    scores, found = random_scores(20), random_scores(20)
    ban_repeated_ngrams(found, history, size)
    for row, past in enumerate(history.tolist()):
        seen = {tuple(past[i : i + size]) for i in range(len(past) - size + 1)}
        ending = past[len(past) - size + 1 :]
        banned = [token for token in range(9) if (*ending, token) in seen]
        assert np.flatnonzero(np.isneginf(found[row])).tolist() == banned
        rest = [token for token in range(9) if token not in banned]
        assert np.array_equal(found[row, rest], scores[row, rest])
        assert set(repeated_tokens(history, size)[row].tolist()) - {-1} == set(banned)


class Seldom(DenseScores):
    """Scores of which all tokens are looked at for some rows only."""

    looked: tuple[int, ...] = ()

    def logits(self, rows: Array | None = None) -> Array:
        assert rows is not None
        self.looked += tuple(rows.tolist())
        return super().logits(rows)

    def top(self, count: int, banned: tuple[int, ...] = ()) -> tuple[Array, Array]:
        return DenseScores(self._logits).top(count, banned)


def test_beams_that_may_not_repeat_look_at_all_tokens_of_a_crowded_row_only() -> None:
    options = GenerationOptions(beams=2, no_repeat_ngram=1)
    search = BeamSearch([[1], [1]], options, forced=1, eos=99)
    for step in range(14):
        scores = Seldom(random_scores(2 if step == 0 else 4, 60, seed=step))
        search.advance(scores)
        assert bool(scores.looked) == (step >= SPARE)


def test_used_tokens_lose_whatever_their_sign_and_once_only() -> None:
    scores = np.array([[2.0, -2.0, 4.0, -4.0], [1.0, 1.0, 1.0, 1.0]])
    penalize_repetition(scores, np.array([[0, 1, 1, 0], [3, 3, 3, 2]]), 2.0)
    assert scores.tolist() == [[1.0, -4.0, 4.0, -4.0], [1.0, 1.0, 0.5, 0.5]]


def test_adjust_changes_nothing_unless_asked() -> None:
    scores, history = random_scores(), np.zeros((6, 3), np.int64)
    assert np.array_equal(adjust(scores, history, GenerationOptions()), random_scores())
    options = GenerationOptions(repetition_penalty=2.0, no_repeat_ngram=2, suppress=(5, 8))
    assert adjust(scores, history, options) is scores
    assert np.isneginf(scores).nonzero()[1].tolist() == [0, 5, 8] * 6


@pytest.mark.parametrize("k", [1, 2, 5, 9, 50])
def test_top_k_leaves_the_k_likeliest(k: int) -> None:
    scores, found = random_scores(), restrict(random_scores(), sampling(top_k=k))
    for row in range(len(scores)):
        likeliest = sorted(range(9), key=lambda token: -float(scores[row, token]))[:k]
        assert np.flatnonzero(np.isfinite(found[row])).tolist() == sorted(likeliest)
        assert np.array_equal(found[row, likeliest], scores[row, likeliest])


@pytest.mark.parametrize("p", [0.001, 0.3, 0.6, 0.9, 0.999])
def test_top_p_leaves_the_smallest_set_of_that_mass(p: float) -> None:
    found = restrict(random_scores(rows=40), sampling(top_p=p))
    for row, shares in enumerate(np.exp(log_softmax(random_scores(rows=40))).tolist()):
        kept: list[int] = []
        for token in sorted(range(9), key=lambda token: -shares[token]):
            if sum(shares[t] for t in kept) >= p:
                break
            kept.append(token)
        assert np.flatnonzero(np.isfinite(found[row])).tolist() == sorted(kept)


def test_temperature_comes_before_top_p() -> None:
    def restricted(**options: float) -> list[float]:
        return restrict(np.array([[2.0, 1.0, 0.0]]), sampling(**options))[0].tolist()

    assert restricted() == [2.0, 1.0, 0.0]
    assert restricted(temperature=0.5) == [4.0, 2.0, 0.0]
    assert restricted(top_p=0.7) == [2.0, 1.0, BANNED]
    assert restricted(top_p=0.7, temperature=0.5) == [4.0, BANNED, BANNED]


@pytest.mark.parametrize("p", [0.2, 0.5, 0.99])
def test_a_flat_distribution_needs_more_tokens_than_are_sorted_first(p: float) -> None:
    count = 20 * NUCLEUS
    flat = np.zeros((1, count), np.float32)
    found = restrict(flat, sampling(top_p=p))[0]
    assert np.flatnonzero(np.isfinite(found)).tolist() == list(range(math.ceil(p * count)))


@pytest.mark.parametrize(
    "options",
    [{"temperature": 0.7}, {"top_k": 4}, {"top_p": 0.8}, {"temperature": 1.3, "top_k": 6, "top_p": 0.7}],
    ids=str,
)
@pytest.mark.filterwarnings("ignore")
def test_restrictions_are_those_of_transformers(options: dict) -> None:
    warpers = pytest.importorskip("transformers.generation.logits_process")
    expected = torch.from_numpy(random_scores(rows=30))
    for name, warper in (
        ("temperature", warpers.TemperatureLogitsWarper),
        ("top_k", warpers.TopKLogitsWarper),
        ("top_p", warpers.TopPLogitsWarper),
    ):
        if name in options:
            expected = warper(options[name])(None, expected)
    found = restrict(random_scores(rows=30), sampling(**options))
    torch.testing.assert_close(torch.from_numpy(found), expected)


@pytest.mark.parametrize("banned", [(), (3,), (0, 5, 8)])
@pytest.mark.parametrize("count", [1, 4, 50])
def test_top_is_the_best_of_all_but_the_banned(count: int, banned: tuple[int, ...]) -> None:
    logits = random_scores()
    scores = DenseScores(logits)
    assert scores.rows == 6
    values, tokens = scores.top(count, banned)
    log_p = torch.from_numpy(logits).log_softmax(-1).numpy()  # among all tokens, banned ones with them
    for row in range(6):
        allowed = sorted(set(range(9)) - set(banned), key=lambda token: -float(log_p[row, token]))[:count]
        assert tokens[row, : len(allowed)].tolist() == allowed
        np.testing.assert_allclose(values[row, : len(allowed)], log_p[row, allowed], atol=1e-6)
        assert np.isneginf(values[row, len(allowed) :]).all()
    assert np.array_equal(scores.logits(), logits)


def test_of_equal_tokens_the_lower_ones_are_better() -> None:
    logits = np.tile(np.array([0.0, 2.0, 1.0], np.float32), (2, 50))
    for count in (1, 4, 50, 70):
        twos, ones = (list(range(first, 150, 3)) for first in (1, 2))
        assert DenseScores(logits).top(count)[1].tolist() == [(twos + ones)[:count]] * 2


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_row_without_numbers_is_an_error_and_not_a_choice(bad: float) -> None:
    logits = random_scores()
    logits[4] = bad
    for ask in (lambda scores: scores.top(2), lambda scores: scores.logits(np.array([4]))):
        with pytest.raises(NoNumbers, match="no numbers"):
            ask(DenseScores(logits))
    assert np.array_equal(DenseScores(logits).logits(np.array([1, 3])), logits[[1, 3]])


def test_half_precision_is_scored_in_full() -> None:
    logits = random_scores().astype(np.float16)
    values, tokens = DenseScores(logits).top(2)
    assert (values.dtype, tokens.dtype) == (np.float32, np.int64)
    whole = DenseScores(logits.astype(np.float32)).top(2)
    assert np.array_equal(values, whole[0])
    assert np.array_equal(tokens, whole[1])


def test_what_a_caller_does_to_the_scores_is_its_own_affair() -> None:
    logits = random_scores()
    scores = DenseScores(logits)
    for rows in (None, np.arange(6)):
        scores.logits(rows)[:] = 0
    assert np.array_equal(logits, random_scores())


@pytest.mark.parametrize("banned", [(), (1, 4)])
def test_tokens_are_drawn_by_their_probabilities(banned: tuple[int, ...]) -> None:
    scores = random_scores(1)[0]
    scores[list(banned)] = BANNED
    shares = np.exp(log_softmax(scores[None].copy())[0])
    drawn = [draw(scores, (number + 0.5) / 10000) for number in range(10000)]
    counts = np.bincount(drawn, minlength=9) / 10000
    np.testing.assert_allclose(counts, shares, atol=1.1e-4)
    assert draw(scores, 0.0) == 0
    assert draw(scores, 1 - 2**-53) == 8
    assert draw(np.full(3, BANNED), 0.5) == 0


@pytest.mark.parametrize(
    "options", [{"repetition_penalty": 1.7}, {"no_repeat_ngram": 1}, {"no_repeat_ngram": 2}]
)
def test_shorter_histories_change_scores_as_they_do_alone(options: dict) -> None:
    settings = GenerationOptions(**options)
    history = np.random.default_rng(1).integers(0, 4, (12, 9))
    lengths = [1, 2, 3, 9, 5, 1, 2, 7, 4, 6, 2, 8]
    for row, length in enumerate(lengths):
        history[row, : 9 - length] = -1
    found = adjust(random_scores(12), history, settings)
    for row, length in enumerate(lengths):
        alone = adjust(random_scores(12)[row : row + 1], history[row : row + 1, 9 - length :], settings)
        assert np.array_equal(found[row : row + 1], alone)


class Watched(DenseScores):
    """Notes for how many rows all scores are asked for at once."""

    def __init__(self, logits: Array) -> None:
        super().__init__(logits)
        self.asked: list[int] = []

    def logits(self, rows: Array | None = None) -> Array:
        found = super().logits(rows)
        self.asked.append(len(found))
        return found


SEARCHES = (
    GenerationOptions(beams=1),
    GenerationOptions(beams=4),
    GenerationOptions(beams=4, no_repeat_ngram=2, repetition_penalty=1.5, suppress=(3,)),
    GenerationOptions(beams=1, repetition_penalty=1.5),
    sampling(n_best=3, top_p=0.8, temperature=0.7),
)


@pytest.mark.parametrize(
    "options", SEARCHES, ids=["greedy", "beams", "penalties", "greedy penalties", "samples"]
)
def test_all_scores_are_looked_at_for_a_few_rows_at_a_time(options: GenerationOptions) -> None:
    prompts = [[row % 5, 4] for row in range(90)]
    searches = [
        new_search(prompts[rows], prompts[rows], options, forced=0, eos=0)
        for rows in (slice(90), *(slice(row, row + 1) for row in range(90)))
    ]
    whole, *single = searches
    logits = random_scores(90, 40)
    logits[:, 0] = -math.inf  # so that none ends
    for _ in range(3):
        scores = Watched(logits)
        chosen = whole.advance(scores)
        assert chosen is not None
        assert max(scores.asked) <= ROWS
        tokens = chosen[1]
        width = len(tokens) // 90
        for place, search in enumerate(single):
            part = logits[place * len(logits) // 90 : (place + 1) * len(logits) // 90]
            own = search.advance(DenseScores(part))
            assert own is not None
            assert np.array_equal(own[1][:, 0], tokens[place * width : (place + 1) * width, 0])
        logits = random_scores(90 * width, 40, seed=width)
        logits[:, 0] = -math.inf  # so that none ends
