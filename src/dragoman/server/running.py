"""A server as a process: its models loaded, its address bound, its end awaited."""

import contextlib
import os
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dragoman.errors import InvalidOption
from dragoman.server import logs
from dragoman.server.keys import KeyFile
from dragoman.server.registry import read_routes
from dragoman.server.settings import Settings, default_keys_file
from dragoman.server.supervisor import Supervisor

if TYPE_CHECKING:
    from dragoman.server.models import Model


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
    from dragoman.server.tracing import Tracing

    if settings.cluster is not None:
        from dragoman.server import cluster

        settings = cluster.checked(settings)
    names = model_names(settings)
    read_routes(settings.route, list(names))
    keys = key_file(settings)
    cards = {name: find_card(model) for name, model in names.items()}
    lines = [f"model {name}: {len(card.languages)} languages; {card.licence}" for name, card in cards.items()]
    lines += [f"route {route}" for route in settings.route]
    if settings.tm is not None:
        with contextlib.closing(SharedMemory(settings.tm)) as memory:
            lines.append(f"translation memory: {len(memory):,} units")
    if settings.traces is not None:
        Tracing(settings.traces).close()  # which says what is missing
        lines.append(f"traces: {settings.traces}")
    lines.append("keys: none are asked for" if keys is None else f"keys: {len(keys.all())} in {keys.path}")
    if settings.cluster is not None:
        lines.append(
            f"cluster {settings.cluster}: {settings.replicas} to {settings.replicas_at_most} replicas; "
            "whether it has room for them shows when they begin"
        )
    return [*lines, f"address: http://{settings.host}:{settings.port}"]


def load_models(settings: Settings) -> "dict[str, Model]":
    """The models of the settings."""
    from dragoman.server.models import load_all

    options: dict[str, Any] = {"device": settings.device, "precision": settings.precision}
    for name in ("vocabulary", "threads"):
        if getattr(settings, name) is not None:
            options[name] = getattr(settings, name)
    return load_all(model_names(settings), settings.memory, settings.queue_seconds, options)


def serve(settings: Settings, read_again: Callable[[], Settings] | None = None) -> None:
    """Serve until SIGTERM or SIGINT; then answer what is under way, for as long as the settings say.

    Below a process that replaces it the application runs in one of its own, unless the settings, or a system
    that can't hand sockets down, say otherwise. read_again: the settings as they are by now, for one on a
    cluster (`cluster.serve`).
    """
    key_file(settings)
    read_routes(settings.route, list(model_names(settings)))
    if settings.cluster is not None:
        from dragoman.server import cluster

        cluster.serve(settings, read_again)
        return
    listener = listen(settings)
    logs.set_up(settings.log)
    host, port = listener.getsockname()[:2]

    def started() -> None:
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        print(f"listening at {address}", file=sys.stderr, flush=True)

    with contextlib.closing(listener):
        if settings.supervise and os.name == "posix":
            Supervisor(settings, listener, started).run()
        else:
            from dragoman.server import worker

            worker.serve(settings, listener, started)


def listen(settings: Settings) -> socket.socket:
    """A socket at the settings' address. Raises InvalidOption."""
    host = settings.host.strip("[]")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, settings.port), family=family, backlog=512)
    except OSError as error:
        raise InvalidOption(
            f"{settings.host}:{settings.port} can't be listened at: {error.strerror}"
        ) from None
