"""A run that is killed goes on as if nothing had been, and several processes are as good as one."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

FORKS = """
import json, os, sys, time, traceback
from functools import partial
from pathlib import Path

import torch._dynamo  # optimizers import it late

from dragoman.training.running import Recipe, train

class Slow:
    def __init__(self, pause): self.pause = pause
    def updated(self, update, ends, figures): time.sleep(self.pause)
    def logged(self, row): pass

for line in sys.stdin:
    job = json.loads(line)
    if "wait" in job:
        print(os.waitstatus_to_exitcode(os.waitpid(job["wait"], 0)[1]), flush=True)
        continue
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        continue
    os.environ.update(job["environment"])
    try:
        recipe = Recipe.read(Path(job["recipe"]), out=Path(job["out"]))
        said = recipe.out.with_name(f"said-{os.environ.get('RANK', '0')}.txt")
        train(recipe, Slow(job["pause"]), say=partial(print, file=said.open("a"), flush=True))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
"""
SETTINGS = """
data = "{data}"
languages = ["de"]
vocabulary = 420
updates = {updates}
warmup = 4
rate = 3e-3
schedule = "inverse_sqrt"
decay = 0.2
average = 0.9
batch_tokens = 500
accumulate = {accumulate}
round_examples = 100
balance_loss = 0.01
log_every = 1
save_every = 3
evaluate_every = 4
spread = {spread}
checkpointing = {checkpointing}
{dev}
precision = "{precision}"
[model]
d_model = 32
encoder_layers = 2
decoder_layers = 2
encoder_attention_heads = 2
decoder_attention_heads = 2
encoder_ffn_dim = 48
decoder_ffn_dim = 48
encoder_sparse_step = 2
decoder_sparse_step = 2
num_experts = 4
dropout = {noise}
attention_dropout = 0.0
moe_token_dropout = {noise}
[[phases]]
updates = 9
max_tokens = 16
[[phases]]
updates = 100
[[parts]]
name = "talk"
files = "de-en.tsv"
"""
DATA = Path(__file__).parents[1] / "data" / "tatoeba"


def settings(folder: Path, **values: Any) -> Path:
    path = folder / "run.toml"
    defaults: dict[str, Any] = {
        "data": DATA,
        "updates": 24,
        "accumulate": 2,
        "noise": 0.1,
        "spread": "false",
        "checkpointing": "false",
        "precision": "fp32",
        "dev": "",
    }
    path.write_text(SETTINGS.format(**defaults | values))
    return path


class Runs:
    """Starts runs in processes of their own, which have everything imported."""

    def __init__(self) -> None:
        values = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", FORKS]
        pipe = subprocess.PIPE
        self.server = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=values)

    def start(self, recipe: Path, out: Path, pause: float = 0.0, **environment: str) -> int:
        job = {"recipe": str(recipe), "out": str(out), "pause": pause, "environment": environment}
        return self._asked(job)

    def wait(self, pid: int) -> int:
        """Its exit status; below zero the signal that ended it."""
        return self._asked({"wait": pid})

    def _asked(self, job: dict[str, Any]) -> int:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps(job) + "\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline())


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    found = Runs()
    yield found
    found.server.communicate(timeout=60)


def log_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_run_that_is_killed_has_the_same_curve_as_one_that_is_not(runs: Runs, tmp_path: Path) -> None:
    recipe, whole = settings(tmp_path), tmp_path / "whole"
    # Before the first checkpoint, right behind it, and between two, in the second phase.
    points = {1: tmp_path / "early", 3: tmp_path / "at", 13: tmp_path / "late"}
    first = runs.start(recipe, whole)
    victims = {at: runs.start(recipe, out, pause=0.6) for at, out in points.items()}
    deadline = time.monotonic() + 100
    for at, victim in victims.items():
        while lines_of(points[at]) < at and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(victim, signal.SIGKILL)
    assert [runs.wait(victim) for victim in victims.values()] == [-signal.SIGKILL] * 3
    for again in [runs.start(recipe, out) for out in points.values()]:
        assert runs.wait(again) == 0
    assert runs.wait(first) == 0
    wanted = curve_of(whole)
    assert [row[0] for row in wanted] == list(range(1, 25))
    for at, out in points.items():
        for one, other in zip(wanted, curve_of(out), strict=True):
            assert one == pytest.approx(other, abs=1e-6), f"killed at line {at}"


def curve_of(out: Path) -> list[tuple[int, float, float]]:
    return [(row["update"], row["loss"], row["norm"]) for row in log_of(out)]


def lines_of(out: Path) -> int:
    return len((out / "log.jsonl").read_bytes().splitlines()) if (out / "log.jsonl").exists() else 0


def world() -> dict[str, str]:
    """What torchrun tells two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    return {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}


def test_two_processes_do_what_one_does_with_twice_the_accumulation(runs: Runs, tmp_path: Path) -> None:
    """Without chance in the layers: which batch draws what differs."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    alone = settings(tmp_path / "one", accumulate=4, updates=8, noise=0.0)
    shared = settings(tmp_path / "two", accumulate=2, updates=8, noise=0.0)
    out, both = tmp_path / "two" / "out", world()
    started = [runs.start(shared, out, RANK=str(rank), LOCAL_RANK=str(rank), **both) for rank in (0, 1)]
    started.append(runs.start(alone, tmp_path / "one" / "out"))
    assert [runs.wait(pid) for pid in started] == [0, 0, 0]
    one, two = (log_of(tmp_path / name / "out") for name in ("one", "two"))
    assert len(one) == 8
    for a, b in zip(one, two, strict=True):
        assert {**a, "seconds": 0} == pytest.approx({**b, "seconds": 0}, abs=2e-5)
    assert (out / "model" / "config.json").exists()


def test_weights_that_two_processes_share_learn_and_go_on_as_those_of_one(runs: Runs, tmp_path: Path) -> None:
    """Killed behind a checkpoint and started again, by two processes that have half of every layer each."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    usual: dict[str, Any] = {"updates": 8, "noise": 0.0, "dev": 'dev = "nl-en.tsv"'}
    alone = settings(tmp_path / "one", accumulate=4, **usual)
    shared = settings(tmp_path / "two", accumulate=2, spread="true", checkpointing="true", **usual)
    out = tmp_path / "two" / "out"

    def both(pause: float = 0.0) -> list[int]:
        all_of = world()
        return [runs.start(shared, out, pause, RANK=str(r), LOCAL_RANK=str(r), **all_of) for r in (0, 1)]

    victims = both(pause=0.6)
    deadline = time.monotonic() + 100
    while lines_of(out) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    assert [runs.wait(victim) for victim in victims] == [-signal.SIGKILL] * 2
    assert (out / "checkpoint.pt").exists()
    started = [*both(), runs.start(alone, tmp_path / "one" / "out")]
    assert [runs.wait(pid) for pid in started] == [0, 0, 0]
    told = [(tmp_path / "two" / f"said-{rank}.txt").read_text() for rank in (0, 1)]
    parts = [re.search(r"process (.) keeps ([\d,]+) of ([\d,]+) weights", text) for text in told]
    found = [[int(number.replace(",", "")) for number in part.groups()] for part in parts if part]
    assert [rank for rank, _, _ in found] == [0, 1]
    # Embeddings (626 pieces of 32) and two norms are in both, the layers by halves.
    assert sum(kept for _, kept, _ in found) == found[0][2] + 626 * 32 + 2 * 2 * 32
    wanted, found_ = (log_of(folder) for folder in (tmp_path / "one" / "out", out))
    assert len(wanted) == 10  # updates and evaluations
    for one, other in zip(wanted, found_, strict=True):
        assert {**one, "seconds": 0} == pytest.approx({**other, "seconds": 0}, abs=2e-5)
    first, second = (
        load_file(folder / "model" / "model.safetensors") for folder in (tmp_path / "one" / "out", out)
    )
    assert {name: tensor.shape for name, tensor in first.items()} == {n: t.shape for n, t in second.items()}
    for name, tensor in first.items():
        assert (tensor.float() - second[name].float()).abs().max() < 1e-3, name


def test_spread_weights_learn_in_half_precision(runs: Runs, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    usual: dict[str, Any] = {"updates": 3, "noise": 0.0, "spread": "true"}
    usual |= {"checkpointing": "true", "precision": "bf16"}
    alone = settings(tmp_path / "one", accumulate=4, **usual)
    shared = settings(tmp_path / "two", accumulate=2, **usual)
    out, both = tmp_path / "two" / "out", world()
    started = [runs.start(shared, out, RANK=str(rank), LOCAL_RANK=str(rank), **both) for rank in (0, 1)]
    started.append(runs.start(alone, tmp_path / "one" / "out"))
    assert [runs.wait(pid) for pid in started] == [0, 0, 0]
    wanted, found = curve_of(tmp_path / "one" / "out"), curve_of(out)
    assert len(wanted) == 3
    for one, other in zip(wanted, found, strict=True):
        assert one == pytest.approx(other, abs=1e-3)
    # One process has nothing to spread, and says nothing of it.
    assert "keeps" not in (tmp_path / "one" / "said-0.txt").read_text()
    assert "keeps" in (tmp_path / "two" / "said-0.txt").read_text()
