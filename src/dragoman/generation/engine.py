"""Continuous batching: sentences are decoded side by side, and leave and join at any step."""

import contextlib
import threading
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from dragoman.generation.batch import Batch, Ended, Reader
from dragoman.generation.hypotheses import Hypothesis
from dragoman.generation.jobs import Job, OnTokens, Ticket
from dragoman.generation.lanes import Lane, choose
from dragoman.generation.options import GenerationOptions
from dragoman.generation.search import given
from dragoman.memory import memory_limit

__all__ = ["Engine", "Job", "Ticket"]

Key = tuple[GenerationOptions, int, int, bool]
"""What jobs in one batch have in common."""


class Engine:
    """Generates for many jobs with one model.

    Any thread may submit and cancel. One thread at a time takes a turn; results don't depend on
    what else is under way.
    """

    def __init__(
        self,
        model: Any,
        decoder_only: bool = False,
        pad: int = 1,
        eos: int = 2,
        device: torch.device | str = "cpu",
        rows: int = 4096,
        memory: int | None = None,
    ) -> None:
        """model: an `EncoderDecoder`, or else a `DecoderOnly` one, with its padding and end tokens.

        rows: the most that are decoded together; memory: bytes for their keys and values, by
        default half of the accelerator's that are free, or a quarter of the computer's.
        """
        self._reader = Reader(model, decoder_only, pad, eos, device)
        self.rows = rows
        self.memory = _budget(torch.device(device)) if memory is None else memory
        self._ceiling = float(rows)  # lower for a while after memory ran out
        self._lock = threading.Lock()  # guards the lanes, who waits in them, and the count
        self._lanes: dict[Key, Lane] = {}
        self._leaving: deque[Ticket] = deque()  # cancelled, but not yet gone
        self._count = self._admissions = 0
        self._turning = threading.Lock()
        self._turner: int | None = None
        self._turned = threading.Condition()

    # For any thread

    def submit(self, job: Job, on_tokens: OnTokens | None = None) -> Ticket:
        """Put a job in the queue.

        on_tokens is called, by the thread that turns, with tokens as soon as they are certain to
        be part of the best hypothesis; all of them together are that hypothesis.
        """
        most, forced = job.options.max_new_tokens, job.forced
        with self._lock:
            self._count += 1
            ticket = Ticket(job, self._count, on_tokens)
            if most > forced:
                prompt = 0 if self._reader.decoder_only else len(job.prompt)
                key = (replace(job.options, max_new_tokens=1), forced, prompt, job.group is None)
                self._lanes.setdefault(key, Lane()).waiting[ticket.number] = ticket
        if most <= forced:
            ticket.finish([given(job.prompt, forced, most)])
        ticket.add_done_callback(self._note)
        return ticket

    def _note(self, ticket: Any) -> None:
        """A ticket is done: if it was cancelled, free its place."""
        if not ticket.cancelled():
            return
        ticket.set_running_or_notify_cancel()
        self._leaving.append(ticket)
        # Now, unless somebody is at work: then it happens before the next step. Never waiting for a
        # lock, as the garbage collector may come here from anywhere.
        if self._turning.acquire(blocking=False):
            try:
                self._free(wait=False)
            finally:
                self._end_turn()

    def run(self, jobs: Sequence[Job], at_once: int | None = None) -> Iterator[tuple[int, list[Hypothesis]]]:
        """(index, hypotheses best first) of each job as it is done, long ones first.

        at_once: how many of them are under way at the most. Raises a job's error; whatever
        ends this early, the other jobs are cancelled.
        """
        for index, ticket in self.finished(jobs, at_once):
            yield index, ticket.result()

    def finished(self, jobs: Sequence[Job], at_once: int | None = None) -> Iterator[tuple[int, Ticket]]:
        """As `run`, with tickets, so that an error is the job's own affair."""
        at_once = len(jobs) if at_once is None else at_once
        todo = deque(sorted(range(len(jobs)), key=lambda index: -len(jobs[index].source)))
        pending: dict[Any, int] = {}
        done: deque[Any] = deque()
        try:
            while todo or pending:
                # A number of them together, so that they are read together.
                free = at_once - len(pending)
                if todo and (4 * free >= at_once or not pending):
                    for _ in range(min(free, len(todo))):
                        index = todo.popleft()
                        ticket = self.submit(jobs[index])
                        pending[ticket] = index
                        ticket.add_done_callback(done.append)
                if not done:
                    self.attend()
                while done:
                    ticket = done.popleft()
                    yield pending.pop(ticket), ticket
        finally:
            for ticket in pending:
                ticket.cancel()

    @property
    def busy(self) -> bool:
        """Whether jobs wait or are under way."""
        with self._lock:
            return any(lane.waiting or lane.batch for lane in self._lanes.values())

    def attend(self) -> None:
        """Take a turn, or wait for the end of the one that another thread takes."""
        self._refuse_nesting()
        if self._turning.acquire(blocking=False):
            try:
                self._turn()
            finally:
                self._end_turn()
            return
        with self._turned:
            if self._turning.locked():
                self._turned.wait(1)

    def turn(self) -> bool:
        """Take a turn: admit those who wait, make a step, let go who is done. False if none is left."""
        with self.paused():
            self._turn()
            with self._lock:
                return bool(self._lanes)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Nobody else turns meanwhile: for changes to the model."""
        self._refuse_nesting()
        self._turning.acquire()
        self._turner = threading.get_ident()
        try:
            yield
        finally:
            self._end_turn()

    def _refuse_nesting(self) -> None:
        if self._turner == threading.get_ident():
            raise RuntimeError("the engine is at work for this very thread: on_tokens can't wait for results")

    def _end_turn(self) -> None:
        self._turner = None
        self._turning.release()
        with self._turned:
            self._turned.notify_all()

    # For the thread that turns

    @torch.inference_mode()
    def _turn(self) -> None:
        self._turner = threading.get_ident()
        self._free()
        self._admit()
        with self._lock:
            for key in [key for key, lane in self._lanes.items() if not (lane.waiting or lane.batch)]:
                del self._lanes[key]
            running = [key for key, lane in self._lanes.items() if lane.batch]
            if not running:
                return
            # The first goes behind the others, whose turns come before its next.
            lane = self._lanes[running[0]] = self._lanes.pop(running[0])
        self._step(lane)

    def _admit(self) -> None:
        """Start as many of the waiting as there is room for, if it is worth while."""
        started = False
        while True:
            with self._lock:
                lanes = list(self._lanes.values())
                # Who has least comes first, then whose last turn is longest ago.
                lane = min(
                    (lane for lane in lanes if lane.waiting),
                    key=lambda lane: (len(lane.running), lane.admitted),
                    default=None,
                )
                if lane is None:
                    return
                others = [other for other in lanes if other is not lane]
                chosen = choose(self._reader.model, lane, others, self._ceiling, self.memory, started)
                for ticket in chosen:
                    del lane.waiting[ticket.number]
            if not chosen:
                return
            self._admissions += 1
            lane.admitted = self._admissions
            started = True
            self._start(lane, chosen)

    def _start(self, lane: Lane, tickets: list[Ticket]) -> None:
        """Read for newcomers, make their first step, and put them with those who run."""
        try:
            batch = self._reader.read(tickets)
            ended = batch.step()
        except BaseException as error:
            if len(tickets) == 1 or _lacks_memory(error) or not isinstance(error, Exception):
                self._back_off(lane, tickets, error)
                return
        else:
            with self._guarded(lane, [*lane.running, *tickets]):
                self._deliver(batch, ended)
                if lane.batch is None:
                    lane.batch = batch
                elif batch.tickets:
                    lane.batch.join(batch)
                lane.rest()
            return
        # One of them is to blame; the others need not suffer.
        half = len(tickets) // 2
        self._start(lane, tickets[:half])
        self._start(lane, tickets[half:])

    def _step(self, lane: Lane) -> None:
        with self._guarded(lane, lane.running):
            assert lane.batch is not None
            self._deliver(lane.batch, lane.batch.step())
            lane.rest()

    def _deliver(self, batch: Batch, ended: Ended) -> None:
        """Hand out what has ended, and tell listeners what is certain."""
        for ticket, ranked in ended:
            self._ceiling = min(self.rows, self._ceiling + ticket.job.rows / 16)
            ticket.finish(ranked)
        deaf = batch.tell()
        for ticket, error in deaf:
            ticket.fail(error)
        batch.drop([ticket for ticket, _ in deaf])

    def _free(self, wait: bool = True) -> None:
        """Let cancelled tickets go."""
        if not self._leaving or not self._lock.acquire(blocking=wait):
            return
        try:
            leaving = [self._leaving.popleft() for _ in range(len(self._leaving))]
            lanes = list(self._lanes.values())
            for lane in lanes:
                for ticket in leaving:
                    lane.waiting.pop(ticket.number, None)
        finally:
            self._lock.release()
        for lane in lanes:
            with self._guarded(lane, lane.running), torch.inference_mode():
                if lane.batch is not None:
                    lane.batch.drop(leaving)
                    lane.rest()

    @contextlib.contextmanager
    def _guarded(self, lane: Lane, tickets: list[Ticket]) -> Iterator[None]:
        """Should the lane's batch come to harm, `tickets` have to begin again."""
        try:
            yield
        except BaseException as error:
            lane.batch = None
            self._back_off(lane, tickets, error)

    def _back_off(self, lane: Lane, tickets: list[Ticket], error: BaseException) -> None:
        """Let tickets whose batch failed wait again, to run with fewer beside them.

        If one fails alone, the error is its own.
        """
        tickets = [ticket for ticket in tickets if not ticket.done()]
        memory = _lacks_memory(error)
        with self._lock:
            others = sum(ticket.job.rows for each in self._lanes.values() for ticket in each.running)
            alone = len(tickets) == 1 and not (memory and others)
            if not alone or not isinstance(error, Exception):
                lane.requeue(tickets)
        if not isinstance(error, Exception):
            raise error  # somebody wants to stop
        if memory:
            # The frames hold the tensors of the pass that failed.
            traceback.clear_frames(error.__traceback__)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        if alone:
            tickets[0].fail(error)
        rows = sum(ticket.job.rows for ticket in tickets)
        if not alone and tickets:
            half = rows // 2 if len(tickets) > 1 else 0
            self._ceiling = max(tickets[0].job.rows, others + half)
        elif not memory:
            self._ceiling = self.rows  # who was to blame is gone


def _lacks_memory(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    signs = ("out of memory", "allocate memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in signs)


def _budget(device: torch.device) -> int:
    """Bytes that decoding may take."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 2
    return memory_limit() // 4
