"""A server as a process: its models loaded, its address bound, its end awaited."""

import contextlib
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING, Any

from dragoman.errors import InvalidOption
from dragoman.jobs.database import state_folder
from dragoman.server.keys import KeyFile
from dragoman.server.registry import read_routes
from dragoman.server.settings import Settings, default_keys_file

if TYPE_CHECKING:
    from dragoman.translation.translator import Translator

CONNECTIONS = 1024
"""Connections that are open at a time; further ones are told that the server is busy."""


def key_file(settings: Settings) -> KeyFile | None:
    """The keys that callers need, if any. Raises InvalidOption for an address that is open to all."""
    keys = settings.keys or default_keys_file()
    if settings.keys is not None or keys.exists():
        found = KeyFile(keys)
        found.all()
        return found
    if not settings.is_loopback and not settings.allow_open:
        raise InvalidOption(
            f"{settings.host} can be reached from other computers, and there are no API keys; make some "
            "(dragoman keys add NAME), or let anybody in (--allow-open)"
        )
    return None


def model_names(settings: Settings) -> dict[str, str]:
    """What `model` of the settings names: by what a model is called here, what it is loaded by."""
    found: dict[str, str] = {}
    for entry in settings.model:
        name, is_named, model = entry.partition("=")
        if not is_named:
            name, model = entry.rstrip("/").split("/")[-1], entry
        if not name or not model:
            raise InvalidOption(f"model is {entry!r}; it must be a model, or NAME=MODEL")
        if name in found:
            raise InvalidOption(f"two models are called {name!r}; name one of them otherwise: NAME=MODEL")
        found[name] = model
    return found


def check(settings: Settings) -> list[str]:
    """What the settings come to, in lines for people. Raises what stands against them; loads no model."""
    from dragoman.checkpoints.catalog import find_card
    from dragoman.server.memory import SharedMemory

    names = model_names(settings)
    read_routes(settings.route, list(names))
    keys = key_file(settings)
    cards = {name: find_card(model) for name, model in names.items()}
    lines = [f"model {name}: {len(card.languages)} languages; {card.licence}" for name, card in cards.items()]
    lines += [f"route {route}" for route in settings.route]
    lines += [] if settings.tm is None else [f"translation memory: {len(SharedMemory(settings.tm)):,} units"]
    lines.append("keys: none are asked for" if keys is None else f"keys: {len(keys.all())} in {keys.path}")
    return [*lines, f"address: http://{settings.host}:{settings.port}"]


def load_models(settings: Settings) -> "dict[str, Translator]":
    """The models of the settings."""
    from dragoman.translation.translator import Translator

    options: dict[str, Any] = {"device": settings.device, "precision": settings.precision}
    for name in ("memory", "vocabulary", "threads"):
        if getattr(settings, name) is not None:
            options[name] = getattr(settings, name)
    return {name: Translator.load(model, **options) for name, model in model_names(settings).items()}


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; then answer what is under way, for as long as the settings say."""
    import uvicorn

    from dragoman.server import logs
    from dragoman.server.app import create_app
    from dragoman.server.connections import protocol
    from dragoman.server.guard import HEADER_BYTES

    keys = key_file(settings)
    read_routes(settings.route, list(model_names(settings)))
    if settings.data is None:
        settings = replace(settings, data=state_folder() / f"server-{settings.port}")
    listener = _listen(settings)
    logs.set_up(settings.log)
    with contextlib.closing(listener):
        app = create_app(settings, load_models(settings), keys)
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

        class Server(uvicorn.Server):
            @contextlib.contextmanager
            def capture_signals(self) -> Iterator[None]:
                def stop(number: int, frame: FrameType | None) -> None:
                    self.force_exit = self.should_exit  # told twice
                    self.should_exit = app.state.dragoman.is_draining = True

                before = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
                try:
                    yield
                finally:
                    for each, handler in before.items():
                        signal.signal(each, handler)

        host, port = listener.getsockname()[:2]
        print(
            f"listening at http://{f'[{host}]' if ':' in host else host}:{port}", file=sys.stderr, flush=True
        )
        Server(config).run(sockets=[listener])


def _listen(settings: Settings) -> socket.socket:
    host = settings.host.strip("[]")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, settings.port), family=family, backlog=512)
    except OSError as error:
        raise InvalidOption(
            f"{settings.host}:{settings.port} can't be listened at: {error.strerror}"
        ) from None
