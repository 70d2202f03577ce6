"""What has befallen other servers and must not befall this one: the table of docs/reliability.md, and what of
it has no home of its own."""

import errno
import re
import socket
import time
from itertools import chain
from pathlib import Path

import pytest

from dragoman.errors import NoNumbers
from dragoman.server import running
from dragoman.server.keys import KeyFile
from dragoman.server.settings import Settings
from tests.documents.packages import word
from tests.server.test_documents import wait

ROOT = Path(__file__).parents[2]
BOMB = word("<w:p><w:r><w:t>" + "x" * 60_000_000 + "</w:t></w:r></w:p>")
ENTITIES = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd"><!ENTITY c "&b;&b;">]>'
XLIFF = (
    f'<?xml version="1.0"?>{ENTITIES}<xliff version="1.2"><file><body><trans-unit id="1"><source>&c;</source>'
)
XLIFF += "</trans-unit></body></file></xliff>"


def rows() -> list[tuple[str, str, str, list[str]]]:
    """Number, fault, answer and tests of each row of the table."""
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    cells = [line.strip("| ").split(" | ") for line in page.splitlines() if re.match(r"\| \d+ \|", line)]
    return [(number, fault, answer, re.findall("`([^`]+)`", tests)) for number, fault, answer, tests in cells]


def test_every_fault_of_the_table_has_a_test_that_there_is():
    found = rows()
    assert [int(number) for number, *_ in found] == list(range(1, 31))
    for number, _, answer, tests in found:
        assert answer, number
        assert tests, number
    for name in chain.from_iterable(tests for *_, tests in found):
        file, _, test = name.partition("::")
        text = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert re.search(rf"^def {test}\(", text, re.MULTILINE), name


def document(served, name: str, data: bytes, **options) -> dict:
    """What became of a file."""
    made = served.post("/v1/documents", data={"target": "fr"}, files={"file": (name, data)}, **options)
    assert made.status_code == 202, made.text
    return wait(served, made.json()["id"], **options)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("bomb.docx", BOMB, "too large"),
        ("cut.docx", BOMB[:-30], "no package"),
        ("fetches.xliff", XLIFF.encode(), "."),
        ("plural.po", b'msgid "a"\nmsgid_plural "b"\nmsgstr[999999999] ""\n', "."),
        ("other.docx", b"%PDF-1.7 no package", "no package"),
        ("half.txt", b"\xff\xfe\x00", "."),
    ],
)
def test_a_hostile_file_is_an_error_of_its_own_and_quotes_nothing(server, name, data, said):
    found = document(server, name, data)
    assert found["status"] == "error"
    assert re.search(said, found["error"])
    assert "root:" not in found["error"]
    assert server.get("/health/ready").status_code == 200


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS])
def test_where_nothing_can_be_written_files_are_refused_and_texts_translated(
    serve, tmp_path, monkeypatch, error
):
    key = KeyFile(tmp_path / "keys.json").add("anna")
    served = serve(keys=tmp_path / "keys.json", data=tmp_path / "state")
    headers = {"Authorization": f"Bearer {key}"}

    def fails(*args, **options):
        raise OSError(error, "no writing here")

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfileobj", fails)
        for module in ("glossaries", "metering"):
            patch.setattr(f"dragoman.server.{module}.replacing_file", fails)
        form, files = {"target": "fr"}, {"file": ("a.txt", "Yes.")}
        refused = served.post("/v1/documents", data=form, files=files, headers=headers)
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) > 0
        glossary = {"name": "n", "source": "en", "target": "fr", "entries": {"a": "b"}}
        assert served.post("/v1/glossaries", glossary, headers=headers).status_code == 503
        served.state.meter._saved = -1e9
        body = {"text": "Yes.", "source": "en", "target": "fr"}
        assert served.post("/v1/translate", body, headers=headers).status_code == 200
    assert not any(len(home.name) == 32 for home in served.uploads.folder.iterdir())
    assert document(served, "a.txt", b"Yes.", headers=headers)["status"] == "done"


def test_a_clock_that_jumps_takes_no_result_away(serve, tmp_path, monkeypatch):
    served = serve(data=tmp_path)
    id = document(served, "a.txt", b"Yes.")["id"]
    now = time.time()
    for jump in (1e8, -1e8):
        monkeypatch.setattr("dragoman.server.uploads.time.time", lambda jump=jump: now + jump)
        assert served.get(f"/v1/documents/{id}/result").status_code == 200
    served.stop()
    later = serve(data=tmp_path)  # whose clock has been set back
    assert later.get(f"/v1/documents/{id}/result").status_code == 200


def test_it_begins_and_translates_where_there_is_no_network(serve, monkeypatch):
    asked = []

    def connect(self, address):
        asked.append(address)
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        patch.setattr(socket, "getaddrinfo", connect)
        running.check(Settings())
        models = running.load_models(Settings(device="cpu"))
    assert asked == []
    body = {"text": "Yes.", "source": "en", "target": "fr"}
    assert serve(models=models).post("/v1/translate", body).status_code == 200
    models["mini"].loaded.close()


def test_a_model_that_does_not_translate_is_told_by_its_health(serve, translator, monkeypatch):
    def fails(*args, **options):
        raise NoNumbers

    monkeypatch.setattr(translator.system, "job", fails)
    served = serve()
    response = served.get("/health/ready")
    assert response.status_code == 503
    assert response.json() == {"status": "not working: mini"}
    assert served.get("/health/live").status_code == 200
