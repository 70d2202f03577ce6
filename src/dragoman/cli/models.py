"""`dragoman models`: the models that have a name, and models fetched before they are needed."""

from dataclasses import asdict
from typing import Annotated

import typer

from dragoman.cli.commands import HELP, Command
from dragoman.cli.messages import ending, put
from dragoman.cli.records import as_json
from dragoman.cli.tables import print_table

app = typer.Typer(context_settings=HELP, invoke_without_command=True)


@app.callback()
def list_models(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="One JSON object per line, for programs.")] = False,
) -> None:
    """List models by name, with size and licence; any folder or hub repository of their kinds works too."""
    if context.invoked_subcommand is None:
        with ending():
            _print_known(json)


def _print_known(json: bool) -> None:
    from dragoman.checkpoints.catalog import KNOWN

    if json:
        for model in KNOWN:
            put(as_json(asdict(model)))
        return
    print_table(
        ("name", "parameters", "download, about", "licence of the weights", "summary"),
        [(m.name, m.parameters, f"{m.size_gb:g} GB", m.licence, m.summary) for m in KNOWN],
    )


@app.command("pull", cls=Command)
def pull(
    names: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="Names of the list, or hub repositories as owner/name."),
    ],
) -> None:
    """Download models that are not there yet, for use without a network; print their folders."""
    from dragoman.checkpoints.catalog import base_of, locate
    from dragoman.checkpoints.families import ADAPTER_CONFIG

    for name in names:
        folder = locate(name)
        if (folder / ADAPTER_CONFIG).is_file():
            base_of(folder)  # which is as good as nothing without it
        put(str(folder))
