"""Files that are read whole, or that appear whole."""

import os
import stat
from pathlib import Path

import pytest

from dragoman.errors import CheckpointError
from dragoman.files import output_file, read_json, replacing_file, replacing_files, write_json


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


def test_output_takes_its_name_when_complete(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("old")
    with output_file(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_failure_keeps_the_old_file_and_the_part(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("old")

    def fail() -> None:
        with output_file(path) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert (tmp_path / "out.txt.part").read_bytes() == b"half"
