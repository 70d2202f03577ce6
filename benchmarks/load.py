"""Clients of a server that take next to nothing of the processors it is measured on.

`python -m benchmarks.load` reads one line of JSON (see `Load`) and writes one (see `run`). It is a process of
its own, with one thread and plain sockets, and says what processor time it took itself. Each client sends one
request after the other over a connection of its own, and waits for the answer before the next.
"""

import json
import selectors
import socket
import sys
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

FIRST_SHARE = 0.2
"""The share of the time after which requests count: caches and batches have filled by then."""


@dataclass
class Load:
    """What is asked of which server."""

    port: int
    path: str
    bodies: list[str]
    """Bodies of requests; the clients take them in turn, each beginning at another."""
    clients: int
    seconds: float


@dataclass(eq=False)
class _Client:
    """One connection, and the request that is under way on it."""

    at: int
    connection: socket.socket | None = None
    sent: float = 0.0
    got: bytearray = field(default_factory=bytearray)
    length: int | None = None
    """Bytes of the whole answer, once its head is there."""


class _Run:
    def __init__(self, load: Load) -> None:
        self.load = load
        host = f"Host: 127.0.0.1:{load.port}\r\nContent-Type: application/json\r\n"
        self.requests = [
            f"POST {load.path} HTTP/1.1\r\n{host}Content-Length: {len(body.encode())}\r\n\r\n{body}".encode()
            for body in load.bodies
        ]
        self.selector = selectors.DefaultSelector()
        self.times: list[tuple[float, float]] = []
        """When each answer came, and the seconds it took."""
        self.errors: list[str] = []

    def go(self) -> None:
        spread = max(1, len(self.requests) // self.load.clients)
        for number in range(self.load.clients):
            self.send(_Client(number * spread))
        end = time.monotonic() + self.load.seconds
        while time.monotonic() < end:
            for key, _ in self.selector.select(1.0):
                self.receive(key.data)

    def send(self, client: _Client) -> None:
        if client.connection is None:
            client.connection = socket.create_connection(("127.0.0.1", self.load.port))
            self.selector.register(client.connection, selectors.EVENT_READ, client)
        client.got.clear()
        client.length, client.sent = None, time.monotonic()
        client.connection.sendall(self.requests[client.at % len(self.requests)])
        client.at += 1

    def receive(self, client: _Client) -> None:
        assert client.connection is not None
        try:
            data = client.connection.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self.errors.append("the connection ended")
            self.selector.unregister(client.connection)
            client.connection.close()
            client.connection = None
            self.send(client)
            return
        client.got += data
        if client.length is None and (head := client.got.find(b"\r\n\r\n")) >= 0:
            client.length = head + 4 + _content_length(bytes(client.got[:head]))
        if client.length is not None and len(client.got) >= client.length:
            self.answered(client)
            self.send(client)

    def answered(self, client: _Client) -> None:
        now = time.monotonic()
        status = client.got[9:12].decode()
        if status != "200":
            self.errors.append(f"status {status}")
        self.times.append((now, now - client.sent))


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise ValueError("an answer without Content-Length")


def run(load: Load) -> dict[str, Any]:
    """Make the requests; what came of them after the first while."""
    began, taken = time.monotonic(), time.process_time()
    work = _Run(load)
    work.go()
    first = began + FIRST_SHARE * load.seconds
    seconds = time.monotonic() - first
    counted = sorted(took for at, took in work.times if at >= first)
    ends = [at for at, _ in work.times]
    return {
        "answers": len(counted),
        "all_answers": len(work.times),
        "seconds": seconds,
        "errors": work.errors[:20],
        "error_count": len(work.errors),
        "p50": counted[len(counted) // 2] if counted else None,
        "p99": counted[int(0.99 * len(counted))] if counted else None,
        "longest_gap": max((after - before for before, after in pairwise(ends)), default=None),
        "generator_cpu_share": (time.process_time() - taken) / (time.monotonic() - began),
    }


if __name__ == "__main__":
    print(json.dumps(run(Load(**json.loads(sys.stdin.readline())))), flush=True)
