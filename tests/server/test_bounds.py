"""Small requests that would cost much: each is refused, or done in time that grows with its size alone."""

import asyncio
import json
import socket
from types import SimpleNamespace

import pytest
import requests
import uvicorn
from uvicorn.server import ServerState

from dragoman.errors import InvalidOption
from dragoman.server.app import answer as answer_of
from dragoman.server.connections import protocol
from dragoman.server.documents import result_response
from dragoman.server.faults import Fault
from dragoman.server.fragments import joined_lines
from dragoman.server.guard import Guard
from dragoman.server.openai import _read_prompt
from dragoman.server.records import Upload
from dragoman.server.registry import read_routes, split_pair
from dragoman.server.settings import Settings


def answer(server, pieces: list[bytes]) -> bytes:
    """What a body in these pieces is answered, up to where the server hangs up."""
    head = b"POST /translate HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    head += b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    found = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(head)
        try:
            connection.sendall(body)
            while chunk := connection.recv(65536):
                found += chunk
        except ConnectionError:
            pass
    return found


def test_a_body_in_crumbs_is_refused_and_one_in_small_pieces_is_not(server):
    body = json.dumps({"q": "Yes.", "source": "en", "target": "fr"}).encode()
    assert b" 200 " in answer(server, [*(b" " for _ in range(4000)), body]).splitlines()[0]
    assert b" 200 " not in answer(server, [*(b" " for _ in range(20_000)), body])[:20]
    assert b" 200 " in answer(server, [*(b" " * 1000 for _ in range(1500)), body]).splitlines()[0]


class Transport(asyncio.Transport):
    """One whose other end takes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = asyncio.Event()

    def abort(self) -> None:
        self.aborted.set()


def test_who_takes_nothing_of_an_answer_loses_the_connection():
    async def lived(seconds: float, *steps: str) -> bool:
        config = uvicorn.Config(lambda: None, log_config=None, ws="none")
        config.load()
        made = protocol(seconds)(config, ServerState(), {}, asyncio.get_running_loop())
        transport = Transport()
        made.connection_made(transport)
        made._rest()
        for step in steps:
            getattr(made, step)()
        if made._writing is None:
            return True
        await asyncio.wait_for(transport.aborted.wait(), 20)
        return False

    assert not asyncio.run(lived(0.01, "pause_writing"))
    assert asyncio.run(lived(0.01, "pause_writing", "resume_writing"))


PROMPT = "Translate this from "


@pytest.mark.parametrize("rest", ["a to a:\na: \n" * 20_000 + "x", " to " * 20_000])
def test_a_prompt_that_is_none_is_found_out_in_one_pass(rest):
    assert _read_prompt(PROMPT + rest) is None


def test_a_prompt_is_read_with_whatever_stands_in_its_text():
    text = "Good\nFrench: morning\nGerman: to you:"
    prompt = f"Translate this from French to German:\nFrench: {text}\nGerman:"
    assert _read_prompt(prompt) == ("fra_Latn", "deu_Latn", text)
    assert _read_prompt(prompt + " \n") == ("fra_Latn", "deu_Latn", text)
    assert _read_prompt("Translate this from French to German:\nFrench: \nGerman:")[2] == ""
    for other in (prompt.replace("French: G", "G"), prompt + " x", prompt.replace("from ", ""), prompt[1:]):
        assert _read_prompt(other) is None
    assert _read_prompt(prompt.replace("French", "Martian")) is None


def test_blanks_without_a_line_break_are_passed_over_once():
    blanks = " " * 1_000_000
    assert joined_lines(f"a{blanks}b") == f"a{blanks}b"
    assert joined_lines("a \t \r\n\n  b\nc  d") == "a b c  d"


def test_a_pair_with_hyphens_without_end_is_none():
    assert split_pair("en-" * 100_000 + "de") is None
    assert split_pair("zho-Hant-TW-pt-BR") == ("zho-Hant-TW", "pt-BR")
    with pytest.raises(InvalidOption):
        read_routes([f"{'en-' * 100_000}de=mini"], ["mini"])


@pytest.mark.parametrize(
    ("status", "answered"), [("queued", 409), ("translating", 409), ("error", 404), ("downloaded", 404)]
)
def test_a_result_that_is_not_there_is_no_failure_of_the_server(server, status, answered):
    upload = Upload("A" * 32, "", "", "a.txt", None, "fra_Latn", None, (), "", 1, 0.0, status)
    with pytest.raises(Fault) as caught:
        result_response(server.uploads, upload)
    assert caught.value.status == answered


def test_a_download_by_address_asks_for_the_status(server):
    file = {"file": ("a.txt", "Yes.")}
    url = server.post("/translate_file", data={"source": "en", "target": "fr"}, files=file).json()
    path = url["translatedFileUrl"].removeprefix(server.url)
    upload = server.uploads._uploads[path.rpartition("/")[2][:32]]
    upload.status = "downloaded"
    assert server.get(path).status_code == 404
    upload.status = "queued"
    response = server.get(path)
    assert response.status_code == 409
    assert set(response.json()) == {"error"}
    upload.status = "done"
    assert server.get(path).status_code == 200


def test_what_browsers_write_for_other_pages_is_refused_where_no_key_is_asked_for(server, serve):
    def status(served, origin: str, **headers: str) -> int:
        body = {"q": "Yes.", "source": "en", "target": "fr"}
        return served.post("/translate", body, headers={"Origin": origin, **headers}).status_code

    for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
        assert status(server, origin) == 403
    assert status(server, server.url) == 200
    assert status(server, "http://localhost:5000", Host="localhost:5000") == 200
    assert status(serve(origins=("https://page.example",)), "https://page.example") == 200
    assert status(serve(public_url="https://page.example/translate"), "https://page.example") == 200


def test_what_is_not_done_when_the_server_ends_is_told_so():
    async def app(scope, receive, send):
        raise asyncio.CancelledError

    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b""}

    def passed(is_draining: bool) -> None:
        state = SimpleNamespace(settings=Settings(), keys=None, is_draining=is_draining, tracing=None)
        state.metrics = SimpleNamespace(request=lambda *facts: None)
        headers = [(b"host", b"localhost")]
        scope = {"type": "http", "method": "POST", "path": "/translate_file", "headers": headers}
        asyncio.run(Guard(app, state, answer_of)(scope, receive, send))

    passed(True)
    assert sent[0]["status"] == 503
    assert b"about to end" in sent[1]["body"]
    with pytest.raises(asyncio.CancelledError):
        passed(False)


@pytest.mark.parametrize("path", ["/languages", "/v2/glossary-language-pairs"])
def test_what_has_a_line_for_each_pair_of_languages_is_made_once(server, monkeypatch, path):
    made = server.get(path)
    monkeypatch.setattr(server.state.registry, "translators", {})
    monkeypatch.setattr(server.state.registry, "languages", ())
    assert server.get(path).json() == made.json() != []


def test_null_is_as_good_as_a_field_that_does_not_come_and_a_head_is_answered(server):
    body = {"text": ["Yes."], "target_lang": "FR", "outline_detection": None, "context": None}
    assert server.post("/v2/translate", body).status_code == 200
    assert requests.head(server.url, timeout=60).status_code == 200
