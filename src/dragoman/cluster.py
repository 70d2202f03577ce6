"""Ray, imported when it is needed, and this process connected to a cluster of it."""

import contextlib
import logging
import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from dragoman.errors import InvalidOption

AUTO = "auto"
"""The cluster of RAY_ADDRESS, or one that is started here and ends with the command."""
_STORE = 80 << 20
"""Bytes of shared memory for a cluster that is started here; nothing large goes through it."""
_BEFORE_IMPORT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
_STARTED_HERE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_worker_niceness": "0"}
"""Makes Ray take 127.0.0.1 for the address of this computer, and listen nowhere else; and gives its
workers the rank that this process has."""


def joined(address: str) -> str | None:
    """The cluster that is joined; None: one is started here."""
    return (os.environ.get("RAY_ADDRESS") if address == AUTO else address) or None


def need_ray() -> None:
    """Raise InvalidOption if Ray is not installed."""
    if find_spec("ray") is None:
        raise InvalidOption("--cluster needs Ray, which is not installed: pip install 'dragoman[cluster]'")


@contextlib.contextmanager
def connected(address: str, processors: int) -> Iterator[Any]:
    """Ray, connected to a cluster as long as the block takes.

    address: AUTO, or a cluster's; processors: of one that is started here. InvalidOption without Ray, and
    where there is no such cluster.
    """
    found = joined(address)
    for name, value in {**_BEFORE_IMPORT, **({} if found else _STARTED_HERE)}.items():
        os.environ.setdefault(name, value)
    need_ray()
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if found:
        options["address"] = found
    else:
        options |= {
            "address": "local",
            "include_dashboard": False,
            "object_store_memory": _STORE,
            "num_cpus": processors,
        }
    try:
        with _hushed():
            ray.init(**options)
    except Exception as error:  # of a node that doesn't come up it raises nothing more special
        raise InvalidOption(f"--cluster {address}: {error}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Nothing reaches standard error, on which Ray's compiled part says how little it is going to say."""
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
