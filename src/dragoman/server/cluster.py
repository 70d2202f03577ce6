"""The command that serves on a Ray cluster: it begins the applications, hears signals, and ends them well."""

import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING

from dragoman.cluster import connected, joined, need_ray
from dragoman.errors import DragomanError, InvalidOption
from dragoman.folders import state_folder
from dragoman.limits import memory_limit, usable_threads
from dragoman.server import running
from dragoman.server.settings import Settings, default_keys_file
from dragoman.server.supervisor import WorkersDied
from dragoman.server.worker import Told
from dragoman.systems.placement import USUAL

if TYPE_CHECKING:
    from dragoman.server.rollout import Rollout

_LOOK = 2.0
"""Seconds between two looks whether the cluster is there and well."""
_GRACE = 10.0
"""Seconds for what is begun with the cluster to end, once the command is to."""
LATE = 30.0
"""Seconds that an application may take to end, after those that the settings give requests."""


class Halted(Exception):
    """What was to be done isn't, as the command is to end."""


def serve(settings: Settings, read_again: Callable[[], Settings] | None = None) -> None:
    """Serve by Ray until SIGTERM or SIGINT; then answer what is under way, unless they come twice.

    SIGHUP puts other replicas in the place of those that run, one after the other, with the settings as they
    are then (`read_again`); where these can't be, the ones before stay.

    Raises InvalidOption where Ray, or the address, can't be used, and WorkersDied if replicas can't begin, or
    the cluster is gone.
    """
    settings = checked(settings)
    is_own = joined(settings.cluster or "") is None
    if is_own:
        running.listen(settings).close()
    processors = max(usable_threads(), settings.replicas_at_most * (settings.threads or 1))
    with (
        connected(settings.cluster or "", processors) as ray,
        _signals() as signals,
    ):  # of which Ray would be the last otherwise
        from dragoman.server.rollout import Rollout

        command = Command(Rollout(ray, is_own, say), signals)
        command.run(settings, lambda: checked(read_again() if read_again else settings))


def say(text: str) -> None:
    """Something to whoever began the server."""
    print(text, file=sys.stderr, flush=True)


def checked(settings: Settings) -> Settings:
    """Settings that mean the same wherever they are read. Raises InvalidOption, and whatever else stands
    against them that can be known before anything begins."""
    from dragoman.checkpoints.catalog import find_card

    need_ray()
    if settings.port == 0:
        raise InvalidOption("port is 0; on a cluster it must be a number that all its machines have free")
    settings = absolute(settings)
    if settings.keys is not None and not settings.keys.exists():
        raise InvalidOption(f"there are no keys in {settings.keys}; make one: dragoman keys add NAME")
    running.key_file(settings)
    names = running.model_names(settings)
    running.read_routes(settings.route, list(names))
    for model in names.values():
        find_card(model)
    return _sharing(settings) if joined(settings.cluster or "") is None else settings


def absolute(settings: Settings) -> Settings:
    """The settings with whole paths; those that follow from who is asked and where are named."""
    keys = settings.keys or default_keys_file()
    return replace(
        settings,
        keys=keys.absolute() if settings.keys is not None or keys.exists() else None,
        data=(settings.data or state_folder() / f"server-{settings.port}").absolute(),
        tm=None if settings.tm is None else settings.tm.absolute(),
        model=tuple(f"{name}={_whole(model)}" for name, model in running.model_names(settings).items()),
    )


def _whole(model: str) -> str:
    from dragoman.checkpoints.catalog import EMBEDDED

    folder = Path(model).expanduser()
    return str(folder.absolute()) if model != EMBEDDED and folder.is_dir() else model


def _sharing(settings: Settings) -> Settings:
    """Replicas that are all on this computer share its memory, unless somebody says what each may take."""
    if settings.memory is not None or settings.replicas_at_most == 1 or settings.device.startswith("cuda"):
        return settings
    return replace(settings, memory=str(int(USUAL * memory_limit()) // settings.replicas_at_most))


class Signals:
    """What a process has been told."""

    def __init__(self) -> None:
        self._told = Told()
        self._came: SimpleQueue[None] = SimpleQueue()
        self.is_to_end = self.is_to_hurry = self.is_to_renew = False

    def note(self, number: int, frame: FrameType | None = None) -> None:
        """A signal."""
        if number in (signal.SIGINT, signal.SIGTERM):
            self.is_to_hurry |= self._told.is_twice(number)
            self.is_to_end = True
        else:
            self.is_to_renew = True
        self.wake()

    def wake(self) -> None:
        """Have `wait` return; a queue can be written to from within a signal's handler."""
        self._came.put(None)

    def wait(self, seconds: float) -> None:
        """Until something comes; or the time is over."""
        try:
            self._came.get(timeout=min(max(0.0, seconds), threading.TIMEOUT_MAX))
        except Empty:
            return


class Command:
    """What a server on a cluster does from its beginning to its end."""

    def __init__(
        self, rollout: "Rollout", signals: Signals, grace: float = _GRACE, look: float = _LOOK
    ) -> None:
        """grace: seconds in which work ends that is told to; look: seconds between looks at the cluster."""
        self._rollout, self._signals, self._grace, self._look = rollout, signals, grace, look

    def run(self, settings: Settings, read_again: Callable[[], Settings]) -> None:
        """Serve until a signal says otherwise. Raises a DragomanError if that can't be, or ends."""
        try:
            if self._done(partial(self._rollout.begin, settings)):
                say(f"listening at http://{settings.host}:{settings.port}")
                settings = self._follow(settings, read_again)
        except DragomanError:
            with suppress(DragomanError):  # what is there of it, if the cluster is
                self._end(settings, self._grace)
            raise
        self._end(settings, 3 * (settings.drain_seconds + LATE) + self._grace)

    def _end(self, settings: Settings, seconds: float) -> None:
        self._rollout.halt.clear()
        self._attend(partial(self._rollout.end, settings), lambda: self._signals.is_to_hurry, seconds)

    def _follow(self, settings: Settings, read_again: Callable[[], Settings]) -> Settings:
        """Do as signals say, and look whether all is well. Returns the settings as they are at the end."""
        while not self._signals.is_to_end:
            if self._signals.is_to_renew:
                self._signals.is_to_renew = False
                settings = self._renewed(settings, read_again)
            elif self._done(partial(self._rollout.look, settings), settings.hang_seconds):
                self._signals.wait(self._look)
        return settings

    def _renewed(self, settings: Settings, read_again: Callable[[], Settings]) -> Settings:
        """Other replicas, with settings that are read again, or the same if these can't be."""
        try:
            wanted = read_again()
            self._done(partial(self._rollout.check, wanted))
        except DragomanError as error:
            say(f"all stays as it is, as the new settings can't be: {error}")
            return settings
        fixed = {name: getattr(settings, name) for name in ("host", "port", "cluster")}
        if any(getattr(wanted, name) != value for name, value in fixed.items()):
            say("host, port and cluster stay as they are until the server is started again")
            wanted = replace(wanted, **fixed)
        try:
            if self._done(partial(self._rollout.deploy, wanted)):
                say("all replicas are new")
            return wanted
        except DragomanError as error:
            say(f"{error}; the settings before come back")
        if self._done(partial(self._rollout.deploy, settings)):
            say("all replicas are as before")
        return settings

    def _done(self, work: Callable[[], None], seconds: float = math.inf) -> bool:
        """Do something unless a signal comes before; returns whether it is done. Raises as `_attend`."""
        try:
            self._attend(work, lambda: self._signals.is_to_end, seconds)
        except Halted:
            return False
        return not self._signals.is_to_end

    def _attend(
        self, work: Callable[[], None], is_halted: Callable[[], bool], seconds: float = math.inf
    ) -> None:
        """Do something in a thread, and end it early if `is_halted`. Raises what it raises, and WorkersDied
        if it takes more than some seconds, or doesn't end when it is to."""
        done, end = _aside(work), time.monotonic() + seconds
        done.add_done_callback(lambda _: self._signals.wake())
        while not done.done():
            if is_halted() and not self._rollout.halt.is_set():
                self._rollout.halt.set()
                end = min(end, time.monotonic() + self._grace)
            if time.monotonic() >= end:
                raise WorkersDied("the cluster doesn't answer any more")
            self._signals.wait(end - time.monotonic())
        done.result()


def _aside(work: Callable[[], None]) -> "Future[None]":
    """Something that is done in a thread which nobody waits for when the process ends."""
    done: Future[None] = Future()

    def run() -> None:
        try:
            work()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    threading.Thread(target=run, daemon=True).start()
    return done


@contextmanager
def _signals() -> Iterator[Signals]:
    """SIGTERM, SIGINT and SIGHUP, where there is such a one, as they come."""
    signals = Signals()
    numbers = [signal.SIGINT, signal.SIGTERM, *filter(None, [getattr(signal, "SIGHUP", None)])]
    before = {each: signal.signal(each, signals.note) for each in numbers}
    try:
        yield signals
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
