"""Continuous batching, with a toy that is cheap to run and easy to break."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dragoman.errors import LanguageModuleError
from dragoman.generation.engine import Engine, Job, Ticket
from dragoman.generation.hypotheses import Hypothesis
from dragoman.generation.options import GenerationOptions
from dragoman.generation.search import generate

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
    ids = torch.tensor([one.source])
    return generate(model, ids, ids >= 0, torch.tensor([one.prompt]), one.options, one.forced, eos=0)[0]


def engine_of(model: Any, **limits: Any) -> Engine:
    return Engine(model, pad=0, eos=0, **limits)


def same(found: list[Hypothesis], expected: list[Hypothesis]) -> bool:
    return [h.tokens for h in found] == [h.tokens for h in expected] and [
        h.score for h in found
    ] == pytest.approx([h.score for h in expected], abs=1e-4)


def turn_until_done(engine: Engine, most: int = 2000) -> None:
    for _ in range(most):
        if not engine.turn():
            return
    raise AssertionError("the engine never came to an end")


# Results


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_results_are_those_of_each_alone_whatever_arrives_and_leaves_when(toy: Toys, data: Any) -> None:
    model = toy(kinds=4, seed=data.draw(st.integers(0, 5)))
    engine = engine_of(model, rows=data.draw(st.integers(1, 20)), memory=data.draw(st.integers(10, 400)))
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
            chance.choice(tickets)[1].cancel()
    turn_until_done(engine)
    for one, ticket, heard in tickets:
        if ticket.cancelled():
            continue
        assert same(ticket.result(), alone(model, one))
        if heard is not None:
            assert heard == list(ticket.result()[0].tokens)
    assert not engine._lanes


@pytest.mark.parametrize("at_once", [None, 1, 3, 50])
def test_run_gives_each_result_once_with_its_index(at_once: int | None, toy: Toys) -> None:
    model = toy(kinds=4)
    jobs = [job(i % 4, CASES[i % 3], 1 + i % 5, 1 + i % 9) for i in range(23)]
    found = list(engine_of(model).run(jobs, at_once))
    assert sorted(index for index, _ in found) == list(range(23))
    for index, ranked in found:
        assert same(ranked, alone(model, jobs[index]))


def test_nothing_to_do_gives_nothing(toy: Toys) -> None:
    engine = engine_of(toy())
    assert list(engine.run([])) == []
    assert engine.turn() is False


def test_given_tokens_alone_need_no_model(toy: Toys) -> None:
    model = toy()
    ((_, ranked),) = engine_of(model).run([job(0, most=1)])
    assert ranked == [Hypothesis((1,), 0.0)]
    assert model.rows == []


def test_jobs_with_other_limits_share_a_batch_and_others_take_turns(toy: Toys) -> None:
    model = toy(kinds=1, table=never_ending(1))
    jobs = [job(0, GREEDY, most=most) for most in (3, 9, 5)]
    results = dict(engine_of(model).run(jobs))
    assert [len(results[i][0].tokens) for i in range(3)] == [3, 9, 5]
    assert model.rows == [3, 3, 2, 2, 1, 1, 1, 1]
    model.rows.clear()
    engine = engine_of(model)
    for options in (GREEDY, BEAM):
        engine.submit(job(0, options, most=6))
    turn_until_done(engine)
    # Each lane's first step is made when it starts.
    assert model.rows == [1, 1, 1, 3, 1, 3, 1, 3, 1, 3]


def never_ending(kinds: int, vocabulary: int = 8) -> Tensor:
    table = torch.randn(kinds, *[vocabulary] * 3, generator=torch.Generator().manual_seed(0))
    table[..., 0] = -200.0
    return table


# Who is admitted


def test_longest_sentences_are_read_first_and_like_lengths_together(toy: Toys) -> None:
    model = toy(kinds=1)
    jobs = [job(0, GREEDY, length, most=2) for length in (2, 9, 4, 8, 3, 7)]
    list(engine_of(model, rows=2).run(jobs))
    assert model.read == [(2, 9), (2, 7), (2, 3)]


def test_rows_and_memory_are_never_exceeded(toy: Toys) -> None:
    model = toy(kinds=4)
    jobs = [job(i % 4, BEAM, 1 + i % 7, 4 + i % 5) for i in range(40)]
    list(engine_of(model, rows=10).run(jobs))
    assert max(model.rows) == 9  # three sentences of three beams
    model.rows.clear()
    # A sentence takes at most 7 + 3 * 8 = 31.
    list(engine_of(model, memory=130).run(jobs))
    assert 12 <= max(model.rows) <= 21


def test_a_job_too_large_for_any_room_runs_alone(toy: Toys) -> None:
    model = toy(kinds=1)
    engine = engine_of(model, rows=2, memory=5)
    assert len(list(engine.run([job(0, BEAM, 4), job(0, BEAM, 9)]))) == 2
    assert [count for count, _ in model.read] == [1, 1]


def test_newcomers_wait_until_a_quarter_of_the_room_is_free(toy: Toys) -> None:
    model = toy(kinds=1, table=never_ending(1))
    engine = engine_of(model, rows=8)
    for most in (4, 6, 8, *[20] * 5, 9, 9, 9):
        engine.submit(job(0, GREEDY, most=most))
    turn_until_done(engine)
    # One left after the third step, so one could have come in; but two come together.
    assert [count for count, _ in model.read] == [8, 2, 1]


def test_what_is_read_together_is_bounded_with_its_padding(toy: Toys) -> None:
    model = toy(kinds=1)
    list(engine_of(model).run([job(0, GREEDY, length=3000, most=3) for _ in range(5)]))
    assert model.read == [(2, 3000), (2, 3000), (1, 3000)]


def test_short_sentences_are_not_passed_over_for_ever(toy: Toys) -> None:
    model = toy(kinds=1)
    engine = engine_of(model, rows=1)
    engine.submit(job(0, GREEDY, length=5, most=3))
    short = engine.submit(job(0, GREEDY, length=1, most=3))
    for _ in range(200):
        engine.submit(job(0, GREEDY, length=5, most=3))
        engine.turn()
    assert short.done()


def test_a_long_queue_does_not_keep_out_other_options(toy: Toys) -> None:
    model = toy(kinds=1, table=never_ending(1))
    engine = engine_of(model, rows=4)
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
    engine = engine_of(model)
    tickets = [engine.submit(job(0, BEAM, most=20)) for _ in range(4)]
    engine.turn()
    assert model.rows == [4, 12]
    assert tickets[1].cancel()
    assert tickets[2].cancel()
    engine.turn()
    assert model.rows == [4, 12, 6]
    turn_until_done(engine)
    assert not tickets[0].cancel()
    assert same(tickets[0].result(), alone(model, job(0, BEAM, most=20)))
    with pytest.raises(CancelledError):
        tickets[1].result()


def test_cancelled_before_its_start_is_never_read(toy: Toys) -> None:
    model = toy(kinds=1)
    engine = engine_of(model)
    engine.submit(job(0)).cancel()
    assert engine.turn() is False
    assert model.read == []


def test_who_stops_listening_to_run_cancels_the_rest(toy: Toys) -> None:
    model = toy(kinds=1, table=never_ending(1))
    engine = engine_of(model)
    running = engine.run([job(0, GREEDY, most=most) for most in (3, 50, 50)])
    next(running)
    running.close()
    assert engine.turn() is False


# Errors


def test_one_bad_job_fails_alone(toy: Toys) -> None:
    def refuse(ids: Tensor) -> None:
        if bool((ids[:, 0] == 3).any()):
            raise LanguageModuleError("a row needs the module of group 3")

    model = toy(kinds=4)
    model.before_begin = refuse
    engine = engine_of(model)
    tickets = [engine.submit(job(kind)) for kind in (0, 1, 3, 2, 3, 1)]
    turn_until_done(engine)
    for ticket in tickets:
        if ticket.job.source[0] == 3:
            assert isinstance(ticket.exception(), LanguageModuleError)
        else:
            assert same(ticket.result(), alone(model, ticket.job))
    with pytest.raises(LanguageModuleError):
        list(engine.run([job(0), job(3), job(1)]))
    assert same(next(engine.run([job(2)]))[1], alone(model, job(2)))


@pytest.mark.parametrize("kinds", [MemoryError, torch.OutOfMemoryError, RuntimeError])
def test_out_of_memory_means_fewer_at_once_and_no_lost_result(kinds: type[Exception], toy: Toys) -> None:
    model = toy(kinds=4)

    def run_out(state: Any) -> None:
        if len(state.source) > 7:
            raise kinds("DefaultCPUAllocator: can't allocate memory")

    model.before_step = run_out
    engine = engine_of(model)
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
    engine = engine_of(model)
    tickets = [engine.submit(job(kind)) for kind in (0, 2, 1, 3)]
    turn_until_done(engine)
    assert isinstance(tickets[1].exception(), MemoryError)
    assert all(
        same(ticket.result(), alone(model, ticket.job)) for ticket in tickets if ticket is not tickets[1]
    )
    model.before_step = lambda state: None
    assert same(next(engine.run([job(2)]))[1], alone(model, job(2)))


def test_an_error_in_the_middle_hits_only_the_job_to_blame(toy: Toys) -> None:
    model = toy(kinds=4, table=never_ending(4))

    def fail_late(state: Any) -> None:
        if state.history.shape[1] > 4 and bool((state.source == 1).any()):
            raise ValueError("a bad sentence")

    model.before_step = fail_late
    engine = engine_of(model)
    tickets = [engine.submit(job(kind)) for kind in (0, 2, 1, 3, 0, 2)]
    turn_until_done(engine)
    assert isinstance(tickets[2].exception(), ValueError)
    assert all(ticket.exception() is None for ticket in tickets if ticket is not tickets[2])
    assert engine._ceiling == engine.rows


def test_an_interruption_reaches_the_caller_and_leaves_the_others_their_results(toy: Toys) -> None:
    model = toy(kinds=4)
    engine = engine_of(model)
    other = engine.submit(job(1))
    running = engine.run([job(0), job(2)])

    def interrupt(state: Any) -> None:
        model.before_step = lambda state: None
        raise KeyboardInterrupt

    model.before_step = interrupt
    with pytest.raises(KeyboardInterrupt):
        list(running)
    turn_until_done(engine)
    assert same(other.result(), alone(model, job(1)))


# Listening


def heard_while(engine: Engine, one: Job) -> tuple[list[list[int]], list[Hypothesis]]:
    """The pieces that came, and the result."""
    pieces: list[list[int]] = []
    ticket = engine.submit(one, pieces.append)
    turn_until_done(engine)
    return pieces, ticket.result()


@pytest.mark.parametrize("options", [GREEDY, replace(GREEDY, sample=True, seed=4)], ids=["greedy", "sample"])
def test_each_token_is_told_at_once_without_beams(options: GenerationOptions, toy: Toys) -> None:
    model = toy(kinds=1, table=never_ending(1))
    pieces, ranked = heard_while(engine_of(model), job(0, options, most=7))
    assert pieces == [[1, ranked[0].tokens[1]], *([token] for token in ranked[0].tokens[2:])]


def test_beams_tell_what_all_of_them_begin_with(toy: Toys) -> None:
    early = 0
    for seed in range(20):
        model = toy(kinds=1, seed=seed, vocabulary=6)
        pieces, ranked = heard_while(engine_of(model), job(0, replace(BEAM, beams=4), most=12))
        assert [token for piece in pieces for token in piece] == list(ranked[0].tokens)
        early += len(pieces) > 2
    assert early >= 5


def test_a_listener_that_fails_harms_only_itself(toy: Toys) -> None:
    def fail(tokens: list[int]) -> None:
        raise OSError("the reader went away")

    model = toy(kinds=4)
    engine = engine_of(model)
    bad, good = engine.submit(job(0), fail), engine.submit(job(1))
    turn_until_done(engine)
    assert isinstance(bad.exception(), OSError)
    assert same(good.result(), alone(model, job(1)))


def test_a_listener_may_cancel_but_not_wait(toy: Toys) -> None:
    model = toy(kinds=1, table=never_ending(1))
    engine = engine_of(model)
    tickets: list[Ticket] = []
    tickets.append(engine.submit(job(0, GREEDY, most=50), lambda tokens: tickets[0].cancel() or None))
    turn_until_done(engine)
    assert tickets[0].cancelled()
    assert len(model.rows) <= 2
    waiting = engine.submit(job(0), lambda tokens: list(engine.run([job(0)])))  # type: ignore[arg-type]
    turn_until_done(engine)
    with pytest.raises(RuntimeError, match="can't wait"):
        waiting.result()


# Threads


def test_many_threads_submit_and_cancel_while_one_turns(toy: Toys) -> None:
    model = toy(kinds=4)
    expected = [alone(model, job(kind)) for kind in range(4)]
    engine = engine_of(model, rows=30)
    stop = threading.Event()
    problems: list[str] = []

    def turn() -> None:
        while not stop.is_set():
            engine.turn()

    def ask(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(20):
            kind = chance.randrange(4)
            ticket = engine.submit(job(kind))
            if chance.random() < 0.3:
                ticket.cancel()
            elif not same(ticket.result(timeout=30), expected[kind]):
                problems.append(f"{kind}: {ticket.result()}")

    turner = threading.Thread(target=turn)
    askers = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in (turner, *askers):
        thread.start()
    for thread in askers:
        thread.join()
    stop.set()
    turner.join()
    assert problems == []
    turn_until_done(engine)


def test_several_threads_run_their_jobs_on_one_engine(toy: Toys) -> None:
    model = toy(kinds=4)
    expected = [alone(model, job(kind)) for kind in range(4)]
    engine = engine_of(model)
    right: list[bool] = []

    def work(shift: int) -> None:
        jobs = [job((i + shift) % 4) for i in range(30)]
        results = dict(engine.run(jobs, at_once=7))
        right.append(all(same(results[i], expected[(i + shift) % 4]) for i in range(30)))

    threads = [threading.Thread(target=work, args=(shift,)) for shift in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert right == [True] * 3


def test_nobody_turns_while_the_engine_is_paused(toy: Toys) -> None:
    model = toy(kinds=1)
    engine = engine_of(model)
    ticket = engine.submit(job(0))
    thread = threading.Thread(target=lambda: turn_until_done(engine))
    with engine.paused():
        thread.start()
        thread.join(timeout=0.2)
        assert model.rows == []
        assert not ticket.done()
    thread.join(timeout=30)
    assert ticket.done()
