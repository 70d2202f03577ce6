"""An engine's thread: its life, a fork, the end of the process, and many who ask, with a toy for a model."""

import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import CancelledError
from typing import Any

import pytest

from tests.generation.engines import (
    GREEDY,
    SOON,
    Gate,
    Toys,
    alone,
    ended,
    engine_of,
    job,
    never_ending,
    same,
    thread_of,
)

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
import numpy as np
from dragoman.generation.engine import Engine, Job
from dragoman.generation.options import GenerationOptions
from dragoman.generation.scores import DenseScores

class State:
    def select(self, rows, beams): pass
    def join(self, other): pass

class Model:
    def begin(self, prompt): return State()
    def step(self, tokens, state):
        np.ones((200, 200)) @ np.ones((200, 200))
        return DenseScores(np.zeros((len(tokens), 9)) - 99.0 * (np.arange(9) == 0))
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
