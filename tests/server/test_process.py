"""`dragoman serve` as a process: how it begins, what it logs, and how it ends."""

import contextlib
import json
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.server.waiting import ENDLESS, SECONDS, wait_until

SENTENCES = [f"I would like to buy {number} tickets for the train." for number in range(24)]
TEXT = " ".join(SENTENCES)
ENDLESS_TEXT = " ".join(ENDLESS)
LET_IN = ("--max-characters", len(ENDLESS_TEXT) + 1)


class Process:
    """A server that has begun to listen."""

    def __init__(self, process: Any) -> None:
        self.process = process
        self.lines: list[str] = []
        first = process.stderr.readline().decode()
        found = re.search(r"listening at (http://\S+)", first)
        assert found, first + process.stderr.read().decode()
        self.url = found[1]
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stderr:
            self.lines.append(line.decode())

    def post(self, body: dict[str, Any]) -> requests.Response:
        return requests.post(f"{self.url}/v1/translate", json=body, timeout=SECONDS)

    @property
    def worker(self) -> int:
        """The id of the process that serves, below the one that was started."""
        own = self.process.pid
        return int(Path(f"/proc/{own}/task/{own}/children").read_text().split()[0])

    def metric(self, name: str) -> float:
        text = requests.get(f"{self.url}/metrics", timeout=60).text
        return float(re.search(rf"^{re.escape(name)} (\S+)", text, re.M)[1])

    def tell(self, number: int = signal.SIGTERM) -> None:
        """Tell it to stop, and wait until it lets nobody in any more."""
        self.process.send_signal(number)
        wait_until(lambda: not self.is_open())

    def is_open(self) -> bool:
        host, port = self.url.removeprefix("http://").split(":")
        try:
            socket.create_connection((host, int(port)), SECONDS).close()
        except ConnectionError:
            return False
        return True

    def end(self, number: int | None = signal.SIGTERM) -> int:
        if number is not None:
            self.process.send_signal(number)
        code = self.process.wait(SECONDS)
        self._reader.join()
        return code


class Halting:
    """A request of which the server has the head only, until the rest is sent."""

    def __init__(self, server: Process, body: dict[str, Any]) -> None:
        host, port = server.url.removeprefix("http://").split(":")
        self._body = json.dumps(body).encode()
        self._connection = socket.create_connection((host, int(port)), SECONDS)
        head = f"POST /v1/translate HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(self._body)}\r\nExpect: 100-continue\r\n\r\n"
        self._connection.sendall(head.encode())
        assert self._connection.recv(4096).startswith(b"HTTP/1.1 100 ")  # it is being worked on

    def go_on(self) -> None:
        self._connection.sendall(self._body)

    def status(self) -> int:
        with self._connection as connection:
            return int(connection.recv(4096).split()[1])


@pytest.fixture
def start(process, tmp_path) -> Iterator[Callable[..., Process]]:
    environment = {"XDG_CONFIG_HOME": str(tmp_path / "none")}

    def begin(*args: object) -> Process:
        return Process(process("serve", "--port", 0, *args, env=environment))

    return begin


def test_it_listens_translates_counts_and_ends_well(start, process):
    server = start()
    assert requests.get(f"{server.url}/health/ready", timeout=60).json() == {"status": "ok"}
    assert server.post({"text": "Mein geheimes Rezept", "target": "fr"}).status_code == 200
    requests.get(f"{server.url}/geheim", timeout=20)
    text = requests.get(f"{server.url}/metrics", timeout=20).text
    assert "geheim" not in text
    assert 'dragoman_translations_total{model="mini",target="fra_Latn"} 1.0' in text
    assert 'dragoman_requests_total{route="/v1/translate",status="200"} 1.0' in text
    other = process("serve", "--port", server.url.rpartition(":")[2])
    assert other.wait(60) == 2
    assert b"can't be listened at" in other.stderr.read()
    assert server.end(signal.SIGINT) == 0


def test_it_can_serve_without_a_process_above_it(start):
    server = start("--no-supervise")
    assert not Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    assert server.metric("dragoman_texts_working") == 0
    assert server.end() == 0


def test_what_was_accepted_is_answered_when_it_is_told_to_stop(start):
    server = start("--active", 4, "--drain-seconds", 600, "--queue-seconds", 600)
    form = {"source": "en", "target": "fr"}
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(server.post, {"text": TEXT, **form})
        halting = [Halting(server, {"text": f"Number {number}.", **form}) for number in range(64)]
        wait_until(lambda: under_way.done() or server.metric("dragoman_texts_working"))
        server.tell()
        for each in halting:  # all at once: most of them wait for others
            each.go_on()
        assert {each.status() for each in halting} == {200}
        assert under_way.result().status_code == 200
    assert server.end(None) == 0


def test_a_process_that_is_killed_or_stopped_is_replaced_and_goes_on_with_files(start):
    server = start("--hang-seconds", 5, "--max-texts", len(ENDLESS), *LET_IN)
    form = {"source": "en", "target": "fr"}
    url = f"{server.url}/v1/documents"
    file = requests.post(url, data=form, files={"file": ("a.txt", TEXT)}, timeout=60).json()["id"]
    for ending in (signal.SIGKILL, signal.SIGSTOP):
        with ThreadPoolExecutor(2) as pool:
            under_way = [pool.submit(server.post, {"text": ENDLESS, **form}) for _ in range(2)]
            wait_until(lambda: server.metric("dragoman_texts_working") == 2)
            os.kill(server.worker, ending)
            # This one comes while nobody is there, and waits.
            assert server.post({"text": "Yes.", **form}).status_code == 200
            for answer in under_way:
                with pytest.raises(requests.ConnectionError):
                    answer.result()
    assert server.metric('dragoman_workers_replaced_total{reason="died"}') == 1
    # On a machine with much else to do another one may be silent for too long as well.
    assert server.metric('dragoman_workers_replaced_total{reason="hung"}') >= 1
    wait_until(lambda: requests.get(f"{url}/{file}", timeout=60).json()["status"] == "done")
    made = requests.get(f"{url}/{file}/result", timeout=60).text
    assert len(re.findall(r"[.!?]", made)) >= len(SENTENCES)
    assert server.end() == 0


def test_it_does_not_wait_for_ever(start):
    server = start("--drain-seconds", 1, *LET_IN)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.post, {"text": ENDLESS_TEXT, "source": "en", "target": "fr"})
        wait_until(lambda: server.metric("dragoman_texts_working") == 1)
        assert server.end() == 0
        with contextlib.suppress(requests.ConnectionError):  # it may end before the answer is written
            assert answer.result().status_code in (500, 503)


def test_logs_are_json_without_texts_or_keys(start, tmp_path):
    from dragoman.server.keys import KeyFile

    key = KeyFile(tmp_path / "keys.json").add("anna")
    server = start("--keys", tmp_path / "keys.json")
    secret = "Mein geheimes Rezept"
    for given in (key, "dragoman-guessed"):
        headers = {"Authorization": f"Bearer {given}"}
        for body in ({"text": secret, "target": "fr"}, {"text": secret, "target": secret}, {"q": secret}):
            requests.post(f"{server.url}/v1/translate", json=body, headers=headers, timeout=60)
    requests.get(f"{server.url}/{secret}?key={key}&q={secret}", timeout=60)
    requests.get(f"{server.url}/languages", headers={"X-Request-ID": "mine"}, timeout=60)
    assert server.end() == 0
    records = [json.loads(line) for line in server.lines]
    text = "".join(server.lines)
    for hidden in (secret, "geheim", key, "guessed"):
        assert hidden not in text
    asked = [record for record in records if record["message"] == "request"]
    assert {record["status"] for record in asked} == {200, 400, 401, 404}
    assert any(record.get("key") == "anna" and record.get("characters") for record in asked)
    assert asked[-1]["request"] == "mine"
