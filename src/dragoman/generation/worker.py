"""One thread that does all work on a model, and lives no longer than what it works for."""

import atexit
import contextlib
import os
import threading
import weakref
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Protocol

Action = Callable[[Any], object]
"""Something to do with a worker's task between two of its turns."""

EXIT_PATIENCE = 60.0
"""Seconds that the interpreter's end waits for a turn to end; the thread must not die inside one."""
FORK_PATIENCE = 10.0
"""Seconds that a fork waits for a turn to end, so that the child's copy of a model is a whole one."""

_here = threading.local()


class Task(Protocol):
    """What a worker works at."""

    def turn(self) -> bool:
        """Do a piece of it; False if there is nothing left to do."""

    def crash(self, error: BaseException) -> None:
        """An action or a turn has failed as it never should: give up all there is, and be ready for more."""

    def forked(self) -> None:
        """In a forked child: give up what is the parent's, and be ready for more."""


def refuse_waiting() -> None:
    """Raise RuntimeError in a worker's thread: what it would wait for could never be done."""
    if getattr(_here, "works", False):
        raise RuntimeError(
            "the engine is at work in this very thread: on_tokens and done callbacks can't wait for results"
        )


def is_worker() -> bool:
    """Whether this thread is some worker's."""
    return getattr(_here, "works", False)


class Post:
    """What a worker and its thread share; the thread holds nothing else while it is idle.

    A SimpleQueue may be put to from anywhere, the garbage collector included.
    """

    def __init__(self) -> None:
        self.actions: SimpleQueue[tuple[Worker | None, Action] | None] = SimpleQueue()
        """What to do, and for whom; None is the thread's end."""
        self.claim = threading.Lock()
        """Held by the thread as long as it lives: a second one that finds it held goes at once."""

    def put(self, action: Action) -> None:
        """Have something done, if the worker still lives then."""
        self.actions.put((None, action))

    def end(self) -> None:
        """Let the thread end before its next turn."""
        self.actions.put(None)


class Worker:
    """Has actions done, in their order, by a daemon thread that starts with the first of them.

    Between actions the thread takes the task's turns, as long as there is something to do; else it
    sleeps. It ends when the worker is closed or garbage, and at the interpreter's exit. A forked child
    starts a thread of its own once it has something to do.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.post = Post()
        self.closed = False
        self.turns = 0
        """How often the thread has done something: while there is work and this stands still, it is at one
        thing."""
        self._end = weakref.finalize(self, self.post.end)
        self._end.atexit = False  # see _end_all
        _workers.add(self)

    def do(self, action: Action) -> None:
        """Have something done; RuntimeError if the worker is closed."""
        # The worker lives until it is done, even if nobody else knows it any more.
        self.post.actions.put((self, action))
        if not self.post.claim.locked():
            threading.Thread(
                target=_serve, args=(self.post, weakref.ref(self)), name="dragoman-engine", daemon=True
            ).start()
        if self.closed:  # perhaps only just now, so that nobody will read what was put there
            raise RuntimeError("the engine is closed")

    def close(self, timeout: float | None = None) -> None:
        """Let the thread end after the turn it is at, and wait for that; in vain after `timeout` seconds."""
        self.closed = True
        self.post.end()
        if not is_worker() and self.post.claim.acquire(timeout=-1 if timeout is None else timeout):
            self.post.claim.release()

    def serve(self, action: Action) -> bool:
        """Do this, and all that comes until nothing is left to do; False if that was the thread's end."""
        actions = self.post.actions
        self._try(action)
        while True:
            with contextlib.suppress(Empty):
                while True:
                    entry = actions.get_nowait()
                    if entry is None:
                        return False
                    self._try(entry[1])
            self.turns += 1
            try:
                is_left = self.task.turn()
            except BaseException as error:
                self.task.crash(error)
                is_left = True
            if not is_left and actions.empty():
                return True

    def _try(self, action: Action) -> None:
        try:
            action(self.task)
        except BaseException as error:
            self.task.crash(error)

    def reset(self) -> None:
        """Begin anew, in a forked child: the thread and those who held locks stayed with the parent."""
        self._end.detach()
        self.post = Post()
        self._end = weakref.finalize(self, self.post.end)
        self._end.atexit = False


def _serve(post: Post, reference: "weakref.ref[Worker]") -> None:
    """A worker's thread."""
    if not post.claim.acquire(blocking=False):
        return
    _here.works = True
    try:
        goes_on = True
        while goes_on:
            entry = post.actions.get()
            if entry is None:
                return
            worker = entry[0] or reference()
            goes_on = worker is not None and worker.serve(entry[1])
            del entry, worker  # idle, it must not keep a model alive
    finally:
        post.claim.release()


# Forks and the end of the interpreter

_workers: "weakref.WeakSet[Worker]" = weakref.WeakSet()


def _end_all() -> None:
    """At exit: a daemon thread that wakes up in the ruins of an interpreter may bring down the process."""
    for worker in list(_workers):
        worker.close(EXIT_PATIENCE)


def _pause_all() -> None:
    """Before a fork: hold the threads between two turns."""
    _here.paused = []
    if is_worker():
        return
    for worker in list(_workers):
        if worker.post.claim.locked():
            held, released = threading.Event(), threading.Event()

            def hold(task: Any, held: threading.Event = held, released: threading.Event = released) -> None:
                held.set()
                released.wait()

            worker.post.put(hold)
            _here.paused.append(released)
            held.wait(FORK_PATIENCE)


def _resume_all() -> None:
    """After a fork, in the parent."""
    for released in _here.paused:
        released.set()
    _here.paused = []


def _reset_all() -> None:
    """After a fork, in the child."""
    _here.paused = []
    _here.works = False
    for worker in list(_workers):
        worker.reset()
        worker.task.forked()


atexit.register(_end_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_pause_all, after_in_parent=_resume_all, after_in_child=_reset_all)
