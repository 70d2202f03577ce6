"""Running the command line in this process, and as a process."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dragoman import cli
from dragoman.translation.translator import Translator


class Result:
    def __init__(self, code: int, out: bytes, err: str) -> None:
        self.code, self.raw, self.err = code, out, err

    @property
    def out(self) -> str:
        return self.raw.decode()

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@pytest.fixture
def dragoman(monkeypatch, capsysbinary, tmp_path_factory) -> Callable[..., Result]:
    """Run `dragoman ARGS` with `stdin` as standard input."""
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("COLUMNS", "200")

    def run(*args: object, stdin: bytes = b"") -> Result:
        path = tmp_path_factory.mktemp("stdin") / "stdin"
        path.write_bytes(stdin)
        monkeypatch.setattr(sys, "argv", ["dragoman", *map(str, args)])
        capsysbinary.readouterr()
        with standard_input(path):
            try:
                cli.main()
                code = 0
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        out, err = capsysbinary.readouterr()
        return Result(code, out, err.decode())

    return run


class standard_input:
    """A file as descriptor 0, which is what commands read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        self.before = os.dup(0)
        descriptor = os.open(self.path, os.O_RDONLY)
        os.dup2(descriptor, 0)
        os.close(descriptor)

    def __exit__(self, *reason: object) -> None:
        os.dup2(self.before, 0)
        os.close(self.before)


@pytest.fixture
def run(dragoman, translator, monkeypatch) -> Callable[..., Result]:
    """As `dragoman`, with the embedded model, which is loaded once for all tests."""
    monkeypatch.setattr(Translator, "load", classmethod(lambda cls, *args, **options: translator))
    return dragoman


@pytest.fixture
def process() -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """Start `dragoman ARGS`, or another `program` of Python, as a process; it is ended with the test."""
    started: list[subprocess.Popen[bytes]] = []
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1"}

    def start(*args: object, **options: Any) -> "subprocess.Popen[bytes]":
        command = [sys.executable, *options.pop("program", ("-m", "dragoman")), *map(str, args)]
        for name in ("stdin", "stdout", "stderr"):
            options.setdefault(name, subprocess.PIPE)
        started.append(subprocess.Popen(command, env=environment | options.pop("env", {}), **options))
        return started[-1]

    yield start
    for one in started:
        with one:
            one.kill()
