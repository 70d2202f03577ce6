"""Real runs of `dragoman bulk`, timed by the files they leave, and processors' seconds of their processes."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_MULTIPLYING = """
import numpy as np
weights, rows = np.ones((53, 512, 512), np.float32), np.ones((64, 512), np.float32)
while True:
    for one in weights:
        rows @ one
"""
"""As many bytes of weights as the embedded model has."""
_LOOK = 0.2
"""Seconds between two looks at the processes."""


@dataclass(frozen=True)
class Run:
    """What a command did. Seconds, from its beginning."""

    seconds: float
    planned: float
    """When the manifest was last written: a worker has loaded the model then."""
    written: dict[str, float]
    """When each block's file appeared."""
    sentences: int
    blocks_cpu: float
    """Processors' seconds for blocks."""
    cpu: dict[str, float] = field(default_factory=dict)
    """Processors' seconds of the command, of Ray's workers and of its other processes."""
    others: float = 0.0
    """Processors that were busy with something else, on the average."""

    @property
    def times(self) -> np.ndarray:
        """Of all blocks, sorted."""
        return np.sort(np.array(list(self.written.values())))


def run_bulk(inputs: Sequence[Path], out: Path, *options: str) -> Run:
    """Translate to English. Raises CalledProcessError."""
    command = [
        sys.executable,
        "-m",
        "dragoman",
        "bulk",
        *map(str, inputs),
        "--to",
        "en",
        "--output",
        str(out),
    ]
    began, busy = time.time(), _busy()
    process = subprocess.Popen(
        [*command, "--json", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with _Watch(process.pid) as watch:
        told, said = process.communicate()
    ended = time.time()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, told, said)
    done = json.loads(told)["done"]
    others = (_busy() - busy - sum(watch.cpu.values())) / (ended - began)
    return Run(
        ended - began,
        (out / "manifest.json").stat().st_mtime - began,
        {path.name: path.stat().st_mtime - began for path in out.glob("0*")},
        done["sentences"],
        done["cpu_seconds"],
        watch.cpu,
        max(others, 0.0),
    )


def plan_rate(folder: Path, lines: int = 400_000) -> float:
    """Bytes of text a second that the driver looks through before anything begins."""
    from dragoman.bulk.places import find_inputs
    from dragoman.bulk.plan import make_plan

    path = folder / "long.txt"
    path.write_text(
        "".join(f"A line of a text that has many, number {n}.\n" for n in range(lines)), encoding="utf-8"
    )
    found = find_inputs([str(path)], None, str(folder / "nowhere"))
    began = time.perf_counter()
    make_plan(found, 1000, ["text"], ["translation"])
    return path.stat().st_size / (time.perf_counter() - began)


def dispatch_seconds(folder: Path, blocks: int = 2000) -> float:
    """Seconds from piece to piece where there is nothing to translate: what driver and Ray need for one."""
    path = folder / "empty.txt"
    path.write_text("\n" * blocks, encoding="utf-8")
    options = ("--block", "1", "--from", "de", "--precision", "int8", "--cluster", "auto", "--workers", "2")
    run = run_bulk([path], folder / "empty", *options)
    return float(run.times[-1] - run.times[0]) / (blocks - 1)


@contextlib.contextmanager
def beside(core: int | None) -> Iterator[None]:
    """Commands run on the first of this process's cores, as long as the block takes, while another program
    multiplies matrices on the core of this number among them; None: no such program, and any core."""
    if core is None:
        yield
        return
    cores = os.sched_getaffinity(0)
    first, other = min(cores), sorted(cores)[core]
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", _MULTIPLYING], env=os.environ | one)
    try:
        os.sched_setaffinity(process.pid, {other})
        os.sched_setaffinity(0, {first})
        yield
    finally:
        os.sched_setaffinity(0, cores)
        process.kill()
        process.wait()


class _Watch:
    """Looks at a process and all that come of it, as long as the block takes."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._seen: dict[int, tuple[str, float]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_on)

    def __enter__(self) -> "_Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def cpu(self) -> dict[str, float]:
        """Seconds by what a process is. The last look's: up to a fifth of a second of each is missing."""
        found = {"command": 0.0, "workers": 0.0, "daemons": 0.0}
        for kind, seconds in self._seen.values():
            found[kind] += seconds
        return found

    def _look_on(self) -> None:
        while not self._ended.wait(_LOOK):
            self._look()

    def _look(self) -> None:
        parents: dict[int, int] = {}
        cpu: dict[int, float] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                facts = (
                    (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                )
            except OSError:
                continue
            pid = int(folder.name)
            parents[pid], cpu[pid] = int(facts[1]), (int(facts[11]) + int(facts[12])) * _TICK
        for pid in parents:
            if _descends(pid, self._root, parents):
                self._seen[pid] = (self._kind(pid), cpu[pid])

    def _kind(self, pid: int) -> str:
        if pid == self._root:
            return "command"
        try:
            said = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            said = b""
        is_worker = said.startswith(b"ray::") or b"default_worker" in said
        known = self._seen.get(pid, ("", 0.0))[0]
        return "workers" if is_worker or known == "workers" else "daemons"


def _descends(pid: int, root: int, parents: dict[int, int]) -> bool:
    while pid > 1:
        if pid == root:
            return True
        pid = parents.get(pid, 0)
    return False


def _busy() -> float:
    """Processors' seconds of everybody since the machine's start."""
    numbers = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    user, nice, system, _, _, irq, soft = map(int, numbers[:7])
    return (user + nice + system + irq + soft) * _TICK
