"""In how many threads the kernels work, and what a forked process has to know.

They have a pool of their own (csrc/threads.c), which a forked child makes anew when it first needs it.
PyTorch's doesn't survive a fork: a child that shares out an operation waits for threads that aren't there. So
where PyTorch is in use too, it works in one thread in forked children, as in those of its own data loader.
"""

import os
import sys
from functools import cache

from dragoman.errors import InvalidOption
from dragoman.limits import usable_threads

SWITCH = "DRAGOMAN_THREADS"
"""Environment variable: how many threads, if `set_threads` doesn't say."""
MOST = 1024

_chosen: int | None = None


def set_threads(count: int | None) -> None:
    """From the next call on the kernels work in so many threads; None: as many as by default.

    By default that is what DRAGOMAN_THREADS says, or else OMP_NUM_THREADS, or else the number of
    processors that this process may use. Results are the same for any number. InvalidOption unless it is
    from 1 to MOST.
    """
    global _chosen
    if count is not None and (
        isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST
    ):
        raise InvalidOption(f"threads is {count!r}; it must be a number from 1 to {MOST}")
    _chosen = count


def chosen() -> int | None:
    """What `set_threads` said last."""
    return _chosen


def threads() -> int:
    """In how many threads a call works at the most."""
    return _default() if _chosen is None else _chosen


@cache
def _default() -> int:
    wanted = os.environ.get(SWITCH, "").strip()
    if wanted:
        if not wanted.isdecimal() or not 1 <= int(wanted) <= MOST:
            raise InvalidOption(f"{SWITCH} is {wanted!r}; it must be a number from 1 to {MOST}")
        return int(wanted)
    # Batch systems set it, and it may be a list, one number for each level of nesting.
    usual = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if usual.isdecimal() and int(usual) >= 1:
        return min(int(usual), MOST)
    return min(usable_threads(), MOST)


def _forked() -> None:
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
