"""`dragoman serve` as a process: how it begins, what it logs, and how it ends."""

import contextlib
import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

SENTENCES = [f"I would like to buy {number} tickets for the train." for number in range(24)]
TEXT = " ".join(SENTENCES)


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
        return requests.post(f"{self.url}/v1/translate", json=body, timeout=120)

    @property
    def worker(self) -> int:
        """The id of the process that serves, below the one that was started."""
        own = self.process.pid
        return int(Path(f"/proc/{own}/task/{own}/children").read_text().split()[0])

    def metric(self, name: str) -> float:
        text = requests.get(f"{self.url}/metrics", timeout=60).text
        return float(re.search(rf"^{re.escape(name)} (\S+)", text, re.M)[1])

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(60)
        self._reader.join()
        return code


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
    server = start("--active", 1)
    with ThreadPoolExecutor(3) as pool:
        body = {"text": TEXT, "source": "en", "target": "fr"}
        answers = [pool.submit(server.post, body) for _ in range(2)]
        while server.metric("dragoman_texts_waiting") != 1:
            pass
        assert server.end() == 0
        for answer in answers:
            assert answer.result().status_code == 200
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{server.url}/health", timeout=5)


def test_a_process_that_is_killed_or_stopped_is_replaced_and_goes_on_with_files(start):
    server = start("--hang-seconds", 2)
    form = {"source": "en", "target": "fr"}
    url = f"{server.url}/v1/documents"
    file = requests.post(url, data=form, files={"file": ("a.txt", TEXT)}, timeout=60).json()["id"]
    for ending in (signal.SIGKILL, signal.SIGSTOP):
        with ThreadPoolExecutor(4) as pool:
            body = {"text": SENTENCES[:4], **form}
            under_way = [pool.submit(server.post, body) for _ in range(4)]
            while server.metric("dragoman_texts_working") != 4:
                pass
            os.kill(server.worker, ending)
            # This one comes while nobody is there, and waits.
            assert server.post({"text": "Yes.", **form}).status_code == 200
            for answer in under_way:
                with contextlib.suppress(requests.ConnectionError):
                    assert answer.result().status_code == 200
    assert server.metric('dragoman_workers_replaced_total{reason="died"}') == 1
    assert server.metric('dragoman_workers_replaced_total{reason="hung"}') == 1
    while requests.get(f"{url}/{file}", timeout=60).json()["status"] != "done":
        pass
    made = requests.get(f"{url}/{file}/result", timeout=60).text
    assert len(re.findall(r"[.!?]", made)) >= len(SENTENCES)
    assert server.end() == 0


def test_it_does_not_wait_for_ever(start):
    server = start("--drain-seconds", 1)
    with ThreadPoolExecutor(1) as pool:
        body = {"text": TEXT * 20, "source": "en", "target": "fr"}
        answer = pool.submit(server.post, body)
        while server.metric("dragoman_texts_working") != 1:
            pass
        assert server.end() == 0
        with contextlib.suppress(requests.ConnectionError):
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
