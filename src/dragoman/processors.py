"""How many processors this process may use: the computer's, or what affinity and containers leave of them."""

import os
from contextlib import suppress
from pathlib import Path

from dragoman.memory import group_files


def processors(root: Path = Path("/")) -> int:
    """The number of processors, at least 1: a quota of one and a half counts as two.

    root: where the file system begins.
    """
    found = _present()
    for path in group_files(root, "", "cpu.max"):
        # Most don't exist; and "max" stands for no limit.
        with suppress(OSError, ValueError):
            quota, period = path.read_text(encoding="ascii").split()
            found = min(found, _whole(int(quota), int(period)))
    for path in group_files(root, "cpu", "cpu.cfs_quota_us"):
        with suppress(OSError, ValueError):
            quota_us = int(path.read_text(encoding="ascii"))
            period_us = int(path.with_name("cpu.cfs_period_us").read_text(encoding="ascii"))
            if quota_us > 0:
                found = min(found, _whole(quota_us, period_us))
    return found


def _whole(quota: int, period: int) -> int:
    if quota <= 0 or period <= 0:
        raise ValueError("no quota at all")
    return -(-quota // period)


def _present() -> int:
    try:
        return len(os.sched_getaffinity(0)) or 1
    except (AttributeError, OSError):  # not on every system
        return os.cpu_count() or 1
