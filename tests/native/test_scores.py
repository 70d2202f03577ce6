"""The best tokens are the best, whatever the rough pass made of them."""

import numpy as np
import pytest

from dragoman.errors import NoNumbers
from dragoman.kernels.arrays import Stored
from dragoman.kernels.head import Head
from dragoman.kernels.linear import Linear
from dragoman.kernels.packing import pack
from dragoman.native.scores import Choice, NativeScores

TOKENS, WIDTH = 5000, 96


@pytest.fixture
def weight() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((TOKENS, WIDTH), np.float32) * np.float32(WIDTH**-0.5)


@pytest.fixture
def hidden() -> np.ndarray:
    return 3 * np.random.default_rng(1).standard_normal((70, WIDTH), np.float32)


def screened(weight: np.ndarray, precision: str = "int8") -> Head:
    return Head.screened(Stored.of(weight), precision)


def unscreened(weight: np.ndarray, precision: str) -> Head:
    return Head(Linear(pack(Stored.of(weight), precision)), None)


def scores_of(head: Head, hidden: np.ndarray, extra: tuple[list[int], ...] | None = None) -> NativeScores:
    return NativeScores(hidden, [Choice(head, None, extra)])


def top(scores: NativeScores, count: int, banned: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
    values, tokens = scores.top(count, banned)
    return np.asarray(values), np.asarray(tokens)


def exact(weight: np.ndarray, hidden: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    logits = (hidden @ weight.T).astype(np.float64)
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    tokens = np.argsort(-logits)[:, :count]
    return np.take_along_axis(logits, tokens, 1), tokens


def test_the_best_tokens_are_exact(weight: np.ndarray, hidden: np.ndarray) -> None:
    scores, tokens = top(scores_of(screened(weight), hidden), 8)
    wanted, which = exact(weight, hidden, 8)
    assert np.array_equal(tokens, which)
    assert np.allclose(scores, wanted, atol=5e-3)
    # What remains of the rough pass is in the normaliser, which is the same for all tokens of a row.
    assert np.allclose(scores - scores[:, :1], wanted - wanted[:, :1], atol=1e-5)


def test_without_screen_everything_is_exact(weight: np.ndarray, hidden: np.ndarray) -> None:
    scores, tokens = top(scores_of(unscreened(weight, "fp32"), hidden), 5)
    wanted, which = exact(weight, hidden, 5)
    assert np.array_equal(tokens, which)
    assert np.allclose(scores, wanted, atol=1e-5)


def test_a_row_does_not_depend_on_its_neighbours(weight: np.ndarray, hidden: np.ndarray) -> None:
    head = screened(weight)
    together = top(scores_of(head, hidden), 4)
    for row in (0, 3, 69):
        alone = top(scores_of(head, hidden[row : row + 1].copy()), 4)
        assert np.array_equal(alone[0][0], together[0][row])
        assert np.array_equal(alone[1][0], together[1][row])


def test_banned_tokens_stay_out_but_count(weight: np.ndarray, hidden: np.ndarray) -> None:
    head, one = screened(weight), hidden[:1].copy()
    free_scores, free = top(scores_of(head, one), 3)
    scores, tokens = top(scores_of(head, one), 1, tuple(free[0, :2].tolist()))
    assert tokens[0, 0] == free[0, 2]
    assert abs(float(scores[0, 0] - free_scores[0, 2])) < 1e-2


def flat(tokens: int) -> np.ndarray:
    """Rows all but equal: 64 candidates of a rough pass might miss the best."""
    random = np.random.default_rng(6)
    near = np.float32(1e-3) * random.standard_normal((tokens, WIDTH), np.float32)
    return random.standard_normal((1, WIDTH), np.float32) + near


def fail_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Head, "in_full", lambda self, x: pytest.fail("scored in full"))


@pytest.mark.parametrize("tokens", [1000, 5000])
def test_the_best_of_a_flat_row_are_found(
    hidden: np.ndarray, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if tokens == 1000:  # of more than 4096 it isn't known which to keep
        fail_in_full(monkeypatch)
    weight, hidden = flat(tokens), hidden[:20].copy()
    scores, found = top(scores_of(screened(weight), hidden), 8)
    wanted, which = exact(weight, hidden, 8)
    assert np.allclose(scores, wanted, atol=1e-4)
    # Some are so near that the order of a sum's terms decides.
    assert (found == which).mean() > 0.95
    assert (np.diff(scores) <= 0).all()
    banned = (*found[0, :2].tolist(), 10**6)  # tokens beyond the vocabulary are ignored
    others = top(scores_of(screened(weight), hidden), 6, banned)
    assert np.array_equal(others[1][0], found[0, 2:])


def test_only_candidates_that_may_be_among_the_best_are_scored(
    hidden: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand tokens between which the rough pass can't decide, and 4,000 that are clearly worse."""
    fail_in_full(monkeypatch)
    weight = np.concatenate([np.float32(0.5) * flat(4000), flat(1000)])
    hidden = weight[-1] + np.float32(0.3) * hidden
    head = screened(weight)
    scores, tokens = top(scores_of(head, hidden), 8)
    wanted, which = exact(weight, hidden, 8)
    assert (tokens == which).mean() > 0.95
    assert np.allclose(scores, wanted, atol=5e-2)
    assert np.allclose(scores - scores[:, :1], wanted - wanted[:, :1], atol=1e-4)
    for row in (0, 69):
        alone = top(scores_of(head, hidden[row : row + 1].copy()), 8)
        assert np.array_equal(alone[0][0], scores[row])
        assert np.array_equal(alone[1][0], tokens[row])


def test_more_tokens_than_there_are_are_not_returned(hidden: np.ndarray) -> None:
    weight = np.random.default_rng(2).standard_normal((5, WIDTH), np.float32)
    scores, tokens = top(scores_of(screened(weight), hidden), 8)
    assert scores.shape == (70, 5)
    assert np.array_equal(np.sort(tokens), np.broadcast_to(np.arange(5), (70, 5)))


@pytest.mark.parametrize("head", [screened, lambda weight: unscreened(weight, "fp16")])
def test_a_cut_head_knows_its_tokens_only(head, weight: np.ndarray, hidden: np.ndarray) -> None:
    kept = np.arange(3, TOKENS, 7)
    cut = head(weight).cut(kept)
    scores, tokens = top(scores_of(cut, hidden), 8)
    wanted, which = exact(weight[kept], hidden, 8)
    assert (tokens == kept[which]).mean() > 0.98
    assert np.allclose(scores, wanted, atol=0.02)


def test_rows_may_have_tokens_of_their_own(weight: np.ndarray, hidden: np.ndarray) -> None:
    """A cut head and a row's extra tokens are as good as a head cut to both."""
    kept, more = np.arange(0, TOKENS, 9), [1, 2, 4, 3001]
    hidden = hidden[:2].copy()
    cut = scores_of(screened(weight).cut(kept), hidden, ([], more))
    both = scores_of(screened(weight).cut(np.array(sorted([*kept.tolist(), *more]))), hidden)
    for row, source in ((1, both), (0, scores_of(screened(weight).cut(kept), hidden))):
        scores, tokens = top(cut, 200)
        wanted, which = top(source, 200)
        assert np.array_equal(tokens[row], which[row])
        assert np.allclose(scores[row], wanted[row], atol=5e-3)
    logits = np.asarray(cut.logits())
    assert set(np.flatnonzero(np.isfinite(logits[1])).tolist()) == {*kept.tolist(), *more}


def test_rows_of_several_languages_choose_apart(weight: np.ndarray, hidden: np.ndarray) -> None:
    whole = screened(weight)
    first, second = whole.cut(np.arange(0, 900)), whole.cut(np.arange(900, 2000))
    rows = [np.arange(0, 70, 2), np.arange(1, 70, 2)]
    mixed = NativeScores(hidden, [Choice(first, rows[0]), Choice(second, rows[1])])
    scores, tokens = top(mixed, 3)
    for head, its in ((first, rows[0]), (second, rows[1])):
        alone = top(scores_of(head, hidden[its]), 3)
        assert np.array_equal(alone[0], scores[its])
        assert np.array_equal(alone[1], tokens[its])
    assert np.array_equal(np.asarray(mixed.logits()).argmax(-1), tokens[:, 0])


def test_many_wanted_tokens_are_not_scored_in_full(
    weight: np.ndarray, hidden: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = screened(weight)
    fail_in_full(monkeypatch)
    scores, tokens = top(scores_of(head, hidden), 128)
    wanted, which = exact(weight, hidden, 128)
    assert (tokens == which).mean() > 0.999
    assert np.allclose(scores, wanted, atol=5e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("kind", ["int8", "fp16", "no screen"])
def test_a_row_without_numbers_is_an_error_and_not_a_choice(
    weight: np.ndarray, hidden: np.ndarray, kind: str, bad: float
) -> None:
    head = unscreened(weight, "int8") if kind == "no screen" else screened(weight, kind)
    hidden[5] = np.where(np.arange(WIDTH) % 2 == 0, bad, -bad)
    for ask in (lambda scores: scores.top(4), lambda scores: scores.logits()):
        with pytest.raises(NoNumbers, match="no numbers"):
            ask(scores_of(head, hidden))
    assert np.isfinite(top(scores_of(head, hidden[:5].copy()), 4)[0]).all()


def test_a_token_that_the_rough_pass_does_not_see_is_found() -> None:
    """One number is so large that the rest of the row is nothing in 8 bits; the best candidate looks sure."""
    weight, hidden = np.zeros((5000, WIDTH), np.float32), np.zeros((1, WIDTH), np.float32)
    weight[5, 1], weight[4000, 2] = 1.0, 1.0
    hidden[0, 0], hidden[0, 1], hidden[0, 2] = 1000.0, 1.0, 2.0
    assert top(scores_of(screened(weight), hidden), 1)[1].tolist() == [[4000]]
