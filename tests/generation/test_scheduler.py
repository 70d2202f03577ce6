"""Continuous batching turn by turn, with a toy that is cheap to run and easy to break."""

import random
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.errors import LanguageModuleError
from dragoman.generation.batch import Reader
from dragoman.generation.hypotheses import Array, Hypothesis
from dragoman.generation.options import GenerationOptions
from dragoman.generation.scheduler import Scheduler
from dragoman.generation.search import generate
from dragoman.generation.tickets import Job, OnTokens, Places, Ticket

Toys = Callable[..., Any]
GREEDY = GenerationOptions(beams=1)
BEAM = GenerationOptions(beams=3, n_best=2)
CASES = (
    GREEDY,
    BEAM,
    GenerationOptions(beams=4, length_penalty=-1.0),
    GenerationOptions(beams=2, early_stopping=True, no_repeat_ngram=3, repetition_penalty=1.3),
    GenerationOptions(beams=4, early_stopping="never", length_penalty=2.0, suppress=(3,)),
    GenerationOptions(beams=1, sample=True, n_best=2, seed=3),
    GenerationOptions(beams=1, no_repeat_ngram=2),
)


def job(kind: int, options: GenerationOptions = BEAM, length: int = 1, most: int = 8) -> Job:
    """One for the toy, whose source's first token is all it reads; token 0 is the end."""
    source = [kind, *range(1, length)]
    return Job(source, replace(options, max_new_tokens=most), prompt=(0, 1), forced=1)


def alone(model: Any, one: Job) -> list[Hypothesis]:
    """What comes out when there is nothing else."""
    ids = np.array([one.source])
    return generate(model, ids, ids >= 0, np.array([one.prompt]), one.options, one.forced, eos=0)[0]


class Desk:
    """A scheduler whose turns are taken by hand."""

    def __init__(self, model: Any, rows: int = 4096, memory: int = 10**9) -> None:
        self.places = Places(10**6)
        self.scheduler = Scheduler(Reader(model, 0, 0), self.places, rows, memory)
        self.count = 0

    def submit(self, job: Job, on_tokens: OnTokens | None = None) -> Ticket:
        self.count += 1
        ticket = Ticket(job, self.count, on_tokens)
        self.places.take([ticket], None)
        self.scheduler.add([ticket])
        return ticket

    def cancel(self, ticket: Ticket) -> bool:
        if not ticket.cancel():
            return False
        self.scheduler.drop([ticket])
        return True

    def turn(self) -> bool:
        return self.scheduler.turn()

    def run(self, jobs: Sequence[Job]) -> dict[int, list[Hypothesis]]:
        tickets = [self.submit(job) for job in jobs]
        turn_until_done(self)
        return {index: ticket.result() for index, ticket in enumerate(tickets)}


def same(found: list[Hypothesis], expected: list[Hypothesis]) -> bool:
    return [h.tokens for h in found] == [h.tokens for h in expected] and [
        h.score for h in found
    ] == pytest.approx([h.score for h in expected], abs=1e-4)


def turn_until_done(engine: Desk, most: int = 2000) -> None:
    for _ in range(most):
        if not engine.turn():
            return
    raise AssertionError("the engine never came to an end")


# Results


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_results_are_those_of_each_alone_whatever_arrives_and_leaves_when(toy: Toys, data: Any) -> None:
    model = toy(kinds=4, seed=data.draw(st.integers(0, 5)))
    engine = Desk(model, rows=data.draw(st.integers(1, 20)), memory=data.draw(st.integers(10, 400)))
    chance = random.Random(data.draw(st.integers(0, 10**6)))
    tickets: list[tuple[Job, Ticket, list[int] | None]] = []
    for _ in range(data.draw(st.integers(1, 30))):
        action = chance.choice(("submit", "submit", "turn", "turn", "cancel"))
        if action == "submit":
            options = chance.choice(CASES[: chance.choice((1, 2, 7))])
            one = job(chance.randrange(4), options, chance.randint(1, 5), chance.randint(1, 12))
            heard: list[int] | None = [] if chance.random() < 0.5 else None
            tickets.append((one, engine.submit(one, None if heard is None else heard.extend), heard))
        elif action == "turn":
            engine.turn()
        elif tickets:
            engine.cancel(chance.choice(tickets)[1])
    turn_until_done(engine)
    for one, ticket, heard in tickets:
        if ticket.cancelled():
            continue
        assert same(ticket.result(), alone(model, one))
        if heard is not None:
            assert heard == list(ticket.result()[0].tokens)
    assert not engine.scheduler._lanes


def test_jobs_with_other_limits_share_a_batch_and_others_take_turns(toy: Toys) -> None:
    model = toy(kinds=1, table=never_ending(1))
    jobs = [job(0, GREEDY, most=most) for most in (3, 9, 5)]
    results = Desk(model).run(jobs)
    assert [len(results[i][0].tokens) for i in range(3)] == [3, 9, 5]
    assert model.rows == [3, 3, 2, 2, 1, 1, 1, 1]
    model.rows.clear()
    engine = Desk(model)
    for options in (GREEDY, BEAM):
        engine.submit(job(0, options, most=6))
    turn_until_done(engine)
    # Each lane's first step is made when it starts.
    assert model.rows == [1, 1, 1, 3, 1, 3, 1, 3, 1, 3]


def never_ending(kinds: int, vocabulary: int = 8) -> Array:
    table = np.random.default_rng(0).standard_normal((kinds, *[vocabulary] * 3), np.float32)
    table[..., 0] = -200.0
    return table


# Who is admitted


def test_longest_sentences_are_read_first_and_like_lengths_together(toy: Toys) -> None:
    model = toy(kinds=1)
    jobs = [job(0, GREEDY, length, most=2) for length in (2, 9, 4, 8, 3, 7)]
    Desk(model, rows=2).run(jobs)
    assert model.read == [(2, 9), (2, 7), (2, 3)]


def test_rows_and_memory_are_never_exceeded(toy: Toys) -> None:
    model = toy(kinds=4)
    jobs = [job(i % 4, BEAM, 1 + i % 7, 4 + i % 5) for i in range(40)]
    Desk(model, rows=10).run(jobs)
    assert max(model.rows) == 9  # three sentences of three beams
    model.rows.clear()
    # A sentence takes at most 7 + 3 * 8 = 31.
    Desk(model, memory=130).run(jobs)
    assert 12 <= max(model.rows) <= 21


def test_a_job_too_large_for_any_room_runs_alone(toy: Toys) -> None:
    model = toy(kinds=1)
    engine = Desk(model, rows=2, memory=5)
    assert len(engine.run([job(0, BEAM, 4), job(0, BEAM, 9)])) == 2
    assert [count for count, _ in model.read] == [1, 1]


def test_newcomers_wait_until_a_quarter_of_the_room_is_free(toy: Toys) -> None:
    model = toy(kinds=1, table=never_ending(1))
    engine = Desk(model, rows=8)
    for most in (4, 6, 8, *[20] * 5, 9, 9, 9):
        engine.submit(job(0, GREEDY, most=most))
    turn_until_done(engine)
    # One left after the third step, so one could have come in; but two come together.
    assert [count for count, _ in model.read] == [8, 2, 1]


def test_those_who_come_step_after_step_are_read_two_steps_at_a_time(toy: Toys) -> None:
    model = toy(kinds=1, table=never_ending(1))
    engine = Desk(model)

    def come(count: int) -> None:
        for _ in range(count):
            engine.submit(job(0, GREEDY, most=30))
        engine.turn()

    for count in (16, 1, 1, 1, 1):
        come(count)
    assert [count for count, _ in model.read] == [16, 2, 2]
    come(5)  # a quarter of those that run waits for nobody
    assert [count for count, _ in model.read] == [16, 2, 2, 5]
    for count in (0, 0, 1):  # neither does one that comes while nobody else does
        come(count)
    assert [count for count, _ in model.read] == [16, 2, 2, 5, 1]


def test_what_is_read_together_is_bounded_with_its_padding(toy: Toys) -> None:
    model = toy(kinds=1)
    Desk(model).run([job(0, GREEDY, length=3000, most=3) for _ in range(5)])
    assert model.read == [(2, 3000), (2, 3000), (1, 3000)]


def test_short_sentences_are_not_passed_over_for_ever(toy: Toys) -> None:
    model = toy(kinds=1)
    engine = Desk(model, rows=1)
    engine.submit(job(0, GREEDY, length=5, most=3))
    short = engine.submit(job(0, GREEDY, length=1, most=3))
    for _ in range(200):
        engine.submit(job(0, GREEDY, length=5, most=3))
        engine.turn()
    assert short.done()


def test_short_sentences_get_their_turn_however_many_have_been_passed_over(toy: Toys) -> None:
    model = toy(kinds=1)
    engine = Desk(model, rows=1)
    engine.submit(job(0, GREEDY, length=5, most=3))
    short = engine.submit(job(0, GREEDY, length=1, most=3))
    # More arrive than can be served, so that in the end all of them have lost their patience.
    for _ in range(400):
        engine.submit(job(0, GREEDY, length=5, most=3))
        engine.submit(job(0, GREEDY, length=5, most=3))
        engine.turn()
    assert short.done()
    assert short.passed_over <= 16


def test_a_long_queue_does_not_keep_out_other_options(toy: Toys) -> None:
    model = toy(kinds=1, table=never_ending(1))
    engine = Desk(model, rows=4)
    for _ in range(40):
        engine.submit(job(0, GREEDY, most=6))
    other = engine.submit(job(0, replace(GREEDY, repetition_penalty=2.0), most=3))
    turns = 0
    while not other.done():
        engine.turn()
        turns += 1
    assert turns < 15


# Cancelling


def test_cancelled_jobs_free_their_place_at_once(toy: Toys) -> None:
    model = toy(kinds=1, table=never_ending(1))
    engine = Desk(model)
    tickets = [engine.submit(job(0, BEAM, most=20)) for _ in range(4)]
    engine.turn()
    assert model.rows == [4, 12]
    assert engine.cancel(tickets[1])
    assert engine.cancel(tickets[2])
    engine.turn()
    assert model.rows == [4, 12, 6]
    turn_until_done(engine)
    assert not engine.cancel(tickets[0])
    assert same(tickets[0].result(), alone(model, job(0, BEAM, most=20)))
    with pytest.raises(CancelledError):
        tickets[1].result()


def test_cancelled_before_its_start_is_never_read(toy: Toys) -> None:
    model = toy(kinds=1)
    engine = Desk(model)
    engine.cancel(engine.submit(job(0)))
    assert engine.turn() is False
    assert model.read == []


# Errors


def test_one_bad_job_fails_alone(toy: Toys) -> None:
    def refuse(ids: Array) -> None:
        if bool((ids[:, 0] == 3).any()):
            raise LanguageModuleError("a row needs the module of group 3")

    model = toy(kinds=4)
    model.before_begin = refuse
    engine = Desk(model)
    tickets = [engine.submit(job(kind)) for kind in (0, 1, 3, 2, 3, 1)]
    turn_until_done(engine)
    for ticket in tickets:
        if ticket.job.source[0] == 3:
            assert isinstance(ticket.exception(), LanguageModuleError)
        else:
            assert same(ticket.result(), alone(model, ticket.job))
    with pytest.raises(LanguageModuleError):
        engine.run([job(0), job(3), job(1)])
    assert same(engine.run([job(2)])[0], alone(model, job(2)))


@pytest.mark.parametrize("kinds", [MemoryError, torch.OutOfMemoryError, RuntimeError])
def test_out_of_memory_means_fewer_at_once_and_no_lost_result(kinds: type[Exception], toy: Toys) -> None:
    model = toy(kinds=4)

    def run_out(state: Any) -> None:
        if len(state.source) > 7:
            raise kinds("DefaultCPUAllocator: can't allocate memory")

    model.before_step = run_out
    engine = Desk(model)
    jobs = [job(i % 4, CASES[i % 2], 1 + i % 3, 3 + i % 9) for i in range(20)]
    heard: list[list[int]] = [[] for _ in jobs]
    tickets = [engine.submit(one, listen.extend) for one, listen in zip(jobs, heard, strict=True)]
    turn_until_done(engine)
    for one, ticket, listened in zip(jobs, tickets, heard, strict=True):
        assert same(ticket.result(), alone(model, one))
        assert listened == list(ticket.result()[0].tokens)


def test_what_fails_alone_fails_with_its_error_and_the_next_may_try_again(toy: Toys) -> None:
    model = toy(kinds=4)

    def run_out(state: Any) -> None:
        if bool((state.source == 2).any()):
            raise MemoryError("no room")

    model.before_step = run_out
    engine = Desk(model)
    tickets = [engine.submit(job(kind)) for kind in (0, 2, 1, 3)]
    turn_until_done(engine)
    assert isinstance(tickets[1].exception(), MemoryError)
    assert all(
        same(ticket.result(), alone(model, ticket.job)) for ticket in tickets if ticket is not tickets[1]
    )
    model.before_step = lambda state: None
    assert same(engine.run([job(2)])[0], alone(model, job(2)))


def test_an_error_in_the_middle_hits_only_the_job_to_blame(toy: Toys) -> None:
    model = toy(kinds=4, table=never_ending(4))

    def fail_late(state: Any) -> None:
        if state.history.shape[1] > 4 and bool((state.source == 1).any()):
            raise ValueError("a bad sentence")

    model.before_step = fail_late
    engine = Desk(model)
    tickets = [engine.submit(job(kind)) for kind in (0, 2, 1, 3, 0, 2)]
    turn_until_done(engine)
    assert isinstance(tickets[2].exception(), ValueError)
    assert all(ticket.exception() is None for ticket in tickets if ticket is not tickets[2])
    assert engine.scheduler._ceiling == engine.scheduler.rows


# Listening


def heard_while(engine: Desk, one: Job) -> tuple[list[list[int]], list[Hypothesis]]:
    """The pieces that came, and the result."""
    pieces: list[list[int]] = []
    ticket = engine.submit(one, pieces.append)
    turn_until_done(engine)
    return pieces, ticket.result()


@pytest.mark.parametrize("options", [GREEDY, replace(GREEDY, sample=True, seed=4)], ids=["greedy", "sample"])
def test_each_token_is_told_at_once_without_beams(options: GenerationOptions, toy: Toys) -> None:
    model = toy(kinds=1, table=never_ending(1))
    pieces, ranked = heard_while(Desk(model), job(0, options, most=7))
    assert pieces == [[1, ranked[0].tokens[1]], *([token] for token in ranked[0].tokens[2:])]


def test_beams_tell_what_all_of_them_begin_with(toy: Toys) -> None:
    early = 0
    for seed in range(20):
        model = toy(kinds=1, seed=seed, vocabulary=6)
        pieces, ranked = heard_while(Desk(model), job(0, replace(BEAM, beams=4), most=12))
        assert [token for piece in pieces for token in piece] == list(ranked[0].tokens)
        early += len(pieces) > 2
    assert early >= 5
