"""`dragoman languages`: what can be translated, and how languages are called."""

from typing import Annotated

import typer

from dragoman import languages as table
from dragoman.cli.messages import put
from dragoman.cli.records import as_json
from dragoman.cli.tables import print_table


def list_languages(
    model: Annotated[str | None, typer.Option("--model", "-m", help="Only those this model speaks.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object per line, for programs.")] = False,
) -> None:
    """List languages: codes, names, script, X-ALMA group. In pipes the columns are parted by tabs."""
    rows = table.all_languages()
    if model is not None:
        from dragoman.checkpoints.catalog import find_card

        rows = tuple(table.of_code(code) for code in find_card(model).languages)
    if not json:
        heads = ("code", "short", "name", "own name", "script", "X-ALMA group")
        cells = [(r.nllb, r.short_code, r.name, r.own_name, r.script_name, str(r.group or "")) for r in rows]
        print_table(heads, cells)
        return
    for row in rows:
        fields = {"code": row.nllb, "iso1": row.iso1, "iso3": row.iso3, "name": row.name}
        put(as_json(fields | {"own_name": row.own_name, "script": row.script, "xalma_group": row.group}))
