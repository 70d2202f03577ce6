"""Beam search with terms that a result is to have."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from dragoman.generation.beam import BeamSearch
from dragoman.generation.engine import Engine, Job
from dragoman.generation.options import GenerationOptions
from dragoman.generation.scores import log_softmax
from dragoman.generation.search import Hypothesis
from dragoman.generation.terms import Progress, Term, Terms
from dragoman.models.prompt import Prompt

Toys = Callable[..., Any]
PROMPT = [0, 1]


def search(
    toy: Any, options: GenerationOptions, terms: Sequence[Sequence[Term]], kinds: Sequence[int] = (0,)
) -> list[list[Hypothesis]]:
    """What is found for sentences of these kinds; token 0 ends one."""
    ids = np.array(kinds)[:, None]
    prompts = np.array([PROMPT] * len(kinds))
    state = toy.begin(Prompt(ids, ids >= 0, prompts, prompts >= 0))
    wanted = [Terms(tuple(each)) if each else None for each in terms]
    beams = BeamSearch(prompts.tolist(), options, 1, 0, terms=wanted)
    tokens = prompts
    while (chosen := beams.advance(toy.step(tokens, state))) is not None:
        rows, tokens = chosen
        if rows is not None:
            state.select(rows, beams.width)
    return [beams.done[place] for place in range(len(kinds))]


def has(tokens: Sequence[int], term: Term) -> bool:
    return any(
        tuple(tokens[at : at + len(spelling)]) == spelling for spelling in term for at in range(len(tokens))
    )


def enumerated(toy: Any, kind: int, terms: Sequence[Term], most: int) -> list[tuple[tuple[int, ...], float]]:
    """Every sequence that has all terms, best first."""
    found: list[tuple[tuple[int, ...], float]] = []

    def extend(history: list[int], total: float) -> None:
        tokens = history[1:]
        if len(history) > len(PROMPT) and (history[-1] == 0 or len(tokens) == most):
            if all(has(tokens[1:], term) for term in terms):
                found.append((tuple(tokens), total / len(tokens)))
            return
        log_p = log_softmax(toy.logits(np.array([kind]), np.array([history])))[0]
        for token, value in enumerate(log_p.tolist()):
            extend([*history, token], total + value)

    extend(PROMPT, 0.0)
    return sorted(found, key=lambda one: -one[1])


@pytest.mark.parametrize(
    "terms",
    [
        [((2,),)],
        [((3, 3, 2),)],
        [((2, 3), (3, 1, 3))],
        [((2, 1),), ((3,),)],
        [((1, 2),), ((2, 1),)],
        [((1, 1, 1),)],
    ],
)
def test_with_beams_for_all_the_best_sequence_that_has_the_terms_is_found(toy: Toys, terms: Any) -> None:
    model = toy(kinds=3, seed=3)
    results = search(model, GenerationOptions(beams=64, max_new_tokens=6), [terms] * 3, [0, 1, 2])
    for kind, ranked in enumerate(results):
        tokens, score = enumerated(model, kind, terms, 6)[0]
        assert ranked[0].tokens == tokens
        assert ranked[0].score == pytest.approx(score, rel=1e-4)


def test_four_beams_find_a_term_that_is_long_and_unlikely(toy: Toys) -> None:
    table = np.zeros((1, 12, 12, 12), np.float32)
    table[..., 5:11] = -12.0  # the term's tokens
    table[..., 0] = 1.0
    for seed in range(5):
        noise = np.random.default_rng(seed).standard_normal(table.shape, np.float32)
        term = ((5, 6, 7, 8, 9, 10),)
        (ranked,) = search(toy(table=table + noise), GenerationOptions(max_new_tokens=24), [[term]])
        assert has(ranked[0].tokens, term)


def test_neighbours_with_and_without_terms_get_what_they_get_alone(toy: Toys) -> None:
    model, options = toy(kinds=4, seed=1), GenerationOptions(beams=4, n_best=3, max_new_tokens=9)
    terms: list[list[Term]] = [[((3, 2),)], [], [((2, 2),), ((1, 3),)], []]
    together = search(model, options, terms, [0, 1, 2, 3])
    alone = [search(model, options, [each], [kind])[0] for kind, each in enumerate(terms)]
    assert [[h.tokens for h in ranked] for ranked in together] == [
        [h.tokens for h in ranked] for ranked in alone
    ]
    plain = [search(model, options, [[]], [kind])[0] for kind in (1, 3)]
    assert [together[1], together[3]] == plain


def test_an_engine_takes_terms_beside_other_jobs(toy: Toys) -> None:
    model, options = toy(kinds=4, seed=1), GenerationOptions(beams=4, max_new_tokens=9)
    terms: list[list[Term]] = [[((3, 2),)], [], [((2, 2),), ((1, 3),)], []]
    alone = [search(model, options, [each], [kind])[0] for kind, each in enumerate(terms)]
    with Engine(model, pad=9, eos=0) as engine:
        jobs = [
            Job([kind], options, PROMPT, 1, terms=Terms(tuple(each)) if each else None)
            for kind, each in enumerate(terms)
        ]
        tickets = [engine.submit(job) for job in jobs]
        assert [ticket.result()[0].tokens for ticket in tickets] == [ranked[0].tokens for ranked in alone]


def test_what_can_not_have_its_terms_ends_at_its_limit(toy: Toys) -> None:
    table = np.zeros((1, 4, 4, 4), np.float32)
    table[..., 3] = -np.inf
    (ranked,) = search(toy(table=table), GenerationOptions(beams=2, max_new_tokens=5), [[((3,),)]])
    assert len(ranked[0].tokens) == 5
    assert 3 not in ranked[0].tokens


def test_progress_follows_terms_that_overlap() -> None:
    terms = Terms((((1, 2, 3), (7,)), ((2, 3, 4),)))
    progress = Progress()
    assert progress.next_tokens(terms.terms) == {1, 2, 7}
    for token in (1, 2):
        progress = progress.after(token, terms)
    assert progress.within == 2
    assert progress.next_tokens(terms.terms) == {1, 2, 3, 7}
    progress = progress.after(3, terms)
    assert (progress.met, progress.within) == ({0}, 2)
    assert progress.next_tokens(terms.terms) == {2, 4}
    assert progress.after(4, terms).met == {0, 1}
    assert progress.after(9, terms) == Progress(frozenset({0}))
    assert Progress().after(7, terms).met == {0}


def test_a_term_that_a_word_goes_on_with_is_not_there() -> None:
    terms = Terms((((1, 2),),), within_words=frozenset({5}))
    there = Progress().after(1, terms).after(2, terms)
    assert there.met == {0}
    assert there.after(5, terms).met == frozenset()
    assert there.after(6, terms).after(5, terms).met == {0}
