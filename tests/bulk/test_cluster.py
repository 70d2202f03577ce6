"""Blocks by actors on a Ray cluster give the files that one process writes, whoever dies meanwhile."""

import importlib.util
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from dragoman.bulk.cluster import _told
from dragoman.errors import JobError
from tests.bulk.conftest import outputs

if importlib.util.find_spec("ray") is None:
    pytest.skip("needs Ray: pip install 'dragoman[cluster]'", allow_module_level=True)

PATIENCE = 3600
ON_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Ray takes 127.0.0.1 for what it is, and not for the computer's other address."""
OPTIONS = ("--to", "en", "--precision", "int8", "--beams", 1)


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[bytes] | None" = None) -> None:
    """Until something is so, or a process has ended."""
    until = time.monotonic() + PATIENCE
    while not condition() and (process is None or process.poll() is None):
        assert time.monotonic() < until
        time.sleep(0.01)


def done(folder: Path) -> int:
    """How many blocks have their file."""
    return sum(1 for path in folder.glob("0*.jsonl"))


def test_a_cluster_that_starts_by_itself_writes_the_same_files_though_a_worker_is_killed(
    run, process, tatoeba, tmp_path
):
    lines = [text for pairs in tatoeba.values() for text, _ in pairs[:30]]
    (tmp_path / "in.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    command = ("bulk", tmp_path / "in.txt", "--to", "en", "--beams", 1, "--block", 2, "--output")
    assert run(*command, tmp_path / "alone").code == 0
    out = tmp_path / "out"
    driver = process(*command, out, "--cluster", "auto", "--workers", 1)
    wait_for(lambda: actor_of(driver) is not None, driver)
    actor = actor_of(driver)
    actor.suspend()
    while done(out) < 2:  # a little at a time, so that it is killed before it has done everything
        actor.resume()
        time.sleep(0.02)
        actor.suspend()
    family = psutil.Process(driver.pid).children(recursive=True)
    assert listening(family) == {"127.0.0.1"}
    words = " ".join(word for one in family for word in one.cmdline())
    session = Path(re.search(r"/\S*/session_[\d_-]+", words)[0])
    actor.kill()
    _, said = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 0, said.decode()
    assert outputs(out) == outputs(tmp_path / "alone")
    assert said.decode().splitlines()[-1].startswith(f"{len(lines)} rows")
    logs = [path.read_bytes() for path in session.rglob("*") if path.is_file()]
    assert any(b"MapBatches(BlockActor)" in log for log in logs)
    assert not any(line.encode() in log for line in lines if len(line) > 20 for log in logs)


def actor_of(driver: "subprocess.Popen[bytes]") -> psutil.Process | None:
    """The process that does blocks for a driver."""
    for one in psutil.Process(driver.pid).children(recursive=True):
        try:
            if "BlockActor" in "".join(one.cmdline()):
                return one
        except psutil.Error:  # it has ended just now
            continue
    return None


def listening(family: list[psutil.Process]) -> set[str]:
    """Addresses at which processes wait for others."""
    found = set()
    for one in family:
        try:
            connections = one.net_connections("tcp")
        except psutil.Error:
            continue
        found |= {each.laddr.ip.removeprefix("::ffff:") for each in connections if each.status == "LISTEN"}
    return found


def test_what_ray_gives_up_is_an_error_of_the_job():
    import ray

    with pytest.raises(JobError, match=r"ActorDiedError: .*\n.*run again"), _told(ray):
        raise ray.exceptions.ActorDiedError


@pytest.fixture
def nodes() -> Iterator["subprocess.Popen[str]"]:
    """Four nodes of Ray on this computer."""
    script = str(Path(__file__).with_name("nodes.py"))
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, script, "4"], stdin=pipe, stdout=pipe, text=True) as started:
        yield started
        assert started.stdin is not None
        started.stdin.close()


@pytest.mark.slow
def test_nodes_and_drivers_may_die_and_nothing_is_lost_or_done_twice(process, nodes, tatoeba, tmp_path):
    """Of DRAGOMAN_TEST_LINES, a file of texts, or of those that come with the tests."""
    given = os.environ.get("DRAGOMAN_TEST_LINES")
    lines = [text for pairs in tatoeba.values() for text, _ in pairs]
    if given:
        lines = Path(given).read_text(encoding="utf-8").split("\n")[:-1]
    path = tmp_path / "in.txt"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    block = max(2, len(lines) // 200)
    count = -(-len(lines) // block)
    command = ("bulk", path, *OPTIONS, "--block", block, "--output")
    alone = process(*command, tmp_path / "alone")
    address = nodes.stdout.readline().strip()
    out = tmp_path / "out"
    random.seed(1)
    for kills in (3, 0):
        driver = process(*command, out, "--cluster", address, "--workers", 4, env=ON_LOOPBACK)
        before = done(out)
        for _ in range(kills):
            goal = done(out) + random.randrange(count // 10, count // 5)
            wait_for(lambda goal=goal: done(out) >= goal, driver)
            nodes.stdin.write("kill\n")
            nodes.stdin.flush()
            assert nodes.stdout.readline() == "killed\n"
        if kills:
            goal = done(out) + count // 10
            wait_for(lambda goal=goal: done(out) >= goal, driver)
            assert before < done(out) < count
            os.kill(driver.pid, signal.SIGKILL)
            driver.wait(PATIENCE)
    _, said = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 0, said.decode()
    assert alone.wait(PATIENCE) == 0
    assert outputs(out) == outputs(tmp_path / "alone")
    assert len(outputs(out)) == count
