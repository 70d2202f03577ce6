"""Servers with the embedded model, reached over real sockets."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import uvicorn

from dragoman.server.app import create_app
from dragoman.server.connections import protocol
from dragoman.server.keys import KeyFile
from dragoman.server.settings import Settings
from dragoman.server.state import Caller
from dragoman.translation.translator import Translator
from tests.cli.conftest import dragoman, process  # noqa: F401
from tests.server.waiting import wait_until


class Served:
    """A server in a thread of this process."""

    caller = Caller("address 127.0.0.1")

    def __init__(self, app: Any, port: int, stop: Callable[[], None]) -> None:
        self.app, self.port, self.stop = app, port, stop
        self.url = f"http://127.0.0.1:{port}"
        self.state, self.uploads = app.state.dragoman, app.state.uploads

    def post(self, path: str, json: Any = None, **options: Any) -> requests.Response:
        return requests.post(self.url + path, json=json, timeout=60, **options)

    def put(self, path: str, json: Any = None, **options: Any) -> requests.Response:
        return requests.put(self.url + path, json=json, timeout=60, **options)

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(self.url + path, timeout=60, **options)

    def delete(self, path: str, **options: Any) -> requests.Response:
        return requests.delete(self.url + path, timeout=60, **options)

    def idle(self) -> bool:
        """Whether nothing is under way any more."""
        return wait_until(lambda: not self._is_busy())

    def _is_busy(self) -> bool:
        busy = any(each.loaded.system.engine.busy for each in self.state.registry.translators.values())
        return bool(busy or self.state.workshop.texts.working or self.state.workshop.files.working)


@contextmanager
def serving(settings: Settings, models: dict[str, Any], keys: Path | None = None) -> Iterator[Served]:
    """A server for as long as the block takes."""
    app = create_app(settings, models, None if keys is None else KeyFile(keys))
    listener = socket.create_server(("127.0.0.1", 0))
    http = protocol(settings.body_seconds)
    config = uvicorn.Config(
        app,
        http=http,
        ws="none",
        log_config=None,
        timeout_graceful_shutdown=5,
        forwarded_allow_ips=list(settings.proxies),
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()

    def stop() -> None:
        server.should_exit = True
        thread.join()
        listener.close()

    try:
        wait_until(lambda: server.started)
        yield Served(app, listener.getsockname()[1], stop)
    finally:
        stop()


@pytest.fixture(scope="session")
def server(translator: Translator) -> Iterator[Served]:
    """A server with the embedded model, and no keys."""
    with serving(Settings(), {"mini": translator}) as served:
        yield served


@pytest.fixture
def serve(translator: Translator) -> Iterator[Callable[..., Served]]:
    """Start a server of one's own with other settings."""
    running = []

    def start(keys: Path | None = None, models: dict[str, Any] | None = None, **settings: Any) -> Served:
        context = serving(Settings(**settings), models or {"mini": translator}, keys)
        running.append(context)
        return context.__enter__()

    yield start
    for context in running:
        context.__exit__(None, None, None)
