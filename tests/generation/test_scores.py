import math

import pytest
import torch
from torch import Tensor

from dragoman.errors import NoNumbers
from dragoman.generation.beam import SPARE, BeamSearch
from dragoman.generation.options import GenerationOptions
from dragoman.generation.scores import (
    ROWS,
    DenseScores,
    adjust,
    ban_repeated_ngrams,
    penalize_repetition,
    repeated_tokens,
    restrict,
)
from dragoman.generation.search import new_search

BANNED = -math.inf


def random_scores(rows: int = 6, vocabulary: int = 9, seed: int = 0) -> Tensor:
    return 3 * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed))


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
    found = ban_repeated_ngrams(scores, torch.tensor([history]), size)
    expected = scores.clone()
    expected[0, banned] = BANNED
    assert torch.equal(found, expected)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_ngrams_are_banned_row_by_row(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    history = torch.randint(0, 4, (20, 12), generator=generator)
    scores = random_scores(20)
    found = ban_repeated_ngrams(scores, history, size)
    for row, past in enumerate(history.tolist()):
        seen = {tuple(past[i : i + size]) for i in range(len(past) - size + 1)}
        ending = past[len(past) - size + 1 :]
        banned = [token for token in range(9) if (*ending, token) in seen]
        assert found[row].isneginf().nonzero().flatten().tolist() == banned
        rest = [token for token in range(9) if token not in banned]
        assert torch.equal(found[row, rest], scores[row, rest])
        assert set(repeated_tokens(history, size)[row].tolist()) - {-1} == set(banned)


class Seldom(DenseScores):
    """Scores of which all tokens are looked at for some rows only."""

    looked: tuple[int, ...] = ()

    def logits(self, rows: Tensor | None = None) -> Tensor:
        assert rows is not None
        self.looked += tuple(rows.tolist())
        return super().logits(rows)

    def top(self, count: int, banned: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
        return DenseScores(self._logits).top(count, banned)


def test_beams_that_may_not_repeat_look_at_all_tokens_of_a_crowded_row_only() -> None:
    options = GenerationOptions(beams=2, no_repeat_ngram=1)
    search = BeamSearch([[1], [1]], options, forced=1, eos=99)
    generator = torch.Generator().manual_seed(7)
    for step in range(14):
        scores = Seldom(torch.randn(2 if step == 0 else 4, 60, generator=generator))
        search.advance(scores)
        assert bool(scores.looked) == (step >= SPARE)


def test_used_tokens_lose_whatever_their_sign_and_once_only() -> None:
    scores = torch.tensor([[2.0, -2.0, 4.0, -4.0], [1.0, 1.0, 1.0, 1.0]])
    history = torch.tensor([[0, 1, 1, 0], [3, 3, 3, 2]])
    expected = torch.tensor([[1.0, -4.0, 4.0, -4.0], [1.0, 1.0, 0.5, 0.5]])
    assert torch.equal(penalize_repetition(scores, history, 2.0), expected)


def test_adjust_changes_nothing_unless_asked_and_never_its_argument() -> None:
    scores, history = random_scores(), torch.zeros(6, 3, dtype=torch.long)
    before = scores.clone()
    assert adjust(scores, history, GenerationOptions()) is scores
    options = GenerationOptions(repetition_penalty=2.0, no_repeat_ngram=2, suppress=(5, 8))
    found = adjust(scores, history, options)
    assert torch.equal(scores, before)
    assert found.isneginf().nonzero()[:, 1].tolist() == [0, 5, 8] * 6


@pytest.mark.parametrize("k", [1, 2, 5, 9, 50])
def test_top_k_leaves_the_k_likeliest(k: int) -> None:
    scores = random_scores()
    found = restrict(scores, sampling(top_k=k))
    for row in range(len(scores)):
        likeliest = sorted(range(9), key=lambda token: -float(scores[row, token]))[:k]
        assert (~found[row].isneginf()).nonzero().flatten().tolist() == sorted(likeliest)
        assert torch.equal(found[row, likeliest], scores[row, likeliest])


@pytest.mark.parametrize("p", [0.001, 0.3, 0.6, 0.9, 0.999])
def test_top_p_leaves_the_smallest_set_of_that_mass(p: float) -> None:
    scores = random_scores(rows=40)
    found = restrict(scores, sampling(top_p=p))
    for row, shares in enumerate(scores.softmax(-1).tolist()):
        kept: list[int] = []
        for token in sorted(range(9), key=lambda token: -shares[token]):
            if sum(shares[t] for t in kept) >= p:
                break
            kept.append(token)
        assert (~found[row].isneginf()).nonzero().flatten().tolist() == sorted(kept)


def test_temperature_comes_before_top_p() -> None:
    scores = torch.tensor([[2.0, 1.0, 0.0]])
    assert torch.equal(restrict(scores, sampling(temperature=0.5)), scores * 2)
    assert int((~restrict(scores, sampling(top_p=0.7)).isneginf()).sum()) == 2
    assert int((~restrict(scores, sampling(top_p=0.7, temperature=0.5)).isneginf()).sum()) == 1
    assert restrict(scores, sampling()) is scores


@pytest.mark.parametrize(
    "options",
    [{"temperature": 0.7}, {"top_k": 4}, {"top_p": 0.8}, {"temperature": 1.3, "top_k": 6, "top_p": 0.7}],
    ids=str,
)
@pytest.mark.filterwarnings("ignore")
def test_restrictions_are_those_of_transformers(options: dict) -> None:
    warpers = pytest.importorskip("transformers.generation.logits_process")
    scores = random_scores(rows=30)
    expected = scores
    for name, warper in (
        ("temperature", warpers.TemperatureLogitsWarper),
        ("top_k", warpers.TopKLogitsWarper),
        ("top_p", warpers.TopPLogitsWarper),
    ):
        if name in options:
            expected = warper(options[name])(None, expected)
    torch.testing.assert_close(restrict(scores, sampling(**options)), expected)


@pytest.mark.parametrize("banned", [(), (3,), (0, 5, 8)])
@pytest.mark.parametrize("count", [1, 4, 50])
def test_top_is_the_best_of_all_but_the_banned(count: int, banned: tuple[int, ...]) -> None:
    logits = random_scores()
    scores = DenseScores(logits)
    assert scores.rows == 6
    values, tokens = scores.top(count, banned)
    log_p = logits.log_softmax(-1)  # among all tokens, banned ones with them
    for row in range(6):
        allowed = sorted(set(range(9)) - set(banned), key=lambda token: -float(log_p[row, token]))[:count]
        assert tokens[row, : len(allowed)].tolist() == allowed
        torch.testing.assert_close(values[row, : len(allowed)], log_p[row, allowed])
        assert values[row, len(allowed) :].isneginf().all()
    assert torch.equal(scores.logits(), logits)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_row_without_numbers_is_an_error_and_not_a_choice(bad: float) -> None:
    logits = random_scores()
    logits[4] = bad
    for ask in (lambda scores: scores.top(2), lambda scores: scores.logits(torch.tensor([4]))):
        with pytest.raises(NoNumbers, match="no numbers"):
            ask(DenseScores(logits))
    assert torch.equal(DenseScores(logits).logits(torch.tensor([1, 3])), logits[[1, 3]])


def test_half_precision_is_scored_in_full() -> None:
    logits = random_scores().bfloat16()
    values, _ = DenseScores(logits).top(2)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, logits.float().log_softmax(-1).topk(2).values)


@pytest.mark.parametrize(
    "options", [{"repetition_penalty": 1.7}, {"no_repeat_ngram": 1}, {"no_repeat_ngram": 2}]
)
def test_shorter_histories_change_scores_as_they_do_alone(options: dict) -> None:
    generator = torch.Generator().manual_seed(1)
    scores, settings = random_scores(12), GenerationOptions(**options)
    history = torch.randint(0, 4, (12, 9), generator=generator)
    lengths = [1, 2, 3, 9, 5, 1, 2, 7, 4, 6, 2, 8]
    for row, length in enumerate(lengths):
        history[row, : 9 - length] = -1
    found = adjust(scores, history, settings)
    for row, length in enumerate(lengths):
        alone = adjust(scores[row : row + 1], history[row : row + 1, 9 - length :], settings)
        assert torch.equal(found[row : row + 1], alone)


class Watched(DenseScores):
    """Notes for how many rows all scores are asked for at once."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__(logits)
        self.asked: list[int] = []

    def logits(self, rows: Tensor | None = None) -> Tensor:
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
            own = search.advance(logits[place * len(logits) // 90 : (place + 1) * len(logits) // 90])
            assert own is not None
            assert torch.equal(own[1][:, 0], tokens[place * width : (place + 1) * width, 0])
        logits = random_scores(90 * width, 40, seed=width)
        logits[:, 0] = -math.inf  # so that none ends
