"""What stands above a server's process: it replaces the one that dies or hangs, and ends with it."""

import os
import pickle
import re
import signal
import socket
import sys
import threading
from typing import Any

import pytest

from dragoman.errors import InvalidOption
from dragoman.server import supervisor
from dragoman.server.heartbeat import INTERVAL, Sign, Stalls
from dragoman.server.settings import Settings
from dragoman.server.supervisor import Supervisor, WorkersDied
from dragoman.server.worker import Told

WORKER = """
import os, pickle, signal, socket, sys, time
from dragoman.errors import InvalidOption
from dragoman.server.heartbeat import Beats, Sign
start = pickle.load(sys.stdin.buffer)
beats, listener = Beats(start.beats), socket.socket(fileno=start.listener)
replaced = sum(start.replaced.values())
def serve():
    listener.settimeout(0.1)
    while True:
        beats.tell(Sign("alive"))
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        connection.sendall(str(start.replaced).encode())
        connection.close()
def end(*_):
    beats.tell(Sign("ended"))
    os._exit(0)
signal.signal(signal.SIGTERM, end)
"""
"""Answers each connection with how many workers were before it."""
_LONG = 120
"""Seconds that a step of a test may take on a machine that has much else to do."""
READY = 'beats.tell(Sign("ready"))\n'


class Line:
    """A supervisor whose workers run a script, and somebody who watches it from another thread."""

    def __init__(self, script: str, **settings: Any) -> None:
        self.started = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        command = (sys.executable, "-c", WORKER + script)
        self.supervisor = Supervisor(Settings(**settings), self.listener, self.started.set, command)
        self.answers: list[str] = []

    def ask(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), _LONG) as connection:
            self.answers.append(connection.recv(200).decode())

    def run(self, asks: int) -> None:
        """Serve until so many have been answered."""

        def watch() -> None:
            try:
                if self.started.wait(_LONG):
                    for _ in range(asks):
                        self.ask()
            finally:
                os.kill(os.getpid(), signal.SIGTERM)

        # A signal that comes after the supervisor's end must not end the tests.
        before = signal.signal(signal.SIGTERM, lambda *_: None)
        watching = threading.Thread(target=watch)
        watching.start()
        try:
            self.supervisor.run()
        finally:
            watching.join()
            signal.signal(signal.SIGTERM, before)
            self.listener.close()


def test_a_worker_that_ends_is_replaced_and_nobody_is_refused_meanwhile():
    script = READY + "if not replaced: os.kill(os.getpid(), signal.SIGKILL)\nserve()"
    line = Line(script)
    line.run(asks=2)
    assert line.answers == ["{'died': 1, 'hung': 0, 'stalled': 0}"] * 2


def test_a_worker_that_gives_no_sign_of_life_is_replaced():
    script = READY + "if not replaced: os.kill(os.getpid(), signal.SIGSTOP)\nserve()"
    line = Line(script, hang_seconds=4)
    line.run(asks=1)
    # On a machine with much else to do the second one may be silent for too long as well.
    assert re.fullmatch(r"\{'died': 0, 'hung': [1-9]\d*, 'stalled': 0\}", line.answers[0])


def test_a_worker_whose_model_stands_still_is_replaced():
    script = READY + 'if not replaced: beats.tell(Sign("stalled")), time.sleep(60)\nserve()'
    line = Line(script)
    line.run(asks=1)
    assert line.answers == ["{'died': 0, 'hung': 0, 'stalled': 1}"]


def test_workers_that_die_one_after_the_other_are_given_up(monkeypatch):
    monkeypatch.setattr(supervisor, "_PAUSES", (0.0, 0.0))
    monkeypatch.setattr(supervisor, "_QUICK", 600.0)
    line = Line(READY + "sys.exit(3)")
    with pytest.raises(WorkersDied, match="2 workers have ended within"), line.listener:
        line.supervisor.run()


def test_what_keeps_the_first_worker_from_beginning_is_raised_here():
    line = Line('beats.tell(Sign("failed", InvalidOption("there is no such model")))')
    with pytest.raises(InvalidOption, match="no such model"), line.listener:
        line.supervisor.run()
    line = Line("sys.exit(3)")
    with pytest.raises(SystemExit) as end, line.listener:
        line.supervisor.run()
    assert end.value.code == 3


def test_a_signal_that_ends_the_first_worker_is_said():
    line = Line("os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(WorkersDied, match=r"signal 9 \(Killed\)"), line.listener:
        line.supervisor.run()


def test_only_a_later_signal_or_one_from_a_keyboard_ends_a_worker_at_once(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("dragoman.server.worker.time.monotonic", lambda: now[0])
    term, interrupt = Told(), Told()
    assert not term.is_twice(signal.SIGTERM)
    assert not term.is_twice(signal.SIGTERM)
    now[0] = 3.0
    assert term.is_twice(signal.SIGTERM)
    assert not interrupt.is_twice(signal.SIGINT)
    assert interrupt.is_twice(signal.SIGINT)


def test_after_the_signal_to_end_nobody_is_let_in_any_more():
    script = """
def end(*_):
    time.sleep(0.3)
    try:
        socket.create_connection(("127.0.0.1", port), 1)
    except ConnectionRefusedError:
        beats.tell(Sign("ended"))
        os._exit(0)
    os._exit(1)
port = listener.getsockname()[1]
signal.signal(signal.SIGTERM, lambda *_: (listener.close(), end()))
"""
    line = Line(script + READY + "serve()")
    line.run(asks=1)
    assert line.supervisor._replaced.total() == 0


class Engine:
    busy, turns = True, 0


def test_an_engine_stands_still_if_it_has_work_and_makes_no_step(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("dragoman.server.heartbeat.time.monotonic", lambda: now[0])
    engine, stalls = Engine(), Stalls(10)

    def after(seconds: float) -> bool:
        found = False
        for _ in range(round(seconds / INTERVAL)):
            now[0] += INTERVAL
            found = stalls.any([engine])
        return found

    assert not after(9)
    engine.turns += 1
    assert not after(9)
    engine.busy = False
    assert not after(9)
    engine.busy = True
    assert not after(9)
    now[0] += 3600  # the process was stopped, and its engine with it
    assert not after(INTERVAL)
    assert after(11)


def test_a_sign_comes_with_its_error():
    assert pickle.loads(pickle.dumps(Sign("failed", InvalidOption("no")))).error.args == ("no",)
