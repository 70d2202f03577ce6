"""A server's applications on Ray Serve: begun, put in the place of others, looked after, and ended.

All of it may wait for a cluster, for as long as that takes; so it is for a thread beside the one that hears
signals.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from uuid import uuid4

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.schema import LoggingConfig

from dragoman.errors import InvalidOption
from dragoman.server import deployments
from dragoman.server.cluster import LATE, Halted
from dragoman.server.deployments import LOGGING, SERVER, TRANSLATORS
from dragoman.server.settings import Settings
from dragoman.server.supervisor import WorkersDied

_KEEP_ALIVE = 15
"""Seconds that a connection may be idle."""
_LOOK = 0.2
"""Seconds between two looks at what is to become of an application."""
_ANSWER = 5.0
"""Seconds in which a server that is well says whose it is."""
_UNWELL = 300.0
"""Seconds for which Serve may try to get an application well again."""
_HERE = 0.001
"""Of a machine's own resource, which is 1: nothing that runs out."""


class Rollout:
    """Both applications of a server."""

    def __init__(self, ray: Any, is_own: bool, say: Callable[[str], None]) -> None:
        """ray: connected; is_own: to a cluster that ends with this process; say: something to people."""
        self._ray, self._is_own, self._say = ray, is_own, say
        self._mark, self._has_begun = uuid4().hex, False
        self._unwell_since: float | None = None
        self.halt = threading.Event()
        """Set: nothing is waited for any more."""

    def begin(self, settings: Settings) -> None:
        """Serve's own processes, if they aren't there, a proxy on each machine with replicas; and both
        applications, in the place of those of an earlier command. Raises as `deploy`, and InvalidOption
        where Serve listens elsewhere."""
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        wanted = settings.host.strip("[]"), settings.port
        with _told():
            serve.start(
                proxy_location="HeadOnly" if self._is_own else "EveryNode",
                http_options={
                    "host": wanted[0],
                    "port": wanted[1],
                    "keep_alive_timeout_s": _KEEP_ALIVE,
                },
                logging_config=LoggingConfig(**LOGGING),
            )
            found = deployments.listening_at()
            if found != wanted:
                raise InvalidOption(
                    f"Ray Serve runs on this cluster already and listens at {found[0]}:{found[1]}, not at "
                    f"{wanted[0]}:{wanted[1]}; give its --host and --port, or end it (serve shutdown)"
                )
            if {TRANSLATORS, SERVER} & serve.status().applications.keys():
                self._say("a Dragoman server runs on this cluster already; this one takes its place")
        self.check(settings)
        self.deploy(settings)

    def deploy(self, settings: Settings) -> None:
        """Both applications, or new replicas in the place of old ones. Raises WorkersDied if they can't
        begin, InvalidOption if Serve refuses them, and Halted."""
        with _told():
            self._run(deployments.translators(settings), TRANSLATORS, None)
            self._run(deployments.server_at(settings, self._here(), self._mark), SERVER, "/")

    def _here(self) -> dict[str, float]:
        """What this machine alone has: keys and folders are here, so the server must be."""
        node = self._ray.get_runtime_context().get_node_id()
        (address,) = {each["NodeManagerAddress"] for each in self._ray.nodes() if each["NodeID"] == node}
        return {f"node:{address}": _HERE}

    def check(self, settings: Settings) -> None:
        """Say what replicas need and the cluster lacks. Raises InvalidOption if it will always."""
        with _told():
            offered, needs = self._ray.cluster_resources(), deployments.needs(settings)
        names = {"num_cpus": "CPU", "num_gpus": "GPU"}
        for option, each in needs.items():
            name = names[option]
            needed, there = settings.replicas * each, offered.get(name, 0)
            if needed > there:
                said = f"replicas: {settings.replicas} need {needed:g} {name}, and the cluster has {there:g}"
                if self._is_own:
                    raise InvalidOption(said)
                self._say(f"{said}; this waits until it has more")

    def _run(self, application: serve.Application, name: str, route: str | None) -> None:
        target = serve.RunTarget(application, name=name, route_prefix=route)
        serve.run_many(
            [target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False
        )
        self._has_begun = True
        said = ""
        while not self.halt.is_set():
            found = serve.status().applications.get(name)
            if found is None:
                raise WorkersDied("the replicas can't begin: somebody has ended them")
            if found.status == "RUNNING":
                return
            if found.status == "DEPLOY_FAILED":
                raise WorkersDied(f"the replicas can't begin: {_reason(found, 'DEPLOY_FAILED')}")
            for deployment in found.deployments.values():
                message = _last_line(deployment.message)
                if message and message != said:
                    said = message
                    self._say(said)
            self.halt.wait(_LOOK)
        raise Halted

    def look(self, settings: Settings) -> None:
        """Say if something is the matter with the applications. Raises WorkersDied if it stays so."""
        problem, patience = _problem(self._mark, settings)
        if problem is None:
            if self._unwell_since is not None:
                self._say("the cluster is well again")
            self._unwell_since = None
            return
        now = time.monotonic()
        since = self._unwell_since or now
        if now - since >= patience:
            raise WorkersDied(problem)
        if self._unwell_since is None:
            self._unwell_since = now
            self._say(problem)

    def end(self, settings: Settings) -> None:
        """First the server, which answers what is under way, and for that needs the replicas. Nothing if
        there is nothing, or somebody else has put others in their place."""
        with _told():
            if self._has_begun and _is_of(self._mark):
                self._end(settings)

    def _end(self, settings: Settings) -> None:
        with contextlib.suppress(RayError, RayServeException):  # there may be no server yet
            answer = serve.get_app_handle(SERVER).options(method_name="end").remote()
            self._until(lambda: _has_come(answer), settings.drain_seconds + LATE)
        for name in (SERVER, TRANSLATORS):
            serve.delete(name, _blocking=False)
            gone = partial(_is_gone, name)
            self._until(gone, settings.drain_seconds + LATE)

    def _until(self, is_done: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not is_done() and time.monotonic() < end and not self.halt.is_set():
            self.halt.wait(_LOOK)


def _has_come(answer: Any) -> bool:
    try:
        answer.result(timeout_s=_LOOK)
    except TimeoutError:
        return False
    return True


def _is_gone(name: str) -> bool:
    return name not in serve.status().applications


def _is_of(mark: str) -> bool:
    """Whether the server has a mark, or is none that could say. (Serve's own time of an application stays
    that of the first one by its name.)"""
    try:
        answer = serve.get_app_handle(SERVER).options(method_name="mark").remote()
        found: str = answer.result(timeout_s=_ANSWER)
    except (RayError, RayServeException, TimeoutError):
        return True
    return found == mark


def _problem(mark: str, settings: Settings) -> tuple[str | None, float]:
    """What is the matter with the applications, and for how many seconds that may be so."""
    try:
        applications = serve.status().applications
    except Exception as error:  # whatever Ray raises where its processes are gone
        return f"the cluster doesn't answer: {_last_line(str(error))}", settings.hang_seconds
    for name in (TRANSLATORS, SERVER):
        found = applications.get(name)
        if found is None:
            return f"somebody has ended {name}, a part of this server, on the cluster", 0
        if found.status == "DEPLOY_FAILED":
            return f"{name} can't begin: {_reason(found, 'DEPLOY_FAILED')}", 0
        if found.status == "UNHEALTHY":
            return f"{name} isn't well: {_reason(found, 'UNHEALTHY')}", _UNWELL
    if not _is_of(mark):
        return "another command has put its server in the place of this one", 0
    return None, 0


def _reason(application: Any, status: str) -> str:
    """Why an application has a status: what is said of its deployment, if it has the same, says more."""
    messages = [each.message for each in application.deployments.values() if each.status == status]
    return _last_line((messages or [application.message])[0])


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What Ray raises becomes an error for people."""
    try:
        yield
    except RayServeException as error:
        raise InvalidOption(f"Ray Serve refuses: {_last_line(str(error))}") from None
    except (RayError, RuntimeError, TimeoutError) as error:
        raise WorkersDied(
            f"the replicas can't begin: {_last_line(str(error)) or type(error).__name__}"
        ) from None


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
