"""Files that are read whole, or that appear whole."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dragoman.errors import CheckpointError, InvalidOption
from dragoman.files import OutputFile, read_json, replacing_file, replacing_files, write_json


def test_json_comes_back(tmp_path):
    path = tmp_path / "config.json"
    write_json(path, {"b": "größer", "a": [1]})
    assert read_json(path, CheckpointError) == {"b": "größer", "a": [1]}
    write_json(path, {"b": 1, "a": 2}, sort_keys=True)
    assert path.read_text() == '{\n  "a": 2,\n  "b": 1\n}\n'


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe{", b"[1]", b"[" * 100_000])
def test_what_is_no_object_is_the_callers_error(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json (can't be read|should hold an object)"):
        read_json(path, CheckpointError)


def test_only_the_caller_knows_what_an_absent_file_means(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "config.json", CheckpointError)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "state"
    with replacing_file(path) as file:
        file.write(b"first")
        assert not path.exists()
    fresh = tmp_path / "fresh"
    fresh.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(fresh.stat().st_mode)

    def fail() -> None:
        with replacing_file(path) as file:
            file.write(b"second")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"first"
    assert set(tmp_path.iterdir()) == {path, fresh}


def test_a_set_of_files_is_replaced_and_what_is_stale_goes(tmp_path):
    for name in ("a", "b", "index", "notes"):
        (tmp_path / name).write_text("old")
    with replacing_files(tmp_path, "index", lambda name: name in ("a", "b", "index")) as scratch:
        (scratch / "a").write_text("new")
        assert (tmp_path / "a").read_text() == "old"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new", "notes": "old"}


def test_the_seal_is_gone_while_files_move_in(tmp_path, monkeypatch):
    (tmp_path / "index").write_text("old")
    seen = []
    real = os.replace

    def watch(source: Path, target: Path) -> None:
        seen.append((target.name, (tmp_path / "index").exists()))
        real(source, target)

    monkeypatch.setattr(os, "replace", watch)
    with replacing_files(tmp_path, "index", lambda name: False) as scratch:
        for name in ("a", "index"):
            (scratch / name).write_text("new")
    assert seen == [("a", False), ("index", False)]


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.part"))


def test_output_takes_its_name_when_complete(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("old")
    with OutputFile(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
        assert [part.read_bytes() for part in parts(tmp_path)] == [b"new"]
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def interrupted(path: Path, *content: bytes) -> BaseException:
    with pytest.raises(KeyboardInterrupt) as raised, OutputFile(path) as file:  # noqa: PT012
        for data in content:
            file.write(data)
        raise KeyboardInterrupt
    return raised.value


def test_what_was_done_before_a_failure_is_kept_and_its_place_is_said(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("old")
    error = interrupted(path, b"one\n", b"two\n")
    (part,) = parts(tmp_path)
    assert error.__notes__ == [f"what was done (2 lines) is in {part}"]
    assert part.read_bytes() == b"one\ntwo\n"
    assert path.read_text() == "old"
    with OutputFile(path) as file:
        assert file.left_behind == [part]
        file.write(b"new")
    assert part.read_bytes() == b"one\ntwo\n"
    assert path.read_text() == "new"


def test_nothing_is_left_of_what_did_not_begin(tmp_path):
    assert not hasattr(interrupted(tmp_path / "out.txt"), "__notes__")
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_the_users_is_never_taken_for_a_part(tmp_path):
    notes = tmp_path / "out.txt.part"
    notes.write_text("mine")
    with OutputFile(tmp_path / "out.txt") as file:
        assert file.left_behind == []
        file.write(b"new")
    assert notes.read_text() == "mine"


def test_a_symbolic_link_stays_one(tmp_path):
    (tmp_path / "there").mkdir()
    link, real = tmp_path / "link.txt", tmp_path / "there" / "real.txt"
    link.symlink_to(Path("there") / "real.txt")
    for content in (b"first", b"second"):  # it leads nowhere at first
        with OutputFile(link) as file:
            file.write(content)
        assert link.is_symlink()
        assert real.read_bytes() == content
    assert list((tmp_path / "there").iterdir()) == [real]


def test_a_replaced_file_keeps_its_mode_also_while_it_is_written(tmp_path):
    path = tmp_path / "out.txt"
    for mode in (0o600, 0o664, 0o640):
        path.touch()
        path.chmod(mode)
        with OutputFile(path) as file:
            file.write(b"new")
            assert [stat.S_IMODE(part.stat().st_mode) for part in parts(tmp_path)] == [mode]
        assert stat.S_IMODE(path.stat().st_mode) == mode
    path.unlink()
    with OutputFile(path) as file:
        file.write(b"new")
    fresh = tmp_path / "fresh"
    fresh.touch()
    assert path.stat().st_mode == fresh.stat().st_mode


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("may_give_away", [True, False])
def test_a_replaced_file_keeps_its_owner(tmp_path, monkeypatch, may_give_away):
    path = tmp_path / "out.txt"
    path.touch()
    os.chown(path, 1234, 4321)
    if not may_give_away:

        def refuse(*args: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "chown", refuse)
    with OutputFile(path) as file:
        file.write(b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 4321)
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_of_two_writers_of_one_file_the_second_is_refused(tmp_path):
    path = tmp_path / "out.txt"
    code = f"from pathlib import Path; from dragoman.files import OutputFile; OutputFile(Path({str(path)!r}))"
    with OutputFile(path) as file:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode
        assert "another process is writing" in done.stderr
        file.write(b"first")
    assert path.read_bytes() == b"first"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("name", "message"), [("no/such/out.txt", "No such file"), ("", "is a folder"), ("x" * 300, "too long")]
)
def test_what_cannot_be_written_is_refused_at_once(tmp_path, name, message):
    with pytest.raises(InvalidOption, match=message):
        OutputFile(tmp_path / name)


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path):
    path = tmp_path / ("é" * 127)
    with OutputFile(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_a_pipe_is_written_to_directly(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with OutputFile(path) as file:
        file.write(b"now")
        assert os.read(reader, 10) == b"now"
    os.close(reader)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_is_an_error_that_names_the_file():
    with (
        pytest.raises(OSError, match="No space left on device: '/dev/full'"),
        OutputFile(Path("/dev/full")) as file,
    ):
        file.write(b"text")
