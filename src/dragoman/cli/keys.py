"""`dragoman keys`: who may use a server."""

from pathlib import Path
from typing import Annotated

import typer

from dragoman.cli.commands import HELP, Command
from dragoman.cli.messages import put, say
from dragoman.cli.tables import print_table
from dragoman.server.keys import KeyFile
from dragoman.server.settings import default_keys_file

app = typer.Typer(
    no_args_is_help=True, context_settings=HELP, help="Make, list and revoke API keys of `dragoman serve`."
)

_File = Annotated[
    Path | None,
    typer.Option(
        "--file",
        envvar="DRAGOMAN_KEYS",
        metavar="FILE",
        help="The file of the keys; by default dragoman/keys.json where your settings are (~/.config).",
    ),
]
_Name = Annotated[str, typer.Argument(help="What the key's owner is called.")]


@app.command("add", cls=Command)
def add(
    name: _Name,
    file: _File = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(help="Requests that it may make in a minute.")
    ] = None,
    characters_per_minute: Annotated[int | None, typer.Option(help="Characters in a minute.")] = None,
    characters_per_month: Annotated[int | None, typer.Option(help="Characters in a month.")] = None,
) -> None:
    """Make a key. It is printed this once; what is kept is a hash."""
    keys = _keys(file)
    key = keys.add(
        name,
        requests_per_minute=requests_per_minute,
        characters_per_minute=characters_per_minute,
        characters_per_month=characters_per_month,
    )
    put(key)
    say(f"kept as a hash in {keys.path}; a server that asks for keys knows it from now on")


@app.command("list", cls=Command)
def list_keys(file: _File = None) -> None:
    """List the owners of keys, and what they may use."""
    heads = ("name", "made", "requests a minute", "characters a minute", "characters a month")
    rows = [
        (
            key.name,
            key.created,
            *(
                "" if limit is None else f"{limit:,}"
                for limit in (key.requests_per_minute, key.characters_per_minute, key.characters_per_month)
            ),
        )
        for key in _keys(file).all()
    ]
    print_table(heads, rows)


@app.command("revoke", cls=Command)
def revoke(name: _Name, file: _File = None) -> None:
    """Let a key be none any more; a running server knows it at its next request."""
    keys = _keys(file)
    keys.revoke(name)
    say(f"the key of {name} is revoked")


def _keys(file: Path | None) -> KeyFile:
    return KeyFile(file or default_keys_file())
