"""How much memory and how many processors there are, told by files as containers have them."""

from pathlib import Path

import pytest

from dragoman import limits
from dragoman.errors import InvalidOption
from dragoman.limits import memory_limit, parse_size, usable_threads, written_size

PHYSICAL = 64 * 2**30
PROCESSORS = 16


@pytest.fixture(autouse=True)
def _computer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_physical_memory", lambda: PHYSICAL)
    monkeypatch.setattr(limits, "_processors", lambda: PROCESSORS)


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
    assert 1 <= usable_threads() <= 2**14


def test_without_a_quota_all_processors_are_used(tmp_path: Path) -> None:
    assert usable_threads(tmp_path) == PROCESSORS
    write(tmp_path, "sys/fs/cgroup/cpu.max", "max 100000")
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", -1)
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_period_us", 100000)
    assert usable_threads(tmp_path) == PROCESSORS


@pytest.mark.parametrize(
    ("quota", "threads"), [(200000, 2), (150000, 2), (50000, 1), (1000, 1), (9900000, PROCESSORS)]
)
def test_a_quota_of_processor_time_limits_the_threads(tmp_path: Path, quota: int, threads: int) -> None:
    write(tmp_path / "new", "sys/fs/cgroup/cpu.max", f"{quota} 100000")
    write(tmp_path / "old", "sys/fs/cgroup/cpu/cpu.cfs_quota_us", quota)
    write(tmp_path / "old", "sys/fs/cgroup/cpu/cpu.cfs_period_us", 100000)
    for version in ("new", "old"):
        assert usable_threads(tmp_path / version) == threads


def test_the_lowest_quota_of_a_group_and_those_above_it_counts(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", "0::/batch/job_7")
    write(tmp_path, "sys/fs/cgroup/batch/cpu.max", "300000 100000")
    write(tmp_path, "sys/fs/cgroup/batch/job_7/cpu.max", "max 100000")
    assert usable_threads(tmp_path) == 3


@pytest.mark.parametrize("content", ["", "many", "100000 0", "100000 often"])
def test_a_limit_that_can_not_be_read_is_none(tmp_path: Path, content: str) -> None:
    write(tmp_path, "sys/fs/cgroup/cpu.max", content)
    write(tmp_path, "sys/fs/cgroup/memory.max", content or "much")
    assert usable_threads(tmp_path) == PROCESSORS


def test_this_process_may_be_kept_to_some_processors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {3, 5, 9}, raising=False)
    assert usable_threads(tmp_path) == 3


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("12GB", 12 * 10**9),
        ("12 gb", 12 * 10**9),
        ("800MB", 8 * 10**8),
        ("1.5GiB", 3 * 2**29),
        ("512m", 512 * 10**6),
        (" 3Ti ", 3 * 2**40),
        ("64kB", 64000),
        ("1000", 1000),
        (1000, 1000),
        ("10 B", 10),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "GB", "twelve", "12XB", "-1GB", "1e9", "12iB", "1,5GB", "0", 0, -5, True]
)
def test_what_is_no_size_is_an_error_that_says_how_to_write_one(text: object) -> None:
    with pytest.raises(InvalidOption, match=r"12GB|positive"):
        parse_size(text)  # type: ignore[arg-type]


def test_sizes_are_written_for_people() -> None:
    assert [written_size(size) for size in (31.04e9, 140e9, 870e6, 1200)] == [
        "31.0 GB",
        "140 GB",
        "870 MB",
        "1.2 KB",
    ]
