"""How many processors there are, told by files as containers have them."""

from pathlib import Path

import pytest

from dragoman import processors as module
from dragoman.processors import processors

PRESENT = 12


@pytest.fixture(autouse=True)
def _computer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_present", lambda: PRESENT)


def write(root: Path, name: str, content: object) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{content}\n")


def test_without_a_quota_it_is_what_affinity_leaves(tmp_path: Path) -> None:
    assert processors(tmp_path) == PRESENT
    write(tmp_path, "sys/fs/cgroup/cpu.max", "max 100000")
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", -1)
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_period_us", 100000)
    assert processors(tmp_path) == PRESENT


@pytest.mark.parametrize(
    ("quota", "expected"), [(400000, 4), (150000, 2), (50000, 1), (10**9, PRESENT), (100001, 2)]
)
def test_a_quota_counts_up_to_whole_processors(tmp_path: Path, quota: int, expected: int) -> None:
    write(tmp_path, "second/sys/fs/cgroup/cpu.max", f"{quota} 100000")
    write(tmp_path, "first/sys/fs/cgroup/cpu/cpu.cfs_quota_us", quota)
    write(tmp_path, "first/sys/fs/cgroup/cpu/cpu.cfs_period_us", 100000)
    assert processors(tmp_path / "first") == expected
    assert processors(tmp_path / "second") == expected


def test_the_lowest_quota_of_a_group_and_those_above_it_counts(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", "3:cpu,cpuacct:/batch/job\n0::/batch/job")
    write(tmp_path, "sys/fs/cgroup/batch/cpu.max", "300000 100000")
    write(tmp_path, "sys/fs/cgroup/batch/job/cpu.max", "500000 100000")
    assert processors(tmp_path) == 3
    write(tmp_path, "sys/fs/cgroup/cpu/batch/job/cpu.cfs_quota_us", 200000)
    write(tmp_path, "sys/fs/cgroup/cpu/batch/job/cpu.cfs_period_us", 100000)
    assert processors(tmp_path) == 2


@pytest.mark.parametrize("content", ["", "100000", "0 100000", "100000 0", "much 1", "-1 100000"])
def test_what_is_no_quota_is_none(tmp_path: Path, content: str) -> None:
    write(tmp_path, "sys/fs/cgroup/cpu.max", content)
    assert processors(tmp_path) == PRESENT


def test_this_computer_has_one_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert 1 <= processors() <= 2**16
