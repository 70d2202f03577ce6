from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dragoman.generation.hypotheses import Array
from dragoman.generation.options import GenerationOptions
from dragoman.generation.scores import log_softmax
from dragoman.generation.search import Hypothesis, generate
from dragoman.models.nllb import Nllb

Models = Callable[[str], Nllb]
Toys = Callable[..., Any]
Sources = tuple[Array, Array]


def draw(model: Any, sources: Sources, **options: Any) -> list[list[Hypothesis]]:
    """Samples of a golden model."""
    ids, keep = sources
    settings = GenerationOptions(**{"beams": 1, "sample": True, "max_new_tokens": 10} | options)
    return generate(model, ids, keep, np.array([[2, 12]] * len(ids)), settings)


def draw_toy(model: Any, count: int = 1, **options: Any) -> list[tuple[int, ...]]:
    """Samples of a toy for `count` different sources of kind 0, of which token 0 is the end."""
    ids = np.stack([np.zeros(count, np.int64), np.arange(count) + 2], 1)
    settings = GenerationOptions(**{"beams": 1, "sample": True, "max_new_tokens": 4} | options)
    prompt = np.array([[0, 1]] * count)
    return [h.tokens for ranked in generate(model, ids, ids >= 0, prompt, settings, eos=0) for h in ranked]


def shares(model: Any, before: int, last: int, temperature: float = 1.0) -> Array:
    """The probabilities of a toy's next token, [vocabulary]."""
    logits = model.logits(np.array([0]), np.array([[before, last]])) / temperature
    return np.exp(log_softmax(logits)[0])


def tokens(results: list[list[Hypothesis]]) -> list[list[tuple[int, ...]]]:
    return [[h.tokens for h in ranked] for ranked in results]


def test_same_seed_gives_the_same_and_another_another(golden: Models, sources: Sources) -> None:
    model = golden("nllb_dense")
    first = draw(model, sources, seed=7)
    assert draw(model, sources, seed=7) == first
    others = [tokens(draw(model, sources, seed=seed)) for seed in (0, 8, 7 + 10**6)]
    assert all(other != tokens(first) for other in others)
    assert others[0] != others[1]


@pytest.mark.parametrize("name", ["nllb_dense", "nllb_moe_base"])
@pytest.mark.parametrize("n_best", [1, 3])
def test_sample_is_independent_of_the_batch_and_its_padding(
    name: str, n_best: int, golden: Models, sources: Sources
) -> None:
    model, (ids, keep) = golden(name), sources
    options = {"seed": 5, "n_best": n_best, "top_p": 0.9}
    together = tokens(draw(model, sources, **options))
    assert len({len(ranked[0]) for ranked in together}) > 1
    for row in range(len(ids)):
        alone = draw(model, (ids[row, keep[row]][None], keep[row, keep[row]][None]), **options)
        assert tokens(alone)[0] == together[row]
    order = [6, 2, 0, 5, 1, 3, 4]
    shuffled = tokens(draw(model, (ids[order], keep[order]), **options))
    assert shuffled == [together[i] for i in order]


def test_samples_of_a_sentence_differ_and_come_best_first(golden: Models, sources: Sources) -> None:
    for ranked in draw(golden("nllb_dense"), sources, n_best=5):
        assert len(ranked) == 5
        assert len({h.tokens for h in ranked}) >= 3
        scores = [h.score for h in ranked]
        assert scores == sorted(scores, reverse=True)


def test_more_samples_of_a_sentence_do_not_change_the_first_ones(golden: Models, sources: Sources) -> None:
    few, many = (tokens(draw(golden("nllb_dense"), sources, n_best=n)) for n in (2, 6))
    assert all(set(a) <= set(b) for a, b in zip(few, many, strict=True))


def test_samples_follow_the_model(toy: Toys) -> None:
    model = toy(kinds=1, seed=2)
    found = Counter(draw_toy(model, count=100, n_best=64, max_new_tokens=3))
    first = shares(model, 0, 1)
    total = 6400
    for token in range(4):
        share = sum(count for drawn, count in found.items() if drawn[1] == token) / total
        assert share == pytest.approx(float(first[token]), abs=0.025)
    second = shares(model, 1, 2)
    after = [found[(1, 2, token)] for token in range(4)]
    assert [n / sum(after) for n in after] == pytest.approx(second.tolist(), abs=0.05)


@pytest.mark.parametrize(
    "options", [{"top_k": 2}, {"top_p": 0.6}, {"top_k": 3, "top_p": 0.8, "temperature": 1.5}], ids=str
)
def test_restricted_samples_stay_within_the_likeliest(options: dict, toy: Toys) -> None:
    model = toy(kinds=1, vocabulary=6, seed=3)
    used: dict[tuple[int, int], set[int]] = {}
    for drawn in draw_toy(model, count=20, n_best=20, max_new_tokens=4, **options):
        history = (0, *drawn)
        for i in range(2, len(history)):
            used.setdefault((history[i - 2], history[i - 1]), set()).add(history[i])
    assert len(used) > 4
    full = 0
    for pair, seen in used.items():
        chances = shares(model, *pair, temperature=options.get("temperature", 1.0))
        ranked = (-chances).argsort().tolist()[: options.get("top_k", 6)]
        chances = chances / chances[ranked].sum()
        allowed: set[int] = set()
        for token in ranked:
            if chances[list(allowed)].sum() >= options.get("top_p", 1.0):
                break
            allowed.add(token)
        assert seen <= allowed
        full += seen == allowed
    assert full > len(used) / 3  # rare pairs aside, all that is allowed gets drawn


@pytest.mark.parametrize("options", [{"temperature": 0.01}, {"top_k": 1}, {"top_p": 0.001}], ids=str)
def test_sampling_without_freedom_is_greedy(options: dict, golden: Models, sources: Sources) -> None:
    model = golden("nllb_dense")
    greedy = draw(model, sources, sample=False)
    sampled = draw(model, sources, **options)
    assert tokens(sampled) == tokens(greedy)
    scores = [[ranked[0].score for ranked in results] for results in (sampled, greedy)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_score_of_a_sample_is_the_models_own_probability(toy: Toys) -> None:
    model = toy(kinds=1)
    ids = np.zeros((1, 1), np.int64)
    options = GenerationOptions(beams=1, sample=True, temperature=3.0, n_best=20, max_new_tokens=4)
    (ranked,) = generate(model, ids, ids >= 0, np.array([[0, 1]]), options, eos=0)
    for h in ranked:
        history = [0, *h.tokens]
        total = 0.0
        for i in range(2, len(history)):
            total += np.log(shares(model, *history[i - 2 : i])[history[i]])
        assert h.score == pytest.approx(total / len(h.tokens), abs=1e-4)


def test_bans_hold_for_samples(golden: Models, sources: Sources) -> None:
    results = draw(golden("nllb_dense"), sources, n_best=4, suppress=(2, 21, 48), no_repeat_ngram=1)
    for ranked in results:
        for h in ranked:
            assert not {2, 21, 48} & set(h.tokens)
            assert len(set(h.tokens)) == len(h.tokens) == 10


def test_finished_samples_leave_the_batch(toy: Toys) -> None:
    model = toy(kinds=1, seed=2)
    lengths = [len(drawn) for drawn in draw_toy(model, count=3, n_best=4, max_new_tokens=6)]
    assert len(set(lengths)) > 2
    live = [sum(length > done for length in lengths) for done in range(2, max(lengths))]
    assert model.rows == [3, *live]
