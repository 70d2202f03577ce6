"""Tickets for jobs that are done elsewhere, by an event loop's tasks."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

import pytest

from dragoman.errors import Overloaded
from dragoman.generation.engine import Job, OnTokens
from dragoman.generation.hypotheses import Hypothesis
from dragoman.generation.options import GenerationOptions
from dragoman.generation.remote import RemoteEngine

SOON = 60.0
FOUND = [Hypothesis((5, 6, 2), -0.5)]


class Hands:
    """A crew of which a test says what becomes of the jobs."""

    def __init__(self, does: Callable[[Job, OnTokens | None], Any]) -> None:
        self._does = does
        self.begun, self.stopped = threading.Event(), threading.Event()

    async def generate(self, job: Job, tell: OnTokens | None) -> list[Hypothesis]:
        self.begun.set()
        try:
            return await self._does(job, tell)
        except asyncio.CancelledError:
            self.stopped.set()
            raise


def job() -> Job:
    return Job((5, 6, 2), GenerationOptions(), (2, 7), 1)


async def at_once(job: Job, tell: OnTokens | None) -> list[Hypothesis]:
    return FOUND


async def never(job: Job, tell: OnTokens | None) -> list[Hypothesis]:
    await asyncio.Event().wait()
    raise AssertionError


def test_each_job_has_its_result(loop):
    async def by_source(job: Job, tell: OnTokens | None) -> list[Hypothesis]:
        return [Hypothesis(tuple(job.source), 0.0)]

    engine = RemoteEngine(Hands(by_source), loop)
    jobs = [Job((number, 2), GenerationOptions()) for number in range(20)]
    tickets = engine.submit_all(jobs)
    assert [ticket.result(SOON)[0].tokens for ticket in tickets] == [(number, 2) for number in range(20)]
    assert sorted(index for index, _ in engine.run(jobs, at_once=3)) == list(range(20))
    assert not engine.busy


def test_an_error_is_the_job_s_own(loop):
    async def fails(job: Job, tell: OnTokens | None) -> list[Hypothesis]:
        if job.source[0] == 1:
            raise ValueError("none")
        return FOUND

    engine = RemoteEngine(Hands(fails), loop)
    wrong, right = engine.submit_all([Job((1,), GenerationOptions()), Job((2,), GenerationOptions())])
    with pytest.raises(ValueError, match="none"):
        wrong.result(SOON)
    assert right.result(SOON) == FOUND


def test_a_cancelled_ticket_has_the_work_stopped_and_its_place_free(loop):
    hands = Hands(never)
    engine = RemoteEngine(hands, loop, most=1)
    ticket = engine.submit(job())
    assert hands.begun.wait(SOON)
    assert ticket.cancel()
    assert hands.stopped.wait(SOON)
    assert not engine.busy
    hands._does = at_once
    assert engine.submit(job(), timeout=SOON).result(SOON) == FOUND


def test_in_the_event_loop_nobody_waits_for_a_place(loop):
    engine = RemoteEngine(Hands(never), loop, most=1)
    first = engine.submit(job())

    async def one_more() -> None:
        engine.submit(job())

    with pytest.raises(Overloaded):
        asyncio.run_coroutine_threadsafe(one_more(), loop).result(SOON)
    first.cancel()


def test_who_listens_hears_each_token_once_whoever_began_anew(loop):
    async def twice(job: Job, tell: OnTokens | None) -> list[Hypothesis]:
        assert tell is not None
        for certain in ([5], [5, 6], [5], [5, 6, 2]):  # the second replica begins at the beginning
            tell(certain)
        return FOUND

    heard: list[int] = []
    engine = RemoteEngine(Hands(twice), loop)
    assert engine.submit(job(), heard.extend).result(SOON) == FOUND
    assert heard == [5, 6, 2]


def test_nobody_waits_for_an_engine_that_is_closed(loop):
    engine = RemoteEngine(Hands(never), loop)
    ticket = engine.submit(job())
    engine.close()
    with pytest.raises(CancelledError):
        ticket.result(SOON)
    with pytest.raises(RuntimeError, match="closed"):
        engine.submit(job())


def test_nothing_of_a_model_elsewhere_is_changed_from_here(loop):
    engine = RemoteEngine(Hands(at_once), loop)
    with pytest.raises(RuntimeError, match="elsewhere"):
        engine.between_steps(lambda: None)
    assert engine.memory == engine.turns == 0
