"""The list of jobs: what is kept, what goes on, and what is forgotten."""

import sqlite3
import time
from dataclasses import replace

import pytest

from dragoman.errors import JobError, JobRunning
from dragoman.jobs import Jobs, Plan
from dragoman.jobs import run as running
from dragoman.jobs.database import NAME
from dragoman.jobs.jobs import KEPT_DAYS
from dragoman.languages import find
from dragoman.systems import Request
from dragoman.translation.recall import packed
from dragoman.translation.results import Candidate

PLAN = Plan(
    {"beams": 4}, [("/in/a.md", "/out/a.de.md"), ("/in/b.md", "/out/b.de.md")], ["translate"], target="de"
)
REQUEST = Request("Good night.", find("en"), find("de"))
DONE = (
    Candidate("Gute Nacht.", -0.25, ("▁Gute", "▁Nacht", "."), True),
    Candidate("", float("-inf"), (), False),
)


@pytest.fixture
def jobs(tmp_path):
    with Jobs(tmp_path / "state") as jobs:
        yield jobs


def end_with(run, error, *puts):
    """Some sentences, and then an error."""
    with run:
        for request in puts:
            run.put(request, DONE)
        raise error


def interrupt(jobs, plan=PLAN, *puts):
    run = jobs.begin(plan)
    with pytest.raises(KeyboardInterrupt):
        end_with(run, KeyboardInterrupt(), *puts)
    return run


def test_what_was_put_is_there_after_an_end(jobs):
    first = interrupt(jobs, PLAN, REQUEST)
    assert jobs.get(first.id).state == "interrupted"
    assert jobs.get(first.id).done == 1
    with jobs.begin(PLAN) as run:
        assert (run.id, run.is_resumed, run.known) == (first.id, True, 1)
        assert run.get(REQUEST) == DONE
        assert run.get(replace(REQUEST, text="Good night")) is None
        assert run.get(replace(REQUEST, target=find("fr"))) is None


def test_a_process_that_vanishes_leaves_an_interrupted_job(jobs):
    run = jobs.begin(PLAN)
    run.put(REQUEST, DONE)
    assert jobs.get(run.id).state == "running"
    run._held.close()  # as the system does for a process that was killed
    assert jobs.get(run.id).state == "interrupted"
    with jobs.begin(PLAN) as again:
        assert again.get(REQUEST) == DONE


def test_what_is_done_is_forgotten_but_listed(jobs):
    with jobs.begin(PLAN) as run:
        run.put(REQUEST, DONE)
        run.close_file(0, 7, 2)
        run.close_file(1, 5, 0)
    job = jobs.get(run.id)
    assert (job.state, job.done, job.share) == ("done", 1, 1.0)
    assert [(f.state, f.segments, f.flagged, f.error) for f in job.files] == [
        ("done", 7, 2, None),
        ("done", 5, 0, None),
    ]
    assert not _results(jobs)
    with jobs.begin(PLAN) as again:
        assert again.id != run.id
        assert again.get(REQUEST) is None


def test_a_job_with_a_file_that_failed_can_go_on(jobs):
    with jobs.begin(PLAN) as run:
        run.put(REQUEST, DONE)
        run.close_file(0, 7, 2)
        run.close_file(1, 0, 0, "it is broken")
    job = jobs.get(run.id)
    assert (job.state, job.error) == ("failed", "a file could not be translated")
    assert job.files[1].error == "it is broken"
    with jobs.begin(PLAN) as again:
        assert again.id == run.id
        assert again.get(REQUEST) == DONE
        again.close_file(1, 3, 0)
    assert jobs.get(run.id).state == "done"


def test_names_may_be_no_unicode(jobs):
    name = "/in/caf\udce9.md"
    plan = replace(PLAN, files=[(name, name + ".de")], folder="/caf\udce9", command=[name])
    run = interrupt(jobs, plan)
    job = jobs.get(run.id)
    assert (str(job.files[0].input), job.folder, job.command) == (name, "/caf\udce9", (name,))


def test_another_plan_is_another_job(jobs):
    first = interrupt(jobs, PLAN, REQUEST)
    for other in (replace(PLAN, decisive={"beams": 5}), replace(PLAN, files=PLAN.files[:1])):
        with jobs.begin(other) as run:
            assert run.id != first.id
            assert run.get(REQUEST) is None
    assert jobs.find(PLAN).id == first.id
    assert jobs.find(replace(PLAN, command=["other", "words"])).id == first.id


def test_an_error_leaves_a_job_that_can_go_on_and_says_how(jobs):
    run = jobs.begin(PLAN)
    with pytest.raises(OSError, match="full") as caught:
        end_with(run, OSError("the disk is full"), REQUEST)
    assert f"dragoman jobs resume {run.id}" in caught.value.__notes__[0]
    job = jobs.get(run.id)
    assert (job.state, job.error, job.is_unfinished) == ("failed", "the disk is full", True)
    with jobs.begin(PLAN) as again:
        assert again.get(REQUEST) == DONE
    assert jobs.get(run.id).error is None


def test_two_processes_do_not_work_on_one_job(jobs):
    with jobs.begin(PLAN), pytest.raises(JobRunning, match="another process"):
        jobs.begin(PLAN)
    assert [job.state for job in jobs.all()] == ["done"]


def test_a_running_job_hears_that_it_is_cancelled(jobs, monkeypatch):
    monkeypatch.setattr(running, "_LOOKS", 0.0)
    run = jobs.begin(PLAN)
    run.put(REQUEST, DONE)
    assert jobs.cancel(run.id).state == "running"
    with pytest.raises(JobError, match="was cancelled"):
        end_with(run, AssertionError("it should have ended before"), REQUEST)
    assert jobs.get(run.id).state == "cancelled"
    assert not _results(jobs)
    with pytest.raises(JobError, match="is cancelled already"):
        jobs.cancel(run.id)


def test_an_interrupted_job_is_cancelled_at_once(jobs):
    run = interrupt(jobs, PLAN, REQUEST)
    assert jobs.cancel(run.id).state == "cancelled"
    assert not _results(jobs)


def test_a_job_can_be_struck_off_unless_it_runs(jobs):
    with jobs.begin(PLAN) as run, pytest.raises(JobError, match="is running"):
        jobs.remove(run.id)
    jobs.remove(run.id)
    with pytest.raises(JobError, match=f"no job {run.id}; the latest are: none"):
        jobs.get(run.id)


def test_what_nobody_takes_up_is_forgotten_after_a_month(jobs, monkeypatch):
    old = interrupt(jobs, PLAN, REQUEST)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + KEPT_DAYS * 86400 + 1)
    with jobs.begin(replace(PLAN, decisive={})):
        assert [job.id for job in jobs.all()] != [old.id]
    assert not _results(jobs)


def test_work_goes_on_where_nothing_can_be_kept(jobs):
    said = []
    with jobs.begin(PLAN, said.append) as run:
        jobs._connection.execute("PRAGMA query_only = ON")
        run.put(REQUEST, DONE)
        run.put(REQUEST, DONE)
        run.close_file(0, 1, 0)
    assert len(said) == 1
    assert "can't keep what is done" in said[0]


def test_a_file_that_is_no_list_of_jobs_is_named_and_stays(tmp_path):
    (tmp_path / NAME).write_bytes(b"something else, by mistake, and long enough to be read as a header" * 20)
    with pytest.raises(JobError, match=r"jobs\.sqlite can't be used: file is not a database"):
        Jobs(tmp_path)
    assert (tmp_path / NAME).read_bytes().startswith(b"something")


def test_the_list_of_a_later_release_is_left_alone(tmp_path):
    Jobs(tmp_path).close()
    with sqlite3.connect(tmp_path / NAME) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(JobError, match=r"is of another release or program .*DRAGOMAN_STATE"):
        Jobs(tmp_path)


def test_what_people_translate_is_their_own(jobs):
    run = interrupt(jobs, PLAN, REQUEST)
    assert jobs.folder.stat().st_mode & 0o077 == 0
    for path in jobs.folder.glob(f"{NAME}*"):
        assert path.stat().st_mode & 0o077 == 0, path
    jobs._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert packed(DONE) in (jobs.folder / NAME).read_bytes()
    jobs.cancel(run.id)
    jobs._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert packed(DONE) not in (jobs.folder / NAME).read_bytes()


def _results(jobs):
    return jobs._connection.execute("SELECT * FROM results").fetchall()
