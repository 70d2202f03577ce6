"""Continuous batching: sentences are decoded side by side, and leave and join at any step."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from dragoman.generation.batch import Reader
from dragoman.generation.hypotheses import Hypothesis
from dragoman.generation.scheduler import Scheduler
from dragoman.generation.search import Model
from dragoman.generation.tickets import Job, OnTokens, Places, Ticket
from dragoman.generation.worker import Post, Worker, refuse_waiting
from dragoman.limits import memory_limit

__all__ = ["Engine", "Job", "OnTokens", "Places", "Ticket"]

T = TypeVar("T")


class Engine:
    """Generates for many jobs with one model, in a thread of its own.

    Any thread may submit, wait and cancel; what interrupts one of them (Ctrl-C, a signal handler's
    error) never reaches the engine. Results don't depend on what else is under way. The thread starts
    with the first job, sleeps while there is none, and ends with `close` or with the last reference to
    the engine. In a forked child the parent's jobs fail, and new ones start a thread of its own.
    """

    def __init__(
        self,
        model: Model,
        pad: int = 1,
        eos: int = 2,
        rows: int = 4096,
        memory: int | None = None,
        most: int = 16384,
    ) -> None:
        """model: what generates, with its padding and end tokens.

        rows: the most that are decoded together; memory: bytes for their keys and values, by
        default a quarter of the computer's; most: jobs that may wait or be under way, before `submit` has
        to wait itself.
        """
        memory = memory_limit() // 4 if memory is None else memory
        self._places = Places(most)
        self._scheduler = Scheduler(Reader(model, pad, eos), self._places, rows, memory)
        self._worker = Worker(self._scheduler)
        self._numbers = count(1)

    def submit(self, job: Job, on_tokens: OnTokens | None = None, timeout: float | None = None) -> Ticket:
        """Put a job in the queue.

        on_tokens is called, in the engine's thread, with tokens as soon as they are certain to be part of
        the best hypothesis; all of them together are that hypothesis. It must not block. While as many
        jobs as the engine takes are waiting or under way, this waits: for `timeout` seconds, and then
        raises Overloaded. (A callback's jobs never wait here.) RuntimeError if the engine is closed.
        """
        return self._submit([self._ticket(job, on_tokens)], timeout)[0]

    def submit_all(self, jobs: Sequence[Job], timeout: float | None = None) -> list[Ticket]:
        """As `submit`, for jobs that can be read together; all of them are submitted, or none."""
        return self._submit([self._ticket(job) for job in jobs], timeout)

    def run(
        self, jobs: Sequence[Job], at_once: int | None = None, timeout: float | None = None
    ) -> Iterator[tuple[int, list[Hypothesis]]]:
        """(index, hypotheses best first) of each job as it is done, long ones first.

        at_once: how many of them are under way at the most; timeout: seconds for all of them. Raises a
        job's error, or TimeoutError; whatever ends this early, the other jobs are cancelled.
        """
        for index, ticket in self.finished(jobs, at_once, timeout):
            yield index, ticket.result()

    def finished(
        self, jobs: Sequence[Job], at_once: int | None = None, timeout: float | None = None
    ) -> Iterator[tuple[int, Ticket]]:
        """As `run`, with tickets, so that an error is the job's own affair."""
        refuse_waiting()
        deadline = None if timeout is None else time.monotonic() + timeout
        at_once = min(len(jobs) if at_once is None else at_once, self._places.most)
        todo = deque(sorted(range(len(jobs)), key=lambda index: -len(jobs[index].reads)))
        pending: dict[Ticket, int] = {}
        done: SimpleQueue[Ticket] = SimpleQueue()
        try:
            while todo or pending:
                # A number of them together, so that they are read together.
                free = at_once - len(pending)
                if todo and (4 * free >= at_once or not pending):
                    places = [todo.popleft() for _ in range(min(free, len(todo)))]
                    fresh = [self._ticket(jobs[place]) for place in places]
                    pending.update(zip(fresh, places, strict=True))
                    for ticket in fresh:
                        ticket.add_done_callback(done.put)
                    self._submit(fresh, _left(deadline))
                try:
                    ticket = done.get(timeout=_left(deadline))
                except Empty:
                    raise TimeoutError(
                        f"{len(pending) + len(todo)} of {len(jobs)} jobs took too long"
                    ) from None
                yield pending.pop(ticket), ticket
        finally:
            for ticket in pending:
                ticket.cancel()

    def between_steps(self, change: Callable[[], T]) -> T:
        """Have a function called by the engine's thread when no step is under way, and wait for what it
        returns or raises: for changes to the model.

        Jobs wait meanwhile, so it should be short: read what it needs before.
        """
        refuse_waiting()
        future: Future[T] = Future()
        self._worker.do(partial(_call, future, change))
        try:
            return future.result()
        finally:
            future.cancel()  # interrupted while it waits: then it need not happen

    @property
    def memory(self) -> int:
        """Bytes for the keys, values and scores of what is decoded together."""
        return self._scheduler.memory

    @memory.setter
    def memory(self, count: int) -> None:
        self._scheduler.memory = count

    @property
    def busy(self) -> bool:
        """Whether jobs wait or are under way."""
        return bool(self._places.open())

    @property
    def turns(self) -> int:
        """How often it has begun a step: while it is `busy`, this stands still for as long as one takes."""
        return self._worker.turns

    def close(self) -> None:
        """Cancel what isn't done, and end the thread; RuntimeError for what is submitted from now on."""
        self._worker.closed = True
        for ticket in self._places.open():
            ticket.cancel()
        self._worker.close()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ticket(self, job: Job, on_tokens: OnTokens | None = None) -> Ticket:
        ticket = Ticket(job, next(self._numbers), on_tokens)
        # The ticket must not keep the model: it knows the places and the post only.
        ticket.add_done_callback(partial(_leave, self._places, self._worker.post))
        return ticket

    def _submit(self, tickets: list[Ticket], timeout: float | None) -> list[Ticket]:
        deadline = None if timeout is None else time.monotonic() + timeout
        left = tickets
        try:
            while left:
                number = self._places.take(left, deadline)
                self._enter(left[:number])
                left = left[number:]
        except BaseException:
            for ticket in tickets:
                ticket.cancel()
            raise
        return tickets

    def _enter(self, tickets: Sequence[Ticket]) -> None:
        """Have jobs done that have their places."""
        self._worker.do(partial(_add, tickets))


def _add(tickets: Sequence[Ticket], scheduler: Scheduler) -> None:
    scheduler.add(tickets)


def _leave(places: Places, post: Post, ticket: Any) -> None:
    """A ticket is done: if it was cancelled, the scheduler doesn't know yet."""
    places.leave(ticket)
    if ticket.cancelled():
        post.put(partial(_drop, ticket))
        ticket.set_running_or_notify_cancel()


def _drop(ticket: Ticket, scheduler: Scheduler) -> None:
    scheduler.drop([ticket])


def _call(future: "Future[T]", change: Callable[[], T], scheduler: Scheduler) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(change())
    except BaseException as error:
        future.set_exception(error)


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())
