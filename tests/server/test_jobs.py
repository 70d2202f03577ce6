"""`/v1/jobs`: the work on files, listed, looked at, cancelled."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

from dragoman.errors import InvalidDocument
from dragoman.jobs import Jobs
from dragoman.server.keys import KeyFile
from dragoman.server.uploads import Uploads
from dragoman.translation.pipeline import Cancelled
from tests.server.test_documents import LONG, hand_in, wait
from tests.server.waiting import wait_until


def test_jobs_are_listed_looked_at_and_their_owners_alone(serve, tmp_path):
    keys = KeyFile(tmp_path / "keys.json")
    anna, otto = ({"Authorization": f"Bearer {keys.add(name)}"} for name in ("anna", "otto"))
    served = serve(keys=keys.path)
    id = hand_in(served, "a.txt", "Yes.", headers=anna).json()["id"]
    wait(served, id, headers=anna)
    (job,) = served.get("/v1/jobs", headers=anna).json()["jobs"]
    assert (job["id"], job["kind"], job["status"], job["progress"]) == (id, "document", "done", 1.0)
    assert job["created"] <= job["ended"]
    assert served.get(f"/v1/jobs/{id}", headers=anna).json() == job
    assert served.get("/v1/jobs", headers=otto).json() == {"jobs": []}
    assert served.get(f"/v1/jobs/{id}", headers=otto).status_code == 404
    assert served.post(f"/v1/jobs/{id}/cancel", headers=otto).status_code == 404
    assert served.get("/v1/jobs").status_code == 401
    assert served.post(f"/v1/jobs/{id}/cancel", headers=anna).json() == job  # what is over stays


def test_a_job_that_is_cancelled_frees_its_rows_stays_in_the_list_and_is_no_next_servers(serve, tmp_path):
    served = serve(data=tmp_path, batch=2)
    ids = [hand_in(served, "a.txt", LONG, source="en").json()["id"] for _ in range(3)]  # one of them waits
    wait_until(lambda: served.get(f"/v1/jobs/{ids[0]}").json()["progress"] > 0)
    for id in ids:
        job = served.post(f"/v1/jobs/{id}/cancel").json()
        assert (job["status"], job["error"]) == ("cancelled", "it was cancelled")
    assert served.idle()
    assert served.get(f"/v1/documents/{ids[0]}").json()["status"] == "cancelled"
    assert served.get(f"/v1/documents/{ids[0]}/result").status_code == 404
    with Jobs(tmp_path) as jobs:
        assert jobs.all() == []
    served.stop()
    later = serve(data=tmp_path)
    assert {job["status"] for job in later.get("/v1/jobs").json()["jobs"]} == {"cancelled"}
    assert later.delete(f"/v1/documents/{ids[0]}").status_code == 204
    assert len(later.get("/v1/jobs").json()["jobs"]) == 2


def test_who_waits_for_a_file_that_is_cancelled_is_told_so(serve):
    served = serve()
    with ThreadPoolExecutor(1) as pool:
        form, files = {"source": "en", "target": "fr"}, {"file": ("a.txt", LONG)}
        answer = pool.submit(served.post, "/translate_file", data=form, files=files)
        found = wait_until(lambda: served.get("/v1/jobs").json()["jobs"])
        served.post(f"/v1/jobs/{found[0]['id']}/cancel")
        assert answer.result().status_code == 409
        assert answer.result().json() == {"error": "it was cancelled"}


def test_a_file_that_is_cancelled_while_it_comes_is_not_begun(serve, monkeypatch):
    served, goes_on, keep = serve(), threading.Event(), Uploads._keep

    def slowly(self, upload, content):
        goes_on.wait(60)
        keep(self, upload, content)

    monkeypatch.setattr(Uploads, "_keep", slowly)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(hand_in, served, "a.txt", "Yes.", source="en")
        try:
            found = wait_until(lambda: served.get("/v1/jobs").json()["jobs"])
            job = served.post(f"/v1/jobs/{found[0]['id']}/cancel").json()
        finally:
            goes_on.set()
        assert job["status"] == "cancelled"
        assert answer.result().json()["id"] == job["id"]
    assert served.idle()
    assert served.get(f"/v1/jobs/{job['id']}").json() == job


def test_a_file_at_which_the_process_ends_again_and_again_is_an_error(serve, tmp_path, monkeypatch):
    begun = []

    def end(*args):
        (record,) = tmp_path.glob("*/record.json")
        begun.append(json.loads(record.read_text())["attempts"])
        raise Cancelled  # as where the server is told to stop

    monkeypatch.setattr("dragoman.server.uploads.translate", end)
    first = serve(data=tmp_path)
    id = hand_in(first, "a.txt", "Yes.", source="en").json()["id"]
    wait_until(lambda: begun)
    first.stop()
    path = tmp_path / id / "record.json"
    record = json.loads(path.read_text())
    assert (begun, record["attempts"]) == ([1], 0)  # an end that was asked for is not held against it
    path.write_text(json.dumps({**record, "attempts": 3}))
    job = serve(data=tmp_path).get(f"/v1/jobs/{id}").json()
    assert (job["status"], begun) == ("failed", [1])
    assert "has ended 3 times while it worked on this file" in job["error"]


def test_files_at_which_a_process_has_ended_are_worked_on_alone_and_first(serve, tmp_path, monkeypatch):
    begun: list[str] = []
    other = threading.Event()

    def end(*args):
        raise Cancelled

    def note(state, order, *args):
        begun.append(order.name)
        if len(begun) > 1:
            other.set()
        elif other.wait(0.3):
            begun.append("beside another")
        raise InvalidDocument("enough")

    monkeypatch.setattr("dragoman.server.uploads.translate", end)
    first = serve(data=tmp_path)
    names = {hand_in(first, f"{name}.txt", "Yes.", source="en").json()["id"]: name for name in "abc"}
    first.stop()
    for id, name in names.items():
        path = tmp_path / id / "record.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "attempts": int(name in "bc")}))
    monkeypatch.setattr("dragoman.server.uploads.translate", note)
    later = serve(data=tmp_path)
    wait_until(lambda: all(job["ended"] for job in later.get("/v1/jobs").json()["jobs"]))
    assert begun == ["b.txt", "c.txt", "a.txt"]


def test_files_that_wait_behind_one_that_is_worked_on_alone_are_counted(serve, tmp_path, monkeypatch):
    begun, enough = threading.Event(), threading.Event()

    def end(*args):
        raise Cancelled

    def hold(*args):
        begun.set()
        enough.wait()
        raise InvalidDocument("enough")

    monkeypatch.setattr("dragoman.server.uploads.translate", end)
    first = serve(data=tmp_path)
    id = hand_in(first, "a.txt", "Yes.", source="en").json()["id"]
    first.stop()
    path = tmp_path / id / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "attempts": 1}))
    monkeypatch.setattr("dragoman.server.uploads.translate", hold)
    later = serve(data=tmp_path, queue_per_key=3)
    assert begun.wait(60)
    answers = [hand_in(later, f"{name}.txt", "Yes.", source="en") for name in "bcd"]
    enough.set()
    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert answers[-1].headers["Retry-After"]
    assert wait_until(lambda: all(job["ended"] for job in later.get("/v1/jobs").json()["jobs"]))
    assert hand_in(later, "d.txt", "Yes.", source="en").status_code == 202
