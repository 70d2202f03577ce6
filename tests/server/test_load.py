"""Many clients at a time: their turns, their bounds, and those that go away."""

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from dragoman.errors import NoNumbers, NotEnoughMemory
from dragoman.server.keys import KeyFile
from tests.server.waiting import ENDLESS, SECONDS, wait_until

LONG = " ".join(ENDLESS[:600])


def send(
    served: Any, body: dict[str, Any], path: str = "/v1/translate", headers: dict[str, str] | None = None
) -> socket.socket:
    """Make a request and don't wait for its answer."""
    data = json.dumps(body).encode()
    connection = socket.create_connection(("127.0.0.1", served.port))
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    return connection


def is_busy(served: Any) -> bool:
    return any(each.loaded.system.engine.busy for each in served.state.registry.translators.values())


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/translate", {"text": LONG, "source": "en", "target": "fr", "beams": 8}),
        ("/v1/translate", {"text": LONG, "source": "en", "target": "fr", "beams": 8, "stream": True}),
        ("/v1/translate", {"text": LONG, "source": "en", "target": "fr", "format": "html"}),
        ("/translate", {"q": LONG, "source": "en", "target": "fr"}),
        ("/v1/chat/completions", {"model": "mini:en-fr", "messages": [{"role": "user", "content": LONG}]}),
    ],
)
def test_a_client_that_goes_away_frees_its_rows(serve, path, body):
    served = serve()
    connection = send(served, body, path)
    wait_until(lambda: is_busy(served))
    connection.close()
    assert served.idle()
    assert "dragoman_translations_total{" not in served.get("/metrics").text


def test_a_small_request_takes_no_thread_and_ends_with_its_client_or_its_time(serve, translator):
    served = serve()
    is_held, goes_on = threading.Event(), threading.Event()

    def hold() -> None:
        is_held.set()
        goes_on.wait(SECONDS)

    body = {"text": "Good morning!", "source": "en", "target": "fr"}
    with ThreadPoolExecutor(1) as pool:
        pool.submit(translator.system.engine.between_steps, hold)
        try:
            assert is_held.wait(SECONDS)
            connection = send(served, body)
            wait_until(lambda: is_busy(served))
            assert not served.state.workshop._pool._threads
            connection.close()
            assert served.idle()
            assert served.post("/v1/translate", {**body, "timeout": 0.05}).status_code == 408
            assert served.idle()
        finally:
            goes_on.set()
    assert served.post("/v1/translate", body).status_code == 200


def test_a_client_that_goes_away_while_it_waits_is_never_served(serve):
    served = serve(active=1)
    first = send(served, {"text": LONG, "source": "en", "target": "fr"})
    wait_until(lambda: served.state.workshop.texts.working == 1)
    second = send(served, {"text": "Yes.", "source": "en", "target": "fr"})
    wait_until(lambda: served.state.workshop.texts.waiting == 1)
    second.close()
    wait_until(lambda: served.state.workshop.texts.waiting == 0)
    first.close()
    assert served.idle()


def test_a_long_text_holds_up_no_short_one(serve, translator):
    served = serve()
    long = send(served, {"text": LONG, "source": "en", "target": "fr"})
    wait_until(lambda: is_busy(served))
    made = served.post("/v1/translate", {"text": "Good morning!", "source": "en", "target": "de"}).json()
    assert served.state.workshop.texts.working == 1  # the long one still is under way
    assert made["translations"][0]["text"] == translator.translate("Good morning!", "en", "de")
    long.close()
    assert served.idle()


def test_a_file_holds_up_no_text(serve):
    served = serve(active=1)
    with ThreadPoolExecutor(1) as pool:
        form = {"source": "en", "target": "fr"}
        files = {"file": ("a.txt", LONG)}
        file = pool.submit(served.post, "/translate_file", data=form, files=files)
        wait_until(lambda: served.state.workshop.files.working == 1)
        assert served.post("/translate", {"q": "Yes.", "source": "en", "target": "fr"}).status_code == 200
        assert served.state.workshop.files.working == 1
        (job,) = served.get("/v1/jobs").json()["jobs"]
        served.post(f"/v1/jobs/{job['id']}/cancel")
        assert file.result().status_code == 409


def test_what_is_too_much_is_refused_at_once_and_says_when_to_come_again(serve):
    served = serve(active=1, queue=3, queue_per_key=2)
    body = {"text": LONG, "source": "en", "target": "fr"}
    connections = [send(served, body) for _ in range(3)]
    wait_until(lambda: served.state.workshop.texts.waiting == 2)
    for path, short in (
        ("/v1/translate", {"text": "Yes.", "target": "fr"}),
        ("/translate", {"q": "Yes.", "source": "en", "target": "fr"}),
        ("/v2/translate", {"text": ["Yes."], "target_lang": "FR"}),
        ("/language/translate/v2", {"q": "Yes.", "target": "fr"}),
    ):
        response = served.post(path, short)
        assert response.status_code == 429
        assert int(response.headers["Retry-After"]) >= 1
    for connection in connections:
        connection.close()
    assert served.idle()


def test_each_key_gets_its_turn(serve, tmp_path, translator, monkeypatch):
    keys = KeyFile(tmp_path / "keys.json")
    greedy, modest = ({"Authorization": f"Bearer {keys.add(name)}"} for name in ("greedy", "modest"))
    served = serve(keys=keys.path, active=1)
    asked: list[str] = []
    job = translator.system.job

    def noted(row: Any, request: Any, options: Any) -> Any:
        asked.append(request.text)
        return job(row, request, options)

    monkeypatch.setattr(translator.system, "job", noted)

    def ask(key: dict[str, str], text: str) -> int:
        body = {"text": text, "source": "en", "target": "fr"}
        return served.post("/v1/translate", body, headers=key).status_code

    first = send(served, {"text": LONG, "source": "en", "target": "fr"}, headers=greedy)
    wait_until(lambda: served.state.workshop.texts.working == 1)
    with ThreadPoolExecutor(9) as pool:
        answers = [pool.submit(ask, greedy, f"Number {number}.") for number in range(8)]
        wait_until(lambda: served.state.workshop.texts.waiting == 8)
        answers.append(pool.submit(ask, modest, "Yes."))
        wait_until(lambda: served.state.workshop.texts.waiting == 9)
        first.close()
        assert {answer.result() for answer in answers} == {200}
    order = [text for text in asked if text == "Yes." or text.startswith("Number")]
    assert len(order) == 9
    assert order.index("Yes.") <= 1


def test_many_clients_at_a_time_get_what_one_gets(server, translator, tatoeba):
    pairs = [("en", target, text) for target, rows in tatoeba.items() for _, text in rows[:6]]

    def ask(pair: tuple[str, str, str]) -> str:
        source, target, text = pair
        body = {"text": text, "source": source, "target": target}
        return server.post("/v1/translate", body).json()["translations"][0]["text"]

    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(ask, pairs))
    assert made == [translator.translate(text, source, target) for source, target, text in pairs]


def test_a_request_may_take_so_long_and_then_ends(serve):
    served = serve(timeout=0.2)
    response = served.post("/v1/translate", {"text": LONG, "source": "en", "target": "fr"})
    assert response.status_code == 504
    assert response.json()["error"]["code"] == "timeout"
    assert served.idle()


def test_one_text_that_fails_fails_alone(server, translator, monkeypatch):
    job = translator.system.job

    def failing_job(row: Any, request: Any, options: Any) -> Any:
        if "poison" in request.text:
            raise NotEnoughMemory("this sentence needs more than there is")
        return job(row, request, options)

    monkeypatch.setattr(translator.system, "job", failing_job)
    body = {"text": ["Good morning!", "This is poison.", "Thank you."], "source": "en", "target": "fr"}
    response = server.post("/v1/translate", body)
    assert response.status_code == 200
    made = response.json()["translations"]
    assert [bool(one["error"]) for one in made] == [False, True, False]
    assert made[1]["text"] == "This is poison."
    alone = server.post("/v1/translate", {**body, "text": "This is poison."})
    assert alone.status_code == 503
    assert alone.headers["Retry-After"]
    libre = server.post("/translate", {"q": "This is poison.", "source": "en", "target": "fr"})
    assert libre.status_code == 503


def test_scores_that_are_no_numbers_are_an_error_of_the_model(server, translator, monkeypatch):
    def broken(row: Any, request: Any, options: Any) -> Any:
        raise NoNumbers

    monkeypatch.setattr(translator.system, "job", broken)
    response = server.post("/v1/translate", {"text": "Good evening!", "source": "en", "target": "fr"})
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "translation_failed"
    assert requests.get(f"{server.url}/health/live", timeout=10).status_code == 200
