"""Engines in processes of their own, started when asked and stopped when memory gets short."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks import ROOT

OURS = "dragoman"
PEERS = ("transformers", "ctranslate2", "llama_cpp")
# Idle OpenMP threads spin for up to 0.2 s after their work: they shouldn't during another's.
SETTLE_SECONDS = 0.3


class PeerError(Exception):
    """An engine is missing, can't do what was asked, or died."""


@dataclass(frozen=True)
class Engine:
    """An engine with a model: what one process holds."""

    peer: str
    folder: Path
    precision: str
    own: float
    """About how many gigabytes it takes for itself."""
    mapped: float = 0.0
    """And how many it reads where they lie in its folder's files, which several processes share."""
    vocabulary: tuple[int, ...] | None = None
    """Target ids that may be written, for an engine that can use that; None: all."""

    @property
    def label(self) -> str:
        cut = "" if self.vocabulary is None else f", {len(self.vocabulary)} words"
        return f"{self.peer} {self.precision}{cut}"


def interpreter(peer: str) -> Path:
    """The Python that runs an engine; PeerError if it isn't installed."""
    if peer == OURS:
        return Path(sys.executable)
    folder = Path(os.environ.get("PEER_VENVS", ROOT / "benchmarks" / "peers" / ".venvs"))
    python = folder / peer / "bin" / "python"
    if not python.exists():
        raise PeerError(f"{peer} is not installed in {folder}; run benchmarks/peers/setup {peer}")
    return python


def environment(peer: str, threads: int) -> dict[str, str]:
    """The environment variables of an engine's process."""
    changed = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)) | {"HF_HUB_OFFLINE": "1"}
    kept = {name: value for name, value in os.environ.items() if peer == OURS or name != "PYTHONPATH"}
    return kept | changed


class Worker:
    """One process that serves requests (see `protocol`)."""

    def __init__(self, peer: str, threads: int, module: str | None = None) -> None:
        self.peer = peer
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        command = [str(interpreter(peer)), "-m", module or f"benchmarks.peers.worker_{peer}"]
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(peer, threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        """The answer to one request; PeerError with the engine's own words if it can't."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **fields}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise PeerError(f"{self.peer} died with status {self._process.wait()}: {self.last_words()}")
        reply = json.loads(line)
        if "error" in reply:
            raise PeerError(f"{self.peer} can't {do}: {reply['error']}")
        return reply

    def last_words(self, characters: int = 400) -> str:
        """The end of what the process wrote to standard error."""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - characters))
        return self._log.read().decode(errors="replace").strip()

    def stop(self) -> None:
        """End the process; one that doesn't listen is killed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write('{"do": "stop"}\n')
            self._process.stdin.close()
            self._process.wait(10)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()  # it may be in the middle of a long run
        self.stop()


def open_engine(engine: Engine, threads: int) -> Worker:
    """A process that has loaded the engine's model."""
    worker = Worker(engine.peer, threads)
    vocabulary = None if engine.vocabulary is None else list(engine.vocabulary)
    try:
        worker.ask(
            "load",
            folder=str(engine.folder.resolve()),
            precision=engine.precision,
            threads=threads,
            vocabulary=vocabulary,
        )
    except BaseException:
        worker._process.kill()
        worker.stop()
        raise
    return worker


def needed(engines: Iterable[Engine]) -> float:
    """Gigabytes that engines take when all are alive."""
    engines = list(engines)
    files = {engine.folder: engine.mapped for engine in engines if engine.mapped}
    return sum(engine.own for engine in engines) + sum(files.values())


class Pool:
    """Engines kept alive as long as they fit in `gigabytes`; those unused longest make room.

    Two that don't fit together alternate as whole processes.
    """

    def __init__(self, gigabytes: float, threads: int) -> None:
        self.gigabytes, self.threads = gigabytes, threads
        self._alive: dict[Engine, Worker] = {}  # used longest ago first
        self._warm: dict[Engine, set[str]] = {}
        self._failed: dict[Engine, PeerError] = {}
        self._latest: Engine | None = None

    def measure(self, engine: Engine, requests: Mapping[str, dict[str, Any]]) -> dict[str, float]:
        """Seconds of each request, {name: fields with "do"}, by the engine's own clock.

        An engine that hasn't had this work yet gets the first of them once before, uncounted.
        """
        first = next(iter(requests.values()))
        key = json.dumps(first)
        self._open(engine)
        if key not in self._warm[engine]:
            self.ask(engine, **first)
            self._warm[engine].add(key)
        return {name: self.ask(engine, **fields)["seconds"] for name, fields in requests.items()}

    def ask(self, engine: Engine, do: str, **fields: Any) -> dict[str, Any]:
        """The engine's answer to one request; PeerError if it can't, or is gone."""
        worker = self._open(engine)
        if self._latest != engine:
            time.sleep(SETTLE_SECONDS)
            self._latest = engine
        return worker.ask(do, **fields)

    def _open(self, engine: Engine) -> Worker:
        if engine in self._failed:
            raise self._failed[engine]
        worker = self._alive.pop(engine, None)
        if worker is None:
            while self._alive and needed([*self._alive, engine]) > self.gigabytes:
                self._alive.pop(next(iter(self._alive))).stop()
            try:
                worker = open_engine(engine, self.threads)
            except PeerError as error:
                self._failed[engine] = error
                raise
            self._warm[engine] = set()
        self._alive[engine] = worker
        return worker

    def stop(self) -> None:
        while self._alive:
            self._alive.popitem()[1].stop()

    def __enter__(self) -> "Pool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for worker in self._alive.values():
                worker._process.kill()
        self.stop()
