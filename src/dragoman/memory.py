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
    for path in _limits(root):
        # Most don't exist; and "max" stands for no limit.
        with suppress(OSError, ValueError):
            found = min(found, int(path.read_text(encoding="ascii")))
    return found


def _physical() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on every system
        return USUAL


def _limits(root: Path) -> Iterator[Path]:
    """Where the limits of the process's group and of all above it would be, for both versions of cgroups."""
    mounted = root / "sys/fs/cgroup"
    # Inside a container the own group is often mounted as the topmost one, whatever it is called outside.
    own = {"": "/", "memory": "/"}
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            own.update(dict.fromkeys(controllers.split(","), path))
    for controller, folder, name in (
        ("", mounted, "memory.max"),
        ("memory", mounted / "memory", "memory.limit_in_bytes"),
    ):
        group = PurePosixPath(own[controller])
        for each in (group, *group.parents):
            yield folder / str(each).lstrip("/") / name
