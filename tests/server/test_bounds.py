"""Small requests that would cost much: each is refused, or done in time that grows with its size alone."""

import json
import socket
import time

import pytest

from dragoman.errors import InvalidOption
from dragoman.server.documents import result_response
from dragoman.server.faults import Fault
from dragoman.server.fragments import joined_lines
from dragoman.server.openai import _read_prompt
from dragoman.server.registry import read_routes, split_pair
from dragoman.server.uploads import Upload


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


def test_who_reads_no_answer_loses_the_connection(serve):
    served = serve(body_seconds=0.3)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", served.port))
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200)
        end = time.monotonic() + 60
        while not connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):  # until it is reset
            assert time.monotonic() < end
            time.sleep(0.05)


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
