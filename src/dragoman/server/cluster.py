"""A server on a Ray cluster: its applications begun, changed while they run, and ended well."""

import contextlib
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from queue import SimpleQueue
from types import FrameType
from typing import Any

from dragoman.cluster import connected, joined
from dragoman.errors import InvalidOption
from dragoman.limits import memory_limit, usable_threads
from dragoman.server import running
from dragoman.server.settings import Settings
from dragoman.server.supervisor import WorkersDied
from dragoman.systems.placement import USUAL

_KEEP_ALIVE = 15
"""Seconds that a connection may be idle."""


def serve(settings: Settings, read_again: Callable[[], Settings] | None = None) -> None:
    """Serve by Ray until SIGTERM or SIGINT; then answer what is under way. SIGHUP puts other replicas in the
    place of those that run, one after the other, with the settings as they are then (`read_again`).

    Raises InvalidOption where Ray, or the address, can't be used, and WorkersDied if replicas can't begin.
    """
    address = settings.cluster
    assert address is not None
    if settings.port == 0:
        raise InvalidOption("port is 0; on a cluster it must be a number that all its machines have free")
    is_own = joined(address) is None
    if is_own:
        running.listen(settings).close()
        settings = _sharing(settings)
    processors = max(usable_threads(), settings.replicas_at_most * (settings.threads or 1))
    with (
        connected(address, processors),
        _signals() as told,
    ):  # of which Ray would be the last otherwise
        from dragoman.server import deployments

        _begin(settings, is_own)
        began = _deploy(deployments, settings)
        print(f"listening at http://{settings.host}:{settings.port}", file=sys.stderr, flush=True)
        while told.get() == signal.SIGHUP:
            wanted = read_again() if read_again else settings
            began = _deploy(deployments, _sharing(wanted) if is_own else wanted)
            print("all replicas are new", file=sys.stderr, flush=True)
        if _when(deployments) == began:  # nobody else has put other ones in their place
            _end(deployments)


def _sharing(settings: Settings) -> Settings:
    """Replicas that are all on this computer share its memory, unless somebody says what each may take."""
    if settings.memory is not None or settings.replicas_at_most == 1 or settings.device.startswith("cuda"):
        return settings
    return replace(settings, memory=str(int(USUAL * memory_limit()) // settings.replicas_at_most))


def _begin(settings: Settings, is_own: bool) -> None:
    """Serve's own processes, if they aren't there: a proxy on each machine with replicas."""
    from ray import serve
    from ray.serve.schema import LoggingConfig

    from dragoman.server.deployments import LOGGING

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    serve.start(
        proxy_location="HeadOnly" if is_own else "EveryNode",
        http_options={
            "host": settings.host.strip("[]"),
            "port": settings.port,
            "keep_alive_timeout_s": _KEEP_ALIVE,
        },
        logging_config=LoggingConfig(**LOGGING),
    )


def _deploy(deployments: Any, settings: Settings) -> float:
    """Both applications, or new replicas in the place of old ones; returns when."""
    from ray import serve

    try:
        serve.run(deployments.translators(settings), name=deployments.TRANSLATORS, route_prefix=None)
        serve.run(deployments.server(settings), name=deployments.SERVER, route_prefix="/")
    except RuntimeError as error:
        said = [line for line in str(error).splitlines() if line.strip()]
        raise WorkersDied(f"the replicas can't begin: {said[-1].strip() if said else error}") from None
    return _when(deployments)


def _when(deployments: Any) -> float:
    from ray import serve

    applications = serve.status().applications
    return max(
        applications[name].last_deployed_time_s
        for name in (deployments.TRANSLATORS, deployments.SERVER)
        if name in applications
    )


def _end(deployments: Any) -> None:
    """First the server, which answers what is under way, and for that needs the replicas."""
    from ray import serve

    serve.delete(deployments.SERVER)
    serve.delete(deployments.TRANSLATORS)


@contextlib.contextmanager
def _signals() -> Iterator["SimpleQueue[int]"]:
    """SIGTERM, SIGINT and SIGHUP as they come."""
    told: SimpleQueue[int] = SimpleQueue()

    def note(number: int, frame: FrameType | None) -> None:
        told.put(number)

    before = {each: signal.signal(each, note) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield told
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
