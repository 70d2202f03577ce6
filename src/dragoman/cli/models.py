"""`dragoman models`: the models that have a name."""

from dataclasses import asdict
from typing import Annotated

import typer

from dragoman.cli.messages import put
from dragoman.cli.records import as_json
from dragoman.cli.tables import print_table


def list_models(
    json: Annotated[bool, typer.Option("--json", help="One JSON object per line, for programs.")] = False,
) -> None:
    """List models by name, with size and licence; any folder or hub repository of their kinds works too."""
    from dragoman.checkpoints.catalog import KNOWN

    if json:
        for model in KNOWN:
            put(as_json(asdict(model)))
        return
    print_table(
        ("name", "parameters", "download, about", "licence of the weights", "summary"),
        [(m.name, m.parameters, f"{m.size_gb:g} GB", m.licence, m.summary) for m in KNOWN],
    )
