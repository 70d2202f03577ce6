"""The process that serves: the application, its models, and the event loop.

`python -m dragoman.server.worker` is started by the process above it (`supervisor`), and told what to do on
its standard input; without one `serve` runs in the process that was asked to.
"""

import asyncio
import contextlib
import faulthandler
import gc
import pickle
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING, Any

from dragoman.errors import DragomanError
from dragoman.server import logs
from dragoman.server.heartbeat import Beats, Sign
from dragoman.server.settings import Settings

if TYPE_CHECKING:
    from dragoman.server.supervisor import Start

CONNECTIONS = 1024
"""Connections that are open at a time; further ones are told that the server is busy."""

GARBAGE = 10_000
"""Objects that are made before the collector looks for garbage; a request makes some thousand."""
_SAME_SECONDS = 2.0
"""Seconds within which a further SIGTERM is the same order: whoever ends all processes of a service at once
sends one, and the supervisor passes on its own."""


class Told:
    """Whether a process has been told to stop more than once."""

    def __init__(self) -> None:
        self._first: float | None = None

    def is_twice(self, number: int) -> bool:
        """Note a signal; returns whether it asks for the end at once."""
        now = time.monotonic()
        if self._first is None:
            self._first = now
            return False
        return number == signal.SIGINT or now - self._first > _SAME_SECONDS


def serve(
    settings: Settings,
    listener: socket.socket,
    started: Callable[[], None] | None = None,
    beats: Beats | None = None,
    replaced: Mapping[str, int] | None = None,
) -> None:
    """Load the models and serve until SIGTERM or SIGINT; then answer what is under way, for as long as the
    settings say.

    started: called once it answers; beats: whom it tells that it lives; replaced: how many workers were
    before this one, by reason.
    """
    import uvicorn

    from dragoman.folders import state_folder
    from dragoman.server.app import create_app
    from dragoman.server.connections import protocol
    from dragoman.server.guard import HEADER_BYTES
    from dragoman.server.running import key_file, load_models

    if settings.data is None:
        settings = replace(settings, data=state_folder() / f"server-{settings.port}")
    app = create_app(settings, load_models(settings), key_file(settings))
    state = app.state.dragoman
    gc.set_threshold(GARBAGE)
    if len(settings.model) == 1:
        gc.freeze()  # what is there now stays, so that nobody need look at it again and again
    for reason, count in (replaced or {}).items():
        state.metrics.replaced(reason, count)
    config = uvicorn.Config(
        app,
        http=protocol(settings.body_seconds),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        forwarded_allow_ips=list(settings.proxies),
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
        h11_max_incomplete_event_size=HEADER_BYTES,
    )

    def engines() -> Iterable[Any]:
        models = [model.loaded for model in state.registry.translators.values()]
        return [translator.system.engine for translator in models if translator is not None]

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if started is not None:
                started()
            if beats is not None:
                self.beating = asyncio.create_task(beats.go_on(engines, settings.stall_seconds))

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            told = Told()

            def stop(number: int, frame: FrameType | None) -> None:
                self.force_exit |= told.is_twice(number)
                self.should_exit = state.is_draining = True

            before = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
            try:
                yield
            finally:
                for each, handler in before.items():
                    signal.signal(each, handler)

    Server(config).run(sockets=[listener])


def main() -> None:
    """Serve as a supervisor says."""
    start: Start = pickle.load(sys.stdin.buffer)  # from our own supervisor alone
    faulthandler.register(signal.SIGUSR1)
    logs.set_up(start.settings.log)
    beats = Beats(start.beats)
    try:
        with socket.socket(fileno=start.listener) as listener:
            serve(start.settings, listener, beats=beats, replaced=start.replaced)
        beats.tell(Sign("ended"))
    except BrokenPipeError:
        sys.exit(1)
    except (DragomanError, OSError) as error:
        beats.tell(Sign("failed", error))
        sys.exit(1)


if __name__ == "__main__":
    main()
