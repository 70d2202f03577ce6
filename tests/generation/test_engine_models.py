"""Continuous batching with real models: ids are those of sentence after sentence."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dragoman.checkpoints.llama import load_xalma
from dragoman.generation.engine import Engine, Job, Ticket
from dragoman.generation.hypotheses import Array, Hypothesis
from dragoman.generation.options import GenerationOptions
from dragoman.generation.scores import Scores
from dragoman.generation.search import complete, generate
from dragoman.models.llama import Llama
from dragoman.models.nllb import Nllb

Models = Callable[[str], Nllb]
SEARCHES: dict[str, dict[str, Any]] = {
    "greedy": {"beams": 1},
    "beams": {"beams": 4, "n_best": 2},
    "early": {"beams": 3, "early_stopping": True},
    "penalties": {"beams": 3, "no_repeat_ngram": 2, "repetition_penalty": 1.2, "early_stopping": "never"},
    "samples": {"beams": 1, "sample": True, "n_best": 3, "top_p": 0.9, "seed": 5},
}


@pytest.fixture(scope="module")
def xalma(golden_folder: Path) -> Llama:
    return load_xalma(golden_folder / "xalma")


def tokens(ranked: list[Hypothesis]) -> list[tuple[int, ...]]:
    return [hypothesis.tokens for hypothesis in ranked]


def at_random_times(engine: Engine, jobs: list[Job], chance: random.Random) -> dict[int, Ticket]:
    """Submit jobs between steps, and cancel some; the tickets of the others."""
    tickets: dict[int, Ticket] = {}
    todo = list(range(len(jobs)))
    while todo:
        while todo and chance.random() < 0.6:
            index = todo.pop()
            tickets[index] = engine.submit(jobs[index])
        if tickets and chance.random() < 0.1:
            chance.choice(list(tickets.values())).cancel()
        engine.between_steps(lambda: None)
    return {index: ticket for index, ticket in tickets.items() if not ticket.cancelled()}


def sources(chance: random.Random, count: int, vocabulary: int = 100) -> list[list[int]]:
    return [
        [chance.randrange(3, vocabulary) for _ in range(chance.randint(1, 14))] + [2] for _ in range(count)
    ]


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("name", ["nllb_dense", "nllb_moe_base"])
def test_sentences_that_come_and_go_are_translated_as_alone(name: str, search: str, golden: Models) -> None:
    model, chance = golden(name), random.Random(search)
    jobs = []
    for source in sources(chance, 24):
        options = GenerationOptions(max_new_tokens=chance.randint(2, 14), **SEARCHES[search])
        jobs.append(Job(source, options, prompt=(2, chance.choice((11, 12))), forced=1))
    tickets = at_random_times(Engine(model, rows=40), jobs, chance)
    assert len(tickets) > 12
    for index, ticket in tickets.items():
        ids, prompt = np.array([jobs[index].source]), np.array([jobs[index].prompt])
        (expected,) = generate(model, ids, ids >= 0, prompt, jobs[index].options)
        assert tokens(ticket.result()) == tokens(expected)
        scores = [h.score for h in expected]
        assert [h.score for h in ticket.result()] == pytest.approx(scores, abs=1e-3)


@pytest.mark.parametrize("search", SEARCHES)
def test_prompts_of_all_groups_that_come_and_go_are_continued_as_alone(search: str, xalma: Llama) -> None:
    chance = random.Random(search)
    jobs = []
    for source in sources(chance, 24):
        options = GenerationOptions(max_new_tokens=chance.randint(1, 14), **SEARCHES[search])
        jobs.append(Job((), options, prompt=source, group=chance.choice((1, 3, 6, 8))))
    tickets = at_random_times(Engine(xalma, pad=0, rows=40), jobs, chance)
    assert len(tickets) > 12
    for index, ticket in tickets.items():
        ids = np.array([jobs[index].prompt])
        (expected,) = complete(xalma, ids, ids >= 0, jobs[index].options, [jobs[index].group or 0])
        assert tokens(ticket.result()) == tokens(expected)


def test_a_group_that_is_not_attached_fails_its_own_job(golden_folder: Path) -> None:
    model = load_xalma(golden_folder / "xalma", groups=[1, 6])
    options = GenerationOptions(max_new_tokens=5)
    engine = Engine(model, pad=0)
    tickets = [engine.submit(Job((), options, prompt=[5, 6, 7], group=group)) for group in (1, 3, 6)]
    assert "group 3" in str(tickets[1].exception())
    assert [ticket.exception() for ticket in (tickets[0], tickets[2])] == [None, None]


@pytest.mark.parametrize("beams", [1, 4])
def test_beams_ask_for_the_best_tokens_only(beams: int, golden: Models) -> None:
    """A model that never forms the scores of all tokens can be searched."""
    model = golden("nllb_dense")

    class Best:
        def __init__(self, scores: Scores) -> None:
            self._scores, self.rows = scores, scores.rows

        def top(self, count: int, banned: tuple[int, ...] = ()) -> tuple[Array, Array]:
            assert (count, banned) == (2 * beams if beams > 1 else 1, (40, 41))
            return self._scores.top(count, banned)

        def logits(self, rows: Array | None = None) -> Array:
            raise AssertionError("all scores were asked for")

    class Frugal:
        begin = staticmethod(model.begin)
        state_bytes = staticmethod(model.state_bytes)

        @staticmethod
        def step(fed: Array, state: Any) -> Best:
            return Best(model.step(fed, state))

    chance = random.Random(0)
    options = GenerationOptions(beams=beams, max_new_tokens=10, suppress=(40, 41))
    jobs = [Job(source, options, prompt=(2, 12), forced=1) for source in sources(chance, 6)]
    found, expected = (dict(Engine(each).run(jobs, at_once=3)) for each in (Frugal, model))
    assert {i: tokens(ranked) for i, ranked in found.items()} == {
        i: tokens(ranked) for i, ranked in expected.items()
    }
