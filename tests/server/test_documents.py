"""Files over our own API, and what becomes of them when a server ends."""

import threading

import pytest

from dragoman.server.keys import KeyFile
from dragoman.server.work import Calls
from tests.server.waiting import ENDLESS, SECONDS, wait_until

TEXT = "\n".join(ENDLESS[:24])
LONG = "\n".join(ENDLESS)


def hand_in(served, name: str, data: bytes | str, **fields):
    headers = fields.pop("headers", {})
    files = {"file": (name, data)}
    return served.post("/v1/documents", data={"target": "fr", **fields}, files=files, headers=headers)


def wait(served, id: str, **options) -> dict:
    def over() -> dict | None:
        found = served.get(f"/v1/documents/{id}", **options).json()
        return found if found["status"] in ("done", "error") else None

    return wait_until(over)


def test_a_file_is_handed_in_asked_for_and_fetched(server, translator, tmp_path):
    text = "# Good morning!\n\nWhere is the **station**?\n"
    response = hand_in(server, "notes.md", text, source="en")
    assert response.status_code == 202
    id = response.json()["id"]
    assert response.headers["Location"] == f"/v1/documents/{id}"
    found = wait(server, id)
    assert (found["status"], found["progress"], found["segments"]) == ("done", 1.0, 2)
    assert found["characters"] == len("Good morning!Where is the station?")
    made = server.get(f"/v1/documents/{id}/result")
    (tmp_path / "notes.md").write_text(text)
    expected = translator.translate_file(tmp_path / "notes.md", "en", "fr")
    assert made.content == expected.data
    assert 'filename="notes.fr.md"' in made.headers["Content-Disposition"]
    assert server.get(f"/v1/documents/{id}/result").status_code == 200
    assert server.delete(f"/v1/documents/{id}").status_code == 204
    assert server.get(f"/v1/documents/{id}").status_code == 404
    assert not list(server.uploads.folder.glob(f"{id}*"))


def test_a_file_whose_language_is_not_said_is_detected(server):
    id = hand_in(server, "a.txt", "Ich habe heute leider keine Zeit.").json()["id"]
    assert wait(server, id)["source"] == "deu_Latn"


@pytest.mark.parametrize(
    ("name", "data", "fields", "status"),
    [
        ("a.exe", b"MZ", {}, 400),
        ("a.txt", b"Hello", {"target": "zz"}, 400),
        ("a.txt", b"Hello", {"source": "zz"}, 400),
        ("a.txt", b"Hello", {"model": "huge"}, 404),
        ("a.txt", b"Hello", {"colour": "red"}, 400),
        ("", b"Hello", {}, 400),
    ],
)
def test_what_cannot_be_translated_is_refused(server, name, data, fields, status):
    response = hand_in(server, name, data, **fields)
    assert response.status_code == status
    assert response.json()["error"]["message"]


def test_a_broken_file_is_an_error_of_its_own(server):
    id = hand_in(server, "a.docx", b"PK\x03\x04 broken").json()["id"]
    found = wait(server, id)
    assert found["status"] == "error"
    assert found["error"]
    response = server.get(f"/v1/documents/{id}/result")
    assert response.status_code == 404
    assert response.json()["error"]["message"] == found["error"]


def test_what_is_not_done_is_not_fetched_and_a_removed_file_frees_its_rows(serve):
    served = serve()
    id = hand_in(served, "a.txt", LONG, source="en").json()["id"]
    response = served.get(f"/v1/documents/{id}/result")
    assert response.status_code == 409
    assert response.headers["Retry-After"]
    wait_until(lambda: served.get(f"/v1/documents/{id}").json()["status"] == "translating")
    assert served.delete(f"/v1/documents/{id}").status_code == 204
    assert served.idle()
    assert served.get("/v1/documents").json() == {"documents": []}


def test_a_file_that_is_removed_while_it_is_worked_on_leaves_no_job_and_no_folder(serve, tmp_path):
    from dragoman.jobs import Jobs

    served = serve(data=tmp_path, batch=2)
    id = hand_in(served, "a.txt", LONG, source="en").json()["id"]
    wait_until(lambda: served.get(f"/v1/documents/{id}").json()["progress"] > 0)
    assert served.delete(f"/v1/documents/{id}").status_code == 204
    assert served.idle()
    with Jobs(tmp_path) as jobs:
        assert jobs.all() == []
    assert not (tmp_path / id).exists()


def test_behind_a_proxy_that_is_believed_a_client_has_its_own_address(serve):
    def listed(served, address: str) -> int:
        headers = {"X-Forwarded-For": address}
        return len(served.get("/v1/documents", headers=headers).json()["documents"])

    believing, other = serve(proxies=("127.0.0.0/8",)), serve(proxies=())
    for served in (believing, other):
        assert hand_in(served, "a.txt", "Yes.", headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 202
    assert (listed(believing, "192.0.2.1"), listed(believing, "192.0.2.2")) == (1, 0)
    assert (listed(other, "192.0.2.1"), listed(other, "192.0.2.2")) == (1, 1)


def test_files_are_their_owners_alone(serve, tmp_path):
    keys = KeyFile(tmp_path / "keys.json")
    anna, otto = ({"Authorization": f"Bearer {keys.add(name)}"} for name in ("anna", "otto"))
    served = serve(keys=keys.path)
    id = hand_in(served, "a.txt", "Yes.", headers=anna).json()["id"]
    assert wait(served, id, headers=anna)["status"] == "done"
    for path in (f"/v1/documents/{id}", f"/v1/documents/{id}/result"):
        assert served.get(path, headers=otto).status_code == 404
        assert served.get(path).status_code == 401
    assert served.get("/v1/documents", headers=otto).json() == {"documents": []}
    assert len(served.get("/v1/documents", headers=anna).json()["documents"]) == 1


def test_a_file_counts_for_its_key(serve, tmp_path):
    keys = KeyFile(tmp_path / "keys.json")
    headers = {"Authorization": f"Bearer {keys.add('anna', characters_per_month=10)}"}
    served = serve(keys=keys.path)
    id = hand_in(served, "a.txt", "Good morning, everybody!", headers=headers).json()["id"]
    found = wait(served, id, headers=headers)
    assert found["status"] == "error"
    assert "used up" in found["error"]


def test_the_next_server_goes_on_with_what_was_not_done(serve, tmp_path, translator, monkeypatch):
    asked: list[str] = []
    ends, job, stop = threading.Event(), translator.system.job, Calls.stop

    def noted(row, request, options):
        asked.append(request.text)
        if len(asked) == 16:
            ends.wait(SECONDS)  # so that it is not done before it is stopped
        return job(row, request, options)

    def stopped(calls):
        stop(calls)
        ends.set()

    monkeypatch.setattr(translator.system, "job", noted)
    monkeypatch.setattr(Calls, "stop", stopped)
    first = serve(data=tmp_path / "state", batch=4)
    done = hand_in(first, "b.txt", "Yes.", source="en").json()["id"]
    assert wait(first, done)["status"] == "done"
    id = hand_in(first, "a.txt", TEXT, source="en").json()["id"]
    wait_until(lambda: first.get(f"/v1/documents/{id}").json()["progress"] > 0 and len(asked) == 16)
    first.stop()
    asked.clear()
    second = serve(data=tmp_path / "state")
    assert second.get(f"/v1/documents/{done}").json()["status"] == "done"
    assert wait(second, id)["status"] == "done"
    assert 0 < len(set(asked) & set(TEXT.splitlines())) < 24
    (tmp_path / "a.txt").write_text(TEXT)
    expected = translator.translate_file(tmp_path / "a.txt", "en", "fr")
    assert second.get(f"/v1/documents/{id}/result").content == expected.data
    translated = second.get("/metrics").text
    assert 'dragoman_files_total{model="mini",target="fra_Latn"} 1.0' in translated


def test_results_are_forgotten_after_a_while(serve):
    served = serve(file_minutes=0.1)
    id = hand_in(served, "a.txt", "Yes.").json()["id"]
    wait(served, id)
    upload = served.uploads.owned(served.caller, id)
    served.uploads.progress(upload).goes -= 7
    assert served.get(f"/v1/documents/{id}").status_code == 404
    assert not (served.uploads.folder / id).exists()


def test_two_servers_do_not_share_a_folder(serve, tmp_path):
    from dragoman.errors import InvalidOption

    serve(data=tmp_path / "state")
    with pytest.raises(InvalidOption, match="another server"):
        serve(data=tmp_path / "state")


def test_formats_are_listed(server):
    formats = {one["name"]: one for one in server.get("/v1/documents/formats").json()["formats"]}
    assert formats["docx"]["extensions"][0] == ".docx"


def test_a_limit_of_a_minute_delays_a_file_and_is_no_error(serve, tmp_path, monkeypatch):
    keys = KeyFile(tmp_path / "keys.json")
    headers = {"Authorization": f"Bearer {keys.add('anna', characters_per_minute=10)}"}
    served = serve(keys=keys.path)
    waits: list[float] = []

    def wait_a_minute(calls, seconds):
        waits.append(seconds)
        for use in served.state.meter._uses.values():
            use.recent.clear()
            use.characters = 0

    monkeypatch.setattr("dragoman.server.work.Calls.wait", wait_a_minute)
    body = {"text": "Yes.", "source": "en", "target": "fr"}
    assert served.post("/v1/translate", body, headers=headers).status_code == 200
    id = hand_in(served, "a.txt", "Good morning!", source="en", headers=headers).json()["id"]
    assert wait(served, id, headers=headers)["status"] == "done"
    assert [0 < seconds <= 60 for seconds in waits] == [True]


def test_what_came_half_or_waited_too_long_is_gone_at_the_next_start(serve, tmp_path):
    first = serve(data=tmp_path)
    id = hand_in(first, "a.txt", "Yes.").json()["id"]
    wait(first, id)
    upload = first.uploads.owned(first.caller, id)
    upload.ended -= 1e6
    first.uploads.fetched(upload)
    first.stop()
    half = tmp_path / ("A" * 32)
    half.mkdir()
    (half / "input").write_text("Yes.")
    second = serve(data=tmp_path)
    assert not half.exists()
    assert not (tmp_path / id).exists()
    assert (tmp_path / "lock").exists()
    assert second.get("/v1/documents").json() == {"documents": []}


def test_a_file_that_ends_in_an_error_leaves_no_job(serve, tmp_path, translator, monkeypatch):
    from dragoman.errors import TranslationTimeout
    from dragoman.jobs import Jobs

    served = serve(data=tmp_path)

    def too_long(calls, *args, **options):
        raise TranslationTimeout("it takes too long")

    monkeypatch.setattr("dragoman.server.work.Calls.stream", too_long)
    id = hand_in(served, "a.txt", "Yes.", source="en").json()["id"]
    assert wait(served, id)["status"] == "error"
    assert served.idle()
    with Jobs(tmp_path) as jobs:
        assert jobs.all() == []
