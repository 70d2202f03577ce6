"""How much memory this process may use: the computer's, or what a container or batch system leaves of it."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

USUAL = 8 * 10**9
"""What is assumed of a system that doesn't tell."""


def memory_limit(root: Path = Path("/")) -> int:
    """Bytes: the physical memory, or the lowest limit of this process's control groups below it.

    root: where the file system begins.
    """
    found = _physical()
    limits = (*group_files(root, "", "memory.max"), *group_files(root, "memory", "memory.limit_in_bytes"))
    for path in limits:
        # Most don't exist; and "max" stands for no limit.
        with suppress(OSError, ValueError):
            found = min(found, int(path.read_text(encoding="ascii")))
    return found


def _physical() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on every system
        return USUAL


def group_files(root: Path, controller: str, name: str) -> Iterator[Path]:
    """Where the files `name` of the process's control group and of all above it would be.

    root: where the file system begins. controller: whose hierarchy of the first version of control
    groups; "": the second version.
    """
    mounted = root / "sys/fs/cgroup" / controller
    # Inside a container the own group is often mounted as the topmost one, whatever it is called outside.
    own = "/"
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                own = path
    group = PurePosixPath(own)
    for each in (group, *group.parents):
        yield mounted / str(each).lstrip("/") / name
