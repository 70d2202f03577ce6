"""A server on a cluster while its processes are killed, or replaced, under the load of many clients.

`python -m benchmarks.cluster --clients 64 --seconds 180 --kill replica --every 20`

A server with some replicas begins on this computer (`dragoman serve --cluster auto`). Each client sends one
of Tatoeba's test sentences after the other over a connection of its own, and compares the answer with what
one process makes of it. What fails is counted and sent again. Meanwhile, every so many seconds,

- `--kill replica` kills a process that has a model, at random (SIGKILL);
- `--kill server` kills the one that has keys, limits and queues;
- `--roll` has all of them replaced (SIGHUP), once the last time is over.
"""

import argparse
import http.client
import json
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import psutil

from benchmarks import ROOT, report
from benchmarks.serving import _environment, _sentences

_NAMES = {"replica": "dragoman-translators:Translators", "server": "dragoman:Server"}
_ALL = {**_NAMES, "proxy": "ray::ProxyActor"}
_WAIT = 300.0
"""Seconds for an answer, or for what the server is told."""
_PAUSE = 0.5
"""Seconds before a request is sent again that has failed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--sentences", type=int, default=200, help="how many different ones")
    parser.add_argument("--target", default="de")
    parser.add_argument("--kill", choices=_NAMES, help="what is killed")
    parser.add_argument("--every", type=float, default=20, help="seconds between two times")
    parser.add_argument("--roll", action="store_true", help="have all processes replaced")
    args = parser.parse_args()
    sentences = _sentences()[: args.sentences]
    expected = _expected(sentences, args.target)
    with _serving(args.replicas) as server:
        load = _Load(server.port, sentences, expected, args.target)
        threads = [threading.Thread(target=load.client, args=(number,)) for number in range(args.clients)]
        before = server.processor_seconds()
        for thread in threads:
            thread.start()
        done = _disturb(server, args)
        load.is_over.set()
        for thread in threads:
            thread.join()
        figures = load.figures()
        if not done:  # else they are not the processes that they were
            after = server.processor_seconds()
            spent = {name: 1000 * (after[name] - before[name]) / figures["answers"] for name in _ALL}
            figures["cpu_ms"] = {name: round(each, 1) for name, each in spent.items()}
    facts = {
        name: getattr(args, name) for name in ("clients", "seconds", "replicas", "kill", "every", "roll")
    }
    report({"benchmark": "cluster", **facts, "disturbed": done, **figures})


def _disturb(server: "_Server", args: argparse.Namespace) -> int:
    """Let the time go by with what is to happen in it; returns how often something did."""
    random.seed(1)
    end = time.monotonic() + args.seconds
    count = 0
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(args.every, left))
        if args.roll and end - time.monotonic() > 0:
            server.roll()
            count += 1
        elif args.kill and end - time.monotonic() > 0:
            count += server.kill(_NAMES[args.kill])
    return count


@dataclass
class _Load:
    """What all clients do, and what came of it."""

    port: int
    sentences: list[str]
    expected: list[str]
    target: str
    is_over: threading.Event = field(default_factory=threading.Event)
    times: list[tuple[float, float]] = field(default_factory=list)
    """When each answer came, and the seconds it took, all tries together."""
    failures: Counter[str] = field(default_factory=Counter)
    retried: int = 0
    """Requests that were answered after all."""
    lost: int = 0
    """Requests that had no answer when it was over."""
    wrong: int = 0
    began: float = field(default_factory=time.monotonic)

    def client(self, number: int) -> None:
        at = number * max(1, len(self.sentences) // 64)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_WAIT)
        while not self.is_over.is_set():
            self.ask(connection, at % len(self.sentences))
            at += 1

    def ask(self, connection: http.client.HTTPConnection, at: int) -> None:
        body = json.dumps({"text": self.sentences[at], "source": "en", "target": self.target})
        sent, failures = time.monotonic(), 0
        while True:
            found = _answered(connection, body)
            if found["status"] == "200":
                break
            self.failures[found["status"]] += 1
            failures += 1
            if self.is_over.is_set():
                self.lost += 1
                return
            time.sleep(_PAUSE)
        now = time.monotonic()
        self.times.append((now, now - sent))
        self.retried += failures > 0
        self.wrong += found["text"] != self.expected[at]

    def figures(self) -> dict[str, Any]:
        took = sorted(seconds for _, seconds in self.times)
        ends = sorted(at for at, _ in self.times)
        return {
            "answers": len(took),
            "wrong": self.wrong,
            "failures": dict(self.failures),
            "retried": self.retried,
            "lost": self.lost,
            "rate": round(len(took) / (max(ends) - self.began), 1),
            "p50": round(statistics.median(took), 2),
            "p99": round(took[int(0.99 * len(took))], 2),
            "longest": round(took[-1], 1),
            "longest_gap": round(max(after - before for before, after in pairwise(ends)), 1),
        }


def _answered(connection: http.client.HTTPConnection, body: str) -> dict[str, str]:
    try:
        connection.request("POST", "/v1/translate", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        data = response.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return {"status": type(error).__name__}
    if response.status != 200:
        return {"status": str(response.status)}
    return {"status": "200", "text": json.loads(data)["translations"][0]["text"]}


def _expected(sentences: list[str], target: str) -> list[str]:
    """What one process makes of the sentences."""
    from dragoman import Translator

    with Translator.load() as translator:
        return [made.text for made in translator.stream(sentences, "en", target)]


# ---- the server --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Server:
    port: int
    process: "subprocess.Popen[str]"

    def kill(self, name: str) -> int:
        """Kill a process of a deployment, if there is one; returns how many that were."""
        chosen = random.sample(found := self.processes(name), min(1, len(found)))
        for one in chosen:
            one.kill()
        return len(chosen)

    def processes(self, name: str) -> list[psutil.Process]:
        return [one for one in psutil.Process(self.process.pid).children(recursive=True) if _is(one, name)]

    def processor_seconds(self) -> dict[str, float]:
        """What each kind of process has taken of the processors."""
        times = {kind: [one.cpu_times() for one in self.processes(name)] for kind, name in _ALL.items()}
        return {kind: sum(each.user + each.system for each in all_of) for kind, all_of in times.items()}

    def roll(self) -> None:
        """Have all processes replaced, and wait for that."""
        self.process.send_signal(signal.SIGHUP)
        self.wait("all replicas are new")

    def wait(self, said: str) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if re.match(said, line):
                return
        raise RuntimeError("the server has ended")


def _is(process: psutil.Process, name: str) -> bool:
    try:
        return name in " ".join(process.cmdline())
    except psutil.Error:  # it has ended just now
        return False


@contextmanager
def _serving(replicas: int) -> Iterator[_Server]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "dragoman", "serve", "--cluster", "auto", "--replicas", str(replicas)]
    command += ["--port", str(port), "--log", "error"]
    with tempfile.TemporaryDirectory() as state:
        environment = {**_environment(), "DRAGOMAN_STATE": state}
        with subprocess.Popen(
            command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=environment
        ) as process:
            server = _Server(port, process)
            try:
                server.wait("listening at")
                yield server
            finally:
                process.terminate()


if __name__ == "__main__":
    main()
