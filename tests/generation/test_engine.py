"""An engine and its thread: who asks, waits, interrupts, forks and leaves, with a toy for a model."""

import asyncio
import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dragoman.errors import Overloaded
from dragoman.generation.engine import Engine, Job, Ticket
from dragoman.generation.hypotheses import Hypothesis
from dragoman.generation.options import GenerationOptions
from dragoman.generation.search import generate

Toys = Callable[..., Any]
GREEDY = GenerationOptions(beams=1)
BEAM = GenerationOptions(beams=3, n_best=2)
SAMPLE = GenerationOptions(beams=1, sample=True, n_best=2, seed=3)
SOON = 60.0  # seconds after which a test has failed


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


def never_ending(kinds: int, vocabulary: int = 8) -> Tensor:
    table = torch.randn(kinds, *[vocabulary] * 3, generator=torch.Generator().manual_seed(0))
    table[..., 0] = -200.0
    return table


class Gate:
    """Holds a toy's steps until it is opened."""

    def __init__(self, model: Any) -> None:
        self.reached, self._open = threading.Event(), threading.Event()
        model.before_step = self

    def __call__(self, state: Any) -> None:
        self.reached.set()
        assert self._open.wait(SOON)

    def open(self) -> None:
        self._open.set()


def threads_of_engines() -> int:
    return sum(thread.name == "dragoman-engine" for thread in threading.enumerate())


def ended(thread: threading.Thread) -> bool:
    thread.join(SOON)
    return not thread.is_alive()


def thread_of(engine: Engine) -> threading.Thread:
    return engine.between_steps(threading.current_thread)


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


# Some strike in callbacks of the garbage collector, where nobody can catch them.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
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


# The thread's life


def test_one_thread_does_all_the_work_and_sleeps_when_there_is_none(toy: Toys) -> None:
    model = toy(kinds=1)
    seen = set()
    model.before_step = lambda state: seen.add(threading.get_ident())
    engine = engine_of(model)
    for _ in range(3):
        list(engine.run([job(0), job(0)]))
    assert seen == {thread_of(engine).ident}
    assert threading.get_ident() not in seen
    turns = 0

    def count() -> bool:
        nonlocal turns
        turns += 1
        return False

    engine._scheduler.turn = count  # type: ignore[method-assign]
    engine.between_steps(lambda: None)
    time.sleep(0.2)
    assert turns <= 2


def test_close_cancels_what_is_not_done_and_ends_the_thread(toy: Toys) -> None:
    model = toy(kinds=1, table=never_ending(1))
    with engine_of(model) as engine:
        thread = thread_of(engine)
        ticket = engine.submit(job(0, GREEDY, most=4000))
    assert ticket.cancelled()
    assert ended(thread)
    engine.close()
    for late in (
        lambda: engine.submit(job(0)),
        lambda: list(engine.run([job(0)])),
        lambda: engine.between_steps(lambda: None),
    ):
        with pytest.raises(RuntimeError, match="closed"):
            late()
    assert not engine.busy


def test_close_wakes_who_waits(toy: Toys) -> None:
    model = toy(kinds=1)
    gate = Gate(model)
    engine = engine_of(model)
    ticket = engine.submit(job(0))
    problems: list[BaseException | None] = []

    def wait() -> None:
        try:
            ticket.result()
        except CancelledError as error:
            problems.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert gate.reached.wait(SOON)
    threading.Timer(0.05, gate.open).start()
    engine.close()
    assert ended(thread)
    assert len(problems) == 1


def test_an_engine_that_nobody_holds_frees_its_model_and_ends_its_thread(toy: Toys) -> None:
    model = toy(kinds=4)
    engine = engine_of(model)
    ticket = engine.submit(job(0))
    assert len(ticket.result(SOON)) == 2
    thread, gone = thread_of(engine), weakref.ref(engine._scheduler)
    gc.disable()  # no cycle holds it
    try:
        del engine
        assert ended(thread)
        assert gone() is None
    finally:
        gc.enable()


def test_jobs_of_an_engine_that_nobody_holds_are_done_all_the_same(toy: Toys) -> None:
    model = toy(kinds=4)
    gate = Gate(model)
    tickets = engine_of(model).submit_all([job(kind) for kind in range(4)])
    gc.collect()
    gate.open()
    for ticket in tickets:
        assert same(ticket.result(SOON), alone(model, ticket.job))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system doesn't fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("busy", [False, True])
def test_a_forked_child_has_a_thread_of_its_own_and_none_of_the_parent_s_jobs(busy: bool, toy: Toys) -> None:
    model = toy(kinds=4, table=never_ending(4))
    engine = engine_of(model)
    expected = alone(model, job(1))
    assert same(engine.submit(job(1)).result(SOON), expected)
    parents = engine.submit_all([job(2, GREEDY, most=3000)] * 3) if busy else []
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(int(SOON))
            right = all(isinstance(ticket.exception(SOON), RuntimeError) for ticket in parents)
            right &= not engine.busy
            right &= same(engine.submit(job(1)).result(SOON), expected)
            right &= all(same(ranked, expected) for _, ranked in engine.run([job(1)] * 9))
            code = 0 if right else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert all(len(ticket.result(SOON)[0].tokens) == 3000 for ticket in parents)
    assert same(engine.submit(job(1)).result(SOON), expected)


BUSY_AT_EXIT = """
import torch
from dragoman.generation.engine import Engine, Job
from dragoman.generation.options import GenerationOptions

class State:
    def select(self, rows, beams): pass
    def join(self, other): pass

class Model:
    def begin(self, prompt): return State()
    def step(self, tokens, state):
        torch.randn(200, 200) @ torch.randn(200, 200)
        return torch.zeros(len(tokens), 9).index_fill(1, torch.tensor([0]), -99.0)
    def state_bytes(self, *sizes): return 1

engine = Engine(Model(), pad=0, eos=0)
job = Job([1], GenerationOptions(beams=1, max_new_tokens=4096), (0, 1), 1)
engine.submit_all([job] * 4)
engine.between_steps(lambda: None)
print("bye")
{}
"""


@pytest.mark.parametrize("ending", ["", "raise SystemExit(0)", "del engine"])
def test_a_process_ends_while_its_engine_is_at_work(ending: str) -> None:
    code = BUSY_AT_EXIT.replace("{}", ending)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SOON)
    assert (found.returncode, found.stdout, found.stderr) == (0, "bye\n", "")


# Many threads


def storm(model: Any, jobs: int, threads: int = 8) -> list[str]:
    """Short jobs from several threads, some of them cancelled at random; what went wrong."""
    expected = [alone(model, job(kind, GREEDY)) for kind in range(4)]
    engine = engine_of(model, rows=40, most=200)
    problems: list[str] = []

    def ask(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(jobs // threads // 10):
            kinds = [chance.randrange(4) for _ in range(10)]
            tickets = [engine.submit(job(kind, GREEDY, 1 + kind), timeout=SOON) for kind in kinds]
            for ticket in tickets:
                if chance.random() < 0.3:
                    ticket.cancel()
            for kind, ticket in zip(kinds, tickets, strict=True):
                try:
                    if not ticket.cancelled() and not same(ticket.result(SOON), expected[kind]):
                        problems.append(f"{kind}: {ticket.result()}")
                except BaseException as error:
                    problems.append(repr(error))

    askers = [threading.Thread(target=ask, args=(seed,)) for seed in range(threads)]
    for thread in askers:
        thread.start()
    for thread in askers:
        thread.join()
    lanes = engine._scheduler._lanes
    if engine.busy or engine.between_steps(
        lambda: any(lane.waiting or lane.batch for lane in lanes.values())
    ):
        problems.append("something is left in the engine")
    return problems


def test_many_threads_submit_and_cancel(toy: Toys) -> None:
    assert storm(toy(kinds=4), 800) == []


@pytest.mark.slow
def test_twenty_thousand_jobs_leave_nothing_behind(toy: Toys) -> None:
    model = toy(kinds=4)
    assert storm(model, 20000) == []
    gc.collect()
    before, memory = len(gc.get_objects()), resident()
    model.rows.clear()
    model.read.clear()
    assert storm(model, 20000) == []
    model.rows.clear()
    model.read.clear()
    gc.collect()
    assert len(gc.get_objects()) < before + 200
    assert resident() < memory + 20 * 2**20


def resident() -> int:
    """Bytes of this process that lie in memory."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


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
        thread.join(timeout=SOON)
    assert right == [True] * 3
