"""Files as jobs: what ends early goes on, folders and patterns, and `dragoman jobs`."""

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from dragoman.jobs.database import NAME
from tests.cli.halting import held_after, killed_after

FROM_TO = ("--from", "en", "--to", "de")
PATIENCE = 300
"""Seconds for a process on a machine that has much else to do."""


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DRAGOMAN_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def lines(tmp_path, tatoeba) -> Path:
    path = tmp_path / "in.txt"
    path.write_text("".join(f"{english}\n" for _, english in tatoeba["de"][:60]), encoding="utf-8")
    return path


def committed(state: Path) -> int:
    """Sentences that unfinished jobs have done."""
    if not (state / NAME).exists():
        return 0
    with closing(sqlite3.connect(state / NAME, timeout=30)) as database:
        try:
            return database.execute("SELECT count(*) FROM results").fetchone()[0]
        except sqlite3.OperationalError:  # the tables aren't there yet
            return 0


@pytest.fixture
def killed(process, state):
    """Run `dragoman ARGS` until it has kept so many sentences, and is killed."""

    def run(*args: object, after: int) -> None:
        program = killed_after(sentences=after)
        assert process(*args, env={"DRAGOMAN_STATE": str(state)}, program=program).wait(PATIENCE) == -9

    return run


@pytest.fixture
def held(process, state, tmp_path_factory):
    """Start `dragoman ARGS`, which waits once it has kept five sentences; and what lets it go on."""
    go = tmp_path_factory.mktemp("go") / "go"

    def run(*args: object) -> "tuple[subprocess.Popen[bytes], Callable[[], None]]":
        running = process(*args, env={"DRAGOMAN_STATE": str(state)}, program=held_after(5, go))
        deadline = time.monotonic() + PATIENCE
        while committed(state) < 5 and running.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return running, go.touch

    return run


def engine_work(monkeypatch, translator) -> list[str]:
    """The sentences that the model is asked for from now on."""
    asked = []
    real = translator.system.job
    monkeypatch.setattr(
        translator.system,
        "job",
        lambda row, request, *rest: asked.append(request.text) or real(row, request, *rest),
    )
    return asked


def test_lines_go_on_after_a_kill_without_doing_anything_twice(
    run, killed, lines, tmp_path, state, monkeypatch, translator
):
    command = ("translate", *FROM_TO, "--input", lines, "--output", tmp_path / "out.txt", "--batch-size", "4")
    killed(*command, after=10)
    done = committed(state)
    assert done == 10
    assert not (tmp_path / "out.txt").exists()
    asked = engine_work(monkeypatch, translator)
    result = run(*command)
    assert result.code == 0
    assert f"job 1 goes on: {done} sentences are done already" in result.err
    assert "did not complete" not in result.err
    again = len(asked)
    unbroken = run("translate", *FROM_TO, "-i", lines, "-o", tmp_path / "other.txt")
    assert unbroken.code == 0
    assert len(asked) == again + again + done
    assert (tmp_path / "out.txt").read_bytes() == (tmp_path / "other.txt").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", "other.txt", "out.txt", "state"]
    assert committed(state) == 0


def test_a_document_goes_on_by_number(run, killed, tmp_path, state, tatoeba, monkeypatch, translator):
    text = "".join(f"# {english}\n\n- **{english}** Well.\n\n" for _, english in tatoeba["fr"][:20])
    (tmp_path / "a.md").write_text(text, encoding="utf-8")
    command = ("translate", *FROM_TO, "--batch-size", "4", tmp_path / "a.md")
    killed(*command, after=10)
    listed = json.loads(run("jobs", "list", "--json").out)
    assert (listed["id"], listed["state"], listed["files"][0]["input"]) == (
        1, "interrupted", str(tmp_path / "a.md"),
    )  # fmt: skip
    done = committed(state)
    asked = engine_work(monkeypatch, translator)
    result = run("jobs", "resume", 1)
    assert (result.code, result.out) == (0, "")
    assert f"{done} sentences are done already" in result.err
    assert asked
    again = len(asked)
    assert run("translate", *FROM_TO, "-o", tmp_path / "other.md", tmp_path / "a.md").code == 0
    assert len(asked) == again + again + done
    assert (tmp_path / "a.de.md").read_bytes() == (tmp_path / "other.md").read_bytes()
    assert run("jobs", "resume", 1).err == "error: job 1 is done; there is nothing to go on with\n"


def test_input_that_has_changed_is_noticed_and_only_what_is_new_is_done(
    run, killed, lines, tmp_path, state, monkeypatch, translator
):
    command = ("translate", *FROM_TO, "-i", lines, "-o", tmp_path / "out.txt", "--batch-size", "4")
    killed(*command, after=10)
    text = lines.read_text(encoding="utf-8")
    lines.write_text("A new line.\n" + text, encoding="utf-8")
    asked = engine_work(monkeypatch, translator)
    result = run(*command)
    assert "has changed since the job began" in result.err
    assert "A new line." in asked
    assert len((tmp_path / "out.txt").read_text(encoding="utf-8").splitlines()) == 61


def test_a_file_that_changes_under_way_is_said(run, lines, tmp_path, monkeypatch, translator):
    real = translator.stream

    def stream(texts, **options):
        for number, result in enumerate(real(texts, **options)):
            if number == 1:
                lines.write_text("Something else.\n", encoding="utf-8")
            yield result

    monkeypatch.setattr(translator, "stream", stream)
    result = run("translate", *FROM_TO, "-i", lines, "-o", tmp_path / "out.txt")
    assert "has changed while it was translated" in result.err


def test_no_job_keeps_nothing(run, lines, tmp_path, state):
    assert run("translate", *FROM_TO, "--no-job", "-i", lines, "-o", tmp_path / "out.txt").code == 0
    assert run("translate", *FROM_TO, "Good night.").code == 0
    assert run("translate", *FROM_TO, stdin=b"Good night.\n").code == 0
    assert not state.exists()


def test_a_list_that_can_not_be_used_costs_a_note(run, lines, tmp_path, state):
    state.write_text("no folder", encoding="utf-8")
    result = run("translate", *FROM_TO, "-i", lines, "-o", tmp_path / "out.txt")
    assert result.code == 0
    assert "the list of jobs can't be in" in result.err
    assert run("jobs", "list").code == 2


def test_a_job_is_shown_cancelled_and_struck_off(run, held, lines, tmp_path, state):
    assert "no jobs" in run("jobs", "list").err
    command = ("translate", *FROM_TO, "-i", lines, "-o", tmp_path / "out.txt", "--batch-size", "4")
    running, go_on = held(*command)
    assert "running" in run("jobs", "list").out
    assert f"{lines} -> {tmp_path / 'out.txt'}" in run("jobs", "show", 1).out
    assert "another process" in run(*command).err
    assert run("jobs", "cancel", 1).code == 0
    go_on()
    _, err = running.communicate(timeout=PATIENCE)
    assert running.returncode == 2
    assert b"job 1 was cancelled" in err
    assert run("jobs", "list").out.splitlines()[1].split("\t")[1] == "cancelled"
    assert committed(state) == 0
    assert run("jobs", "remove", 1).code == 0
    assert "there is no job 1" in run("jobs", "show", 1).err


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(held, lines, tmp_path):
    command = ("translate", *FROM_TO, "-i", lines, "-o", tmp_path / "out.txt", "--batch-size", "4")
    running, _ = held(*command)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=PATIENCE)
    assert running.returncode == 130
    assert b"go on with the same command, or with: dragoman jobs resume 1" in err


# ---- folders and patterns ----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Files of several kinds, in a folder below the current one."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "docs"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.md").write_text("Good night.\n", encoding="utf-8")
    (folder / "deep" / "b.html").write_text("<p>Thank you.</p>", encoding="utf-8")
    (folder / "deep" / "logo.png").write_bytes(b"\x89PNG")
    (folder / ".hidden.md").write_text("No.\n", encoding="utf-8")
    return folder


def test_a_folder_is_all_its_documents_and_keeps_its_shape(run, folder):
    assert run("translate", *FROM_TO, "docs", "--output-dir", "out").code == 0
    made = sorted(path.relative_to(folder.parent).as_posix() for path in Path("out").resolve().rglob("*.*"))
    assert made == ["out/a.de.md", "out/deep/b.de.html"]


def test_a_folder_that_was_translated_is_not_translated_from_its_translations(run, folder):
    assert run("translate", *FROM_TO, "docs/").code == 0
    result = run("translate", *FROM_TO, "docs/")
    assert result.code == 2
    assert "docs/a.de.md exists already (and 1 more); --overwrite" in result.err
    assert run("translate", *FROM_TO, "docs/", "--overwrite").code == 0
    assert not list(folder.rglob("*.de.de.*"))


def test_a_pattern_in_quotation_marks_is_the_files_that_fit(run, folder):
    assert run("translate", *FROM_TO, "docs/**/*.html").code == 0
    assert (folder / "deep" / "b.de.html").exists()
    assert not (folder / "a.de.md").exists()


def test_a_question_is_no_pattern_and_a_word_no_folder(run, folder):
    result = run("translate", *FROM_TO, "docs", "Where is the station?")
    assert result.code == 0
    assert len(result.lines) == 2


def test_a_broken_file_stops_no_other(run, folder):
    (folder / "b.md").write_bytes(b"abc\xff")
    (folder / "c.json").write_text("{", encoding="utf-8")
    result = run("translate", *FROM_TO, "docs/")
    assert result.code == 1
    assert "b.md: byte 4" in result.err
    assert "c.json: " in result.err
    assert (folder / "deep" / "b.de.html").exists()
    states = {
        Path(f["input"]).name: f["state"] for f in json.loads(run("jobs", "list", "--json").out)["files"]
    }
    assert states == {"a.md": "done", "b.md": "failed", "c.json": "failed", "b.html": "done"}


def test_a_file_that_was_mended_is_done_by_the_same_command(run, folder):
    (folder / "c.json").write_text("{", encoding="utf-8")
    assert run("translate", *FROM_TO, "docs/").code == 1
    (folder / "c.json").write_text('{"a": "Good night."}', encoding="utf-8")
    result = run("translate", *FROM_TO, "docs/")
    assert result.code == 0
    assert "a.md: translated to docs/a.de.md already" in result.err
    assert (folder / "c.de.json").exists()
    assert json.loads(run("jobs", "list", "--json").out)["state"] == "done"


def test_what_nobody_could_be_told_is_written_and_no_hindrance(run, folder, monkeypatch):
    """The reader of --json goes away behind the first file: its translation is there, the job's own."""
    from dragoman.cli import documents

    with monkeypatch.context() as patch:
        patch.setattr(
            documents.DocumentSession, "_tell", lambda *told: (_ for _ in ()).throw(BrokenPipeError)
        )
        run("translate", *FROM_TO, "docs/")
    assert (folder / "a.de.md").exists()
    assert run("translate", *FROM_TO, "docs/").code == 0


def test_a_report_of_a_job_that_goes_on_has_all_files(run, folder, monkeypatch, translator):
    real = translator.translate_document

    def stopped(document, **options):
        if "Thank" in document.segments[0].text:
            raise KeyboardInterrupt
        return real(document, **options)

    monkeypatch.setattr(translator, "translate_document", stopped)
    assert run("translate", *FROM_TO, "docs/", "--report", "r.json").code == 130
    monkeypatch.setattr(translator, "translate_document", real)
    assert run("translate", *FROM_TO, "docs/", "--report", "r.json").code == 0
    assert [one["input"] for one in json.loads(Path("r.json").read_text(encoding="utf-8"))] == [
        "docs/a.md",
        "docs/deep/b.html",
    ]


def test_a_folder_goes_on_with_the_files_that_are_not_done(run, folder, monkeypatch, translator):
    real = translator.translate_document

    def stopped(document, **options):
        if "Thank" in document.segments[0].text:
            raise KeyboardInterrupt
        return real(document, **options)

    monkeypatch.setattr(translator, "translate_document", stopped)
    assert run("translate", *FROM_TO, "docs/").code == 130
    monkeypatch.setattr(translator, "translate_document", real)
    (folder / "a.de.md").write_text("a reader's own\n", encoding="utf-8")
    result = run("translate", *FROM_TO, "docs/")
    assert result.code == 0
    assert "a.md: translated to docs/a.de.md already" in result.err
    assert (folder / "a.de.md").read_text(encoding="utf-8") == "a reader's own\n"
    assert (folder / "deep" / "b.de.html").exists()


def test_a_folder_without_documents_is_refused(run, folder):
    (folder / "empty").mkdir()
    assert "there is no file of a known format in docs/empty" in run("translate", *FROM_TO, "docs/empty").err
    assert "no file of HTML in docs/empty" in run("translate", "--format", "html", *FROM_TO, "docs/empty").err


@pytest.mark.slow
def test_twenty_kills_change_nothing(tmp_path, tatoeba, state):
    """5,000 segments, killed at twenty random moments, become what they become without an end."""
    pairs = [english for code in ("de", "es", "fr", "nl") for _, english in tatoeba[code]]
    every = (f"{english.rstrip('.?!')} {number}." for number in range(30, 50) for english in pairs)
    texts = list(dict.fromkeys(every))[:5000]
    source = tmp_path / "in.txt"
    source.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "dragoman",
        "translate",
        *FROM_TO,
        "--beams",
        "1",
        "-i",
        str(source),
        "-o",
    ]
    chance = random.Random(7)
    counts = [0]
    while True:
        process = subprocess.Popen([*command, str(tmp_path / "out.txt")], stderr=subprocess.DEVNULL)
        if len(counts) <= 20:
            goal = counts[-1] + chance.randrange(20, 220)
            while committed(state) < goal and process.poll() is None:
                time.sleep(0.02)
            process.kill()
            process.wait()
            counts.append(committed(state))
        else:
            assert process.wait() == 0
            break
        if (tmp_path / "out.txt").exists():
            pytest.fail(f"it was done before the last kill: {counts}")
    assert counts == sorted(counts)
    unbroken = subprocess.run([*command, str(tmp_path / "other.txt"), "--no-job"], check=False)
    assert unbroken.returncode == 0
    assert (tmp_path / "out.txt").read_bytes() == (tmp_path / "other.txt").read_bytes()
