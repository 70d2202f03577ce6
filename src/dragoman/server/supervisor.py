"""The process above a server's worker: it holds the address, and puts another worker in the place of one that
has died or hangs.

It does nothing else, so that hardly anything can go wrong with it. Connections that come while no worker is
there wait at the address for the next one.
"""

import contextlib
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any

from dragoman.errors import DragomanError
from dragoman.server import logs
from dragoman.server.heartbeat import Sign
from dragoman.server.settings import Settings

REASONS = ("died", "hung", "stalled")
"""Why a worker is replaced: it has ended by itself; its event loop, or a model's engine, stands still."""

_TICK = 0.5
"""Seconds after which it looks whether all is well, whatever happens."""
_QUICK = 20.0
"""Seconds that a worker lives at least if nothing is wrong with all of them."""
_PAUSES = (0.0, 1.0, 2.0, 4.0, 8.0)
"""Seconds before the next worker, after so many that ended quickly, one after the other."""
_END_SECONDS = 75.0
"""Seconds beside those for draining that a worker may take to end: the step under way is waited for."""
_TRACE_SECONDS = 0.3


class WorkersDied(DragomanError):
    """The processes of a server end by themselves, one after the other."""


@dataclass(frozen=True)
class Start:
    """What a worker is told, on its standard input."""

    settings: Settings
    listener: int
    """The descriptor of the socket that listens."""
    beats: int
    """The descriptor of the pipe for its signs of life."""
    replaced: dict[str, int]
    """How many workers were replaced before it, by reason."""


@dataclass
class Worker:
    """A process that serves."""

    process: "subprocess.Popen[bytes]"
    pipe: "Connection[Any, Any]"
    began: float = field(default_factory=time.monotonic)
    is_ready: bool = False
    has_ended: bool = False
    """Whether it says that nothing is left to do."""
    error: Exception | None = None
    """Why it couldn't begin."""
    silence: float = 0.0
    """Seconds without a sign of life."""
    fate: str = "died"
    """Why it is replaced."""

    def take(self, sign: Sign) -> None:
        """Note what it says."""
        self.silence = 0.0
        self.is_ready |= sign.kind == "ready"
        self.has_ended |= sign.kind == "ended"
        if sign.kind == "failed":
            self.error = sign.error
        if sign.kind == "stalled":
            self.end("stalled")

    def end(self, fate: str) -> None:
        """Kill it; where it stands is said on standard error before, if it still can say something."""
        self.fate = fate
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGUSR1)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_TRACE_SECONDS)
        self.process.kill()


class Supervisor:
    """Keeps a worker serving until it is told to stop."""

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        started: Callable[[], None],
        command: tuple[str, ...] = (sys.executable, "-P", "-m", "dragoman.server.worker"),
    ) -> None:
        """started: called once the first worker answers; command: what starts a worker,
        which never takes a module from the folder that it happens to be started in."""
        self._settings, self._listener, self._started, self._command = settings, listener, started, command
        self._replaced: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        self._told: list[int] = []
        """Signals that haven't been passed on."""
        self._stops_at: float | None = None
        self._wake, self._waker = socket.socketpair()
        self._has_served = False

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises what keeps the first worker from beginning, and WorkersDied;
        SystemExit with its status if it says nothing."""
        quick = 0
        with self._signals():
            while self._stops_at is None:
                self._rest(_PAUSES[quick])
                if self._stops_at is not None:
                    return
                worker = self._start()
                self._watch(worker)
                if self._stops_at is not None:
                    return
                if not self._has_served:
                    raise worker.error or _silent(worker.process.returncode)
                lived = time.monotonic() - worker.began
                quick = quick + 1 if lived < _QUICK else 0
                self._note(worker, lived)
                if quick == len(_PAUSES):
                    raise WorkersDied(
                        f"{quick} workers have ended within {_QUICK:g} seconds, one after the other; the "
                        "lines above say how; the server gives up"
                    ) from worker.error

    def _start(self) -> Worker:
        theirs, ours = os.pipe()
        listener = self._listener.fileno()
        start = Start(self._settings, listener, ours, dict(self._replaced))
        try:
            # In a session of its own, so that Ctrl-C comes to this process alone, which passes it on.
            process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, pass_fds=(listener, ours), start_new_session=True
            )
        finally:
            os.close(ours)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
            stdin.write(pickle.dumps(start))
        return Worker(process, Connection(theirs, writable=False))

    def _watch(self, worker: Worker) -> None:
        """Wait for the worker's end, and bring it about if it must be."""
        before = time.monotonic()
        with worker.pipe:
            while worker.process.poll() is None:
                self._pass_on(worker)
                self._listen(worker)
                now = time.monotonic()
                # What this process has slept through itself, stopped or starved, is nobody's silence.
                worker.silence += min(now - before, 2 * _TICK)
                before = now
                if self._is_too_late(worker, now):
                    worker.end("hung")
            with contextlib.suppress(EOFError, OSError):
                while worker.pipe.poll():
                    worker.take(worker.pipe.recv())

    def _is_too_late(self, worker: Worker, now: float) -> bool:
        if self._stops_at is not None and now > self._stops_at:
            return True
        # Loading takes as long as it takes, and so does the end of a step when all is answered.
        is_serving = worker.is_ready and not worker.has_ended
        return is_serving and worker.silence > self._settings.hang_seconds

    def _listen(self, worker: Worker) -> None:
        for found in wait([worker.pipe, self._wake], _TICK):
            if found is self._wake:
                self._wake.recv(64)
                continue
            try:
                worker.take(worker.pipe.recv())
            except (EOFError, OSError):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    worker.process.wait(_TICK)  # it is about to end
        if worker.is_ready and not self._has_served:
            self._has_served = True
            self._started()

    def _note(self, worker: Worker, lived: float) -> None:
        self._replaced[worker.fate] += 1
        facts = {"reason": worker.fate, "status": worker.process.returncode, "lived_seconds": round(lived, 1)}
        if worker.error is not None:
            facts["error"] = str(worker.error)
        logs.event("a worker is replaced", logging.ERROR, **facts)

    def _rest(self, seconds: float) -> None:
        if seconds and wait([self._wake], seconds):
            self._wake.recv(64)
            self._pass_on(None)

    def _pass_on(self, worker: Worker | None) -> None:
        """Have the worker stop. Whoever comes from now on is refused, and doesn't wait for nobody."""
        while self._told:
            number = self._told.pop(0)
            if self._stops_at is None:
                self._listener.close()
                self._stops_at = time.monotonic() + self._settings.drain_seconds + _END_SECONDS
            if worker is not None:
                worker.process.send_signal(number)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        def note(number: int, frame: FrameType | None) -> None:
            self._told.append(number)

        self._waker.setblocking(False)
        waker = signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        before = {each: signal.signal(each, note) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            signal.set_wakeup_fd(waker)
            for each, handler in before.items():
                signal.signal(each, handler)
            self._wake.close()
            self._waker.close()


def _silent(status: int) -> BaseException:
    """What a first worker's end comes to that has said nothing itself; status: as `subprocess` has it."""
    if status >= 0:
        return SystemExit(max(1, status))
    name = signal.strsignal(-status) or "unknown"
    return WorkersDied(
        f"the server's process was ended by signal {-status} ({name}) before it could answer; if nobody sent "
        "it, the system's log says more: where memory runs out, for one, the system sends 9"
    )
