"""How much memory there is, told by files as containers have them."""

from pathlib import Path

import pytest

from dragoman import memory
from dragoman.memory import memory_limit

PHYSICAL = 64 * 2**30


@pytest.fixture(autouse=True)
def _computer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_physical", lambda: PHYSICAL)


def write(root: Path, name: str, content: object) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{content}\n")


def test_without_limits_it_is_the_computers(tmp_path: Path) -> None:
    assert memory_limit(tmp_path) == PHYSICAL
    write(tmp_path, "sys/fs/cgroup/memory.max", "max")
    write(tmp_path, "sys/fs/cgroup/memory/memory.limit_in_bytes", 0x7FFFFFFFFFFFF000)
    assert memory_limit(tmp_path) == PHYSICAL


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
def test_a_container_has_what_it_was_given(tmp_path: Path, name: str) -> None:
    write(tmp_path, f"sys/fs/cgroup/{name}", 2**31)
    write(tmp_path, "proc/self/cgroup", "4:memory:/docker/abc\n1:name=systemd:/docker/abc\n0::/docker/abc")
    assert memory_limit(tmp_path) == 2**31


def test_a_limit_above_the_computers_memory_is_none(tmp_path: Path) -> None:
    write(tmp_path, "sys/fs/cgroup/memory.max", 2 * PHYSICAL)
    assert memory_limit(tmp_path) == PHYSICAL


@pytest.mark.parametrize(
    ("line", "folder", "name"),
    [("0::", "", "memory.max"), ("7:cpuset,memory:", "memory/", "memory.limit_in_bytes")],
)
def test_the_lowest_limit_of_a_group_and_those_above_it_counts(
    tmp_path: Path, line: str, folder: str, name: str
) -> None:
    write(tmp_path, "proc/self/cgroup", f"{line}/batch/job_7/step")
    write(tmp_path, f"sys/fs/cgroup/{folder}batch/{name}", 2**35)
    write(tmp_path, f"sys/fs/cgroup/{folder}batch/job_7/{name}", 2**32)
    write(tmp_path, f"sys/fs/cgroup/{folder}batch/job_8/{name}", 2**20)
    assert memory_limit(tmp_path) == 2**32


def test_this_computer_has_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert 2**26 < memory_limit() < 2**50
