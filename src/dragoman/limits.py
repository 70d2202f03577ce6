"""What this process may use: the computer's memory and processors, or what a container or batch system
leaves of them.
"""

import math
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from dragoman.errors import InvalidOption

USUAL = 8 * 10**9
"""Bytes that are assumed of a system that doesn't tell."""
UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def memory_limit(root: Path = Path("/")) -> int:
    """Bytes: the physical memory, or the lowest limit of this process's control groups below it.

    root: where the file system begins.
    """
    found = _physical_memory()
    for path in _limits(root, "memory", "memory.max", "memory.limit_in_bytes"):
        # Most don't exist; and "max" stands for no limit.
        with suppress(OSError, ValueError):
            found = min(found, int(path.read_text(encoding="ascii")))
    return found


def usable_threads(root: Path = Path("/")) -> int:
    """How many threads can be at work at once, at least one.

    As many as the processors that this process may run on, or the lowest quota of processor time of its
    control groups, rounded up: threads beyond a quota only wait for one another.
    """
    found = float(_processors())
    for path in _limits(root, "cpu", "cpu.max", "cpu.cfs_quota_us"):
        with suppress(OSError, ValueError):
            quota, *period = path.read_text(encoding="ascii").split()
            if not period:  # the older kind keeps it beside
                period = [(path.parent / "cpu.cfs_period_us").read_text(encoding="ascii")]
            if quota not in ("max", "-1") and int(period[0]) > 0:
                found = min(found, int(quota) / int(period[0]))
    return max(1, math.ceil(found))


def parse_size(text: str | int) -> int:
    """Bytes of a size as people write it: "12GB", "1.5 GiB", "800m", or a number of bytes.

    KB, MB, GB and TB are powers of 1000, KiB, MiB, GiB and TiB of 1024. Raises InvalidOption.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        found = text
    else:
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(i?)b?\s*", str(text).lower())
        if match is None or (match[3] and not match[2]):
            raise InvalidOption(f"{text!r} is no size; write it as 12GB, 1.5GiB, 800MB or a number of bytes")
        found = int(float(match[1]) * (1024 if match[3] else 1000) ** UNITS[match[2]])
    if found <= 0:
        raise InvalidOption(f"a size must be positive; {text!r} is not")
    return found


def written_size(count: float) -> str:
    """A number of bytes for people to read: "12.4 GB", "870 MB"."""
    for unit, size in (("GB", 10**9), ("MB", 10**6)):
        if count >= size:
            return f"{count / size:.{1 if count < 100 * size else 0}f} {unit}"
    return f"{count / 1000:.1f} KB"


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on every system
        return USUAL


def _processors() -> int:
    with suppress(AttributeError, OSError):  # not on every system
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _limits(root: Path, controller: str, name: str, older: str) -> Iterator[Path]:
    """Where the limits of the process's group and of all above it would be, for both versions of cgroups.

    name, older: what the file of the limit is called in the present and in the first version.
    """
    mounted = root / "sys/fs/cgroup"
    # Inside a container the own group is often mounted as the topmost one, whatever it is called outside.
    own = {"": "/", controller: "/"}
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            own.update(dict.fromkeys(controllers.split(","), path))
    for which, folder, file in (("", mounted, name), (controller, mounted / controller, older)):
        group = PurePosixPath(own[which])
        for each in (group, *group.parents):
            yield folder / str(each).lstrip("/") / file
