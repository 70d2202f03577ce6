"""An engine and its thread: who asks, waits, interrupts, forks and leaves, with a toy for a model."""

import asyncio
import gc
import random
import signal
import threading
import time
from concurrent.futures import CancelledError
from typing import Any

import pytest

from dragoman.errors import Overloaded
from dragoman.generation.engine import Ticket
from dragoman.generation.hypotheses import Hypothesis
from tests.generation.engines import (
    BEAM,
    GREEDY,
    SAMPLE,
    SOON,
    Gate,
    Toys,
    alone,
    ended,
    engine_of,
    job,
    never_ending,
    same,
    threads_of_engines,
)

# Results


@pytest.mark.parametrize("at_once", [None, 1, 3, 50])
def test_run_gives_each_result_once_with_its_index(at_once: int | None, toy: Toys) -> None:
    model = toy(kinds=4)
    jobs = [job(i % 4, (GREEDY, BEAM, SAMPLE)[i % 3], 1 + i % 5, 1 + i % 9) for i in range(23)]
    found = list(engine_of(model).run(jobs, at_once))
    assert sorted(index for index, _ in found) == list(range(23))
    for index, ranked in found:
        assert same(ranked, alone(model, jobs[index]))


def test_nothing_to_do_gives_nothing_and_starts_no_thread(toy: Toys) -> None:
    before = threads_of_engines()
    engine = engine_of(toy())
    assert list(engine.run([])) == []
    assert engine.submit_all([]) == []
    assert not engine.busy
    assert threads_of_engines() == before


def test_given_tokens_alone_need_no_model(toy: Toys) -> None:
    model = toy()
    ((_, ranked),) = engine_of(model).run([job(0, most=1)])
    assert ranked == [Hypothesis((1,), 0.0)]
    assert model.rows == []


def test_jobs_that_are_submitted_together_are_read_together(toy: Toys) -> None:
    model = toy()
    for ticket in engine_of(model).submit_all([job(0) for _ in range(50)]):
        ticket.result(SOON)
    assert model.read == [(50, 1)]


# Cancelling, and running out of time


def test_a_cancelled_job_frees_its_place_at_the_next_step(toy: Toys) -> None:
    model = toy(kinds=1, table=never_ending(1))
    gate = Gate(model)
    engine = engine_of(model)
    tickets = engine.submit_all([job(0, BEAM, most=6) for _ in range(3)])
    assert gate.reached.wait(SOON)
    assert tickets[1].cancel()
    gate.open()
    assert same(tickets[0].result(SOON), alone(model, tickets[0].job))
    assert model.rows[:3] == [3, 9, 6]  # the turn that was under way made two steps
    with pytest.raises(CancelledError):
        tickets[1].result()


def test_who_stops_listening_to_run_cancels_the_rest(toy: Toys) -> None:
    model = toy(kinds=1, table=never_ending(1))
    engine = engine_of(model)
    running = engine.run([job(0, GREEDY, most=most) for most in (3, 2000, 2000)])
    next(running)
    running.close()
    assert not engine.busy
    assert engine.between_steps(lambda: len(engine._scheduler._lanes)) <= 1
    steps = engine.between_steps(lambda: len(model.rows))
    assert steps < 2000
    assert engine.between_steps(lambda: len(model.rows)) == steps


def test_jobs_that_take_too_long_are_cancelled_and_the_engine_goes_on(toy: Toys) -> None:
    model = toy(kinds=1)
    gate = Gate(model)
    engine = engine_of(model)
    with pytest.raises(TimeoutError, match="2 of 2 jobs"):
        list(engine.run([job(0), job(0)], timeout=0.05))
    assert not engine.busy
    ticket = engine.submit(job(0))
    with pytest.raises(TimeoutError):
        ticket.result(timeout=0.01)
    gate.open()
    assert same(ticket.result(SOON), alone(model, job(0)))


def test_a_task_that_is_cancelled_in_an_event_loop_cancels_its_job(toy: Toys) -> None:
    model = toy(kinds=1)
    gate = Gate(model)
    engine = engine_of(model)

    async def ask() -> Ticket:
        ticket = engine.submit(job(0))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(ticket), 0.02)
        return ticket

    assert asyncio.run(ask()).cancelled()
    assert not engine.busy
    gate.open()


# Interruptions of those who wait


class SoftTimeLimit(BaseException):
    """What a task queue raises in the middle of anything."""


class Alarm:
    """Once it is armed, `strike` makes a signal handler raise an error in the main thread, one time."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error, self.armed = error, False

    def __enter__(self) -> "Alarm":
        self._before = signal.signal(signal.SIGUSR1, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        self.armed = False
        signal.signal(signal.SIGUSR1, self._before)

    def _handle(self, *_: object) -> None:
        if self.armed:
            self.armed = False
            raise self.error

    def strike(self) -> None:
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)  # type: ignore[arg-type]


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("error", [KeyboardInterrupt, SoftTimeLimit, TimeoutError])
def test_an_interruption_reaches_who_waits_at_once_and_cancels_only_its_jobs(
    error: type[BaseException], toy: Toys
) -> None:
    model = toy(kinds=4)
    gate = Gate(model)
    engine = engine_of(model)
    other = engine.submit(job(1))
    assert gate.reached.wait(SOON)
    with Alarm(error) as alarm:
        alarm.armed = True
        threading.Timer(0.2, alarm.strike).start()
        with pytest.raises(error):  # struck while it waits
            list(engine.run([job(0) for _ in range(300)], at_once=64))
    assert engine._places.open() == [other]
    gate.open()
    assert same(other.result(SOON), alone(model, job(1)))
    assert not engine.busy
    assert same(next(engine.run([job(2)]))[1], alone(model, job(2)))


@pytest.mark.usefixtures("no_collection")
def test_interruptions_at_any_moment_lose_no_ticket(toy: Toys) -> None:
    model = toy(kinds=4)
    expected = [alone(model, job(kind)) for kind in range(4)]
    engine = engine_of(model, rows=20, most=60)
    stop, chance = threading.Event(), random.Random(1)
    interrupted = 0
    with Alarm(KeyboardInterrupt) as alarm:

        def harass() -> None:
            while not stop.is_set():
                time.sleep(chance.random() * 0.004)
                alarm.strike()

        harasser = threading.Thread(target=harass)
        harasser.start()
        for _ in range(40):
            try:
                alarm.armed = True
                list(engine.run([job(0) for _ in range(30)], at_once=20))
                alarm.armed = False
            except KeyboardInterrupt:
                interrupted += 1
        stop.set()
        harasser.join()
    assert interrupted
    gc.collect()
    jobs = [job(kind % 4) for kind in range(200)]
    found = dict(engine.run(jobs, timeout=SOON))
    assert all(same(found[i], expected[i % 4]) for i in range(200))
    assert not engine.busy


def test_an_error_that_is_no_exception_is_the_job_s_own(toy: Toys) -> None:
    model = toy(kinds=4)

    def leave(state: Any) -> None:
        if bool((state.source == 2).any()):
            raise SystemExit(3)

    model.before_step = leave
    engine = engine_of(model)
    tickets = engine.submit_all([job(kind) for kind in (0, 2, 1)])
    assert isinstance(tickets[1].exception(SOON), SystemExit)
    assert same(tickets[0].result(SOON), alone(model, job(0)))
    assert same(tickets[2].result(SOON), alone(model, job(1)))


# Listeners


@pytest.mark.parametrize("error", [OSError, asyncio.CancelledError, SystemExit])
def test_a_listener_that_fails_harms_only_itself(error: type[BaseException], toy: Toys) -> None:
    def fail(tokens: list[int]) -> None:
        raise error("the reader went away")

    model = toy(kinds=4)
    engine = engine_of(model)
    bad, good = engine.submit(job(0), fail), engine.submit(job(1))
    assert isinstance(bad.exception(SOON), error)
    assert same(good.result(SOON), alone(model, job(1)))
    assert same(engine.submit(job(2)).result(SOON), alone(model, job(2)))


@pytest.mark.parametrize("error", [OSError, asyncio.CancelledError])
def test_a_done_callback_that_fails_is_logged_and_keeps_no_other_from_its_word(
    error: type[BaseException], toy: Toys, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(ticket: Ticket) -> None:
        raise error("the loop is closed")

    model = toy(kinds=1)
    gate = Gate(model)
    engine = engine_of(model)
    ticket, told = engine.submit(job(0)), threading.Event()
    ticket.add_done_callback(fail)
    ticket.add_done_callback(lambda _: told.set())
    gate.open()
    assert told.wait(SOON)
    assert same(ticket.result(), alone(model, job(0)))
    assert "done callback" in caplog.text


def test_a_listener_may_cancel_but_not_wait(toy: Toys) -> None:
    model = toy(kinds=1, table=never_ending(1))
    engine = engine_of(model)
    tickets: list[Ticket] = []
    ready = threading.Event()

    def cancel(tokens: list[int]) -> None:
        assert ready.wait(SOON)
        tickets[0].cancel()

    tickets.append(engine.submit(job(0, GREEDY, most=50), cancel))
    ready.set()
    with pytest.raises(CancelledError):
        tickets[0].result(SOON)
    assert len(model.rows) <= 2
    for wait in (
        lambda tokens: list(engine.run([job(0)])),
        lambda tokens: engine.submit(job(0)).result(),
        lambda tokens: engine.submit(job(0)).exception(),
        lambda tokens: engine.between_steps(lambda: None),
    ):
        with pytest.raises(RuntimeError, match="can't wait"):
            engine.submit(job(0), wait).result(SOON)


# More than is taken on


def test_a_full_queue_waits_and_then_refuses(toy: Toys) -> None:
    model = toy(kinds=4)
    gate = Gate(model)
    engine = engine_of(model, most=2)
    first = engine.submit_all([job(0), job(1)])
    with pytest.raises(Overloaded, match="2 jobs"):
        engine.submit(job(2), timeout=0.01)
    with pytest.raises(Overloaded):
        engine.submit_all([job(2)] * 3, timeout=0)
    assert first[0].cancel()
    third = engine.submit(job(2), timeout=SOON)  # its place is free before the step is over
    waiting: list[Ticket] = []
    thread = threading.Thread(target=lambda: waiting.append(engine.submit(job(3))))
    thread.start()
    gate.open()
    assert ended(thread)
    for ticket in (first[1], third, waiting[0]):
        assert same(ticket.result(SOON), alone(model, ticket.job))


def test_more_jobs_than_places_are_all_done(toy: Toys) -> None:
    model = toy(kinds=4)
    engine = engine_of(model, most=5)
    jobs = [job(i % 4) for i in range(40)]
    assert len(dict(engine.run(jobs, timeout=SOON))) == 40
    assert all(same(t.result(SOON), alone(model, t.job)) for t in engine.submit_all(jobs))


def test_a_callback_s_job_finds_a_place(toy: Toys) -> None:
    model = toy(kinds=4)
    engine = engine_of(model, most=1)
    second: list[Ticket] = []
    told = threading.Event()

    def go_on(ticket: Ticket) -> None:
        second.append(engine.submit(job(2)))
        told.set()

    engine.submit(job(1)).add_done_callback(go_on)
    assert told.wait(SOON)
    assert same(second[0].result(SOON), alone(model, job(2)))


# Changes to the model


def test_changes_come_between_two_steps(toy: Toys) -> None:
    model = toy(kinds=1, table=never_ending(1))
    stepping: list[bool] = []
    model.before_step = lambda state: stepping.append(True)
    engine = engine_of(model)
    tickets = engine.submit_all([job(0, GREEDY, most=300)])
    for _ in range(20):
        assert engine.between_steps(lambda: len(stepping) - len(model.rows)) == 0
    assert len(tickets[0].result(SOON)[0].tokens) == 300


def test_what_a_change_raises_is_its_caller_s_alone(toy: Toys) -> None:
    model = toy(kinds=4)
    engine = engine_of(model)
    ticket = engine.submit(job(0))
    with pytest.raises(ZeroDivisionError):
        engine.between_steps(lambda: 1 // 0)
    assert same(ticket.result(SOON), alone(model, job(0)))


def test_a_broken_scheduler_fails_its_jobs_and_none_hangs(toy: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    model = toy(kinds=4)
    engine = engine_of(model)
    with monkeypatch.context() as patch:
        patch.setattr("dragoman.generation.scheduler.choose", lambda *_: 1 // 0)
        for ticket in engine.submit_all([job(0), job(1)]):
            assert isinstance(ticket.exception(SOON), ZeroDivisionError)
    assert same(engine.submit(job(1)).result(SOON), alone(model, job(1)))
