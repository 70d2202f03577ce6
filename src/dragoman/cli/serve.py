"""`dragoman serve`: translation over HTTP."""

import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from dragoman.cli.commands import takes
from dragoman.cli.messages import put
from dragoman.errors import InvalidOption
from dragoman.server.settings import Settings, read_settings


@takes(Settings, reads_environment=True)
def serve(
    chosen: dict[str, Any],
    config: Annotated[
        Path | None,
        typer.Option(
            envvar="DRAGOMAN_CONFIG", metavar="FILE", help="A TOML file with any of these settings."
        ),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Say what the settings come to, and end.")] = False,
) -> None:
    """Serve the APIs of LibreTranslate, DeepL, Google Translate and OpenAI, our own, and a web page."""
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in chosen.items()}
    given = {name: value for name, value in given.items() if value != ()}
    reading = partial(read_settings, config, os.environ, given)
    settings = reading()
    from dragoman.server import running

    if check:
        for line in running.check(settings):
            put(line)
        return
    need_extra()
    running.serve(settings, reading)


def need_extra() -> None:
    """Raise InvalidOption if what a server is made with is not installed."""
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InvalidOption(
            f"a server needs {error.name}, which is not installed: pip install 'dragoman[server]'"
        ) from None
