"""`dragoman verify`: is this the published model, and does it do what was published?"""

import json
from typing import Annotated, Any

import typer

from dragoman.cli.commands import pick, takes
from dragoman.cli.messages import put, say
from dragoman.cli.model import load
from dragoman.cli.tables import print_table
from dragoman.translation.options import LoadOptions


@takes(LoadOptions, but=("model", "vocabulary", "vocabulary_text", "parallel"))
def verify(
    chosen: dict[str, Any],
    model: Annotated[str, typer.Argument(help="A model's name, folder or hub owner/name.")],
    as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False,
) -> None:
    """Compare a published model with what is known of its results.

    The ids of texts and languages, scores of nllb-moe-54b and
    m2m100_418M, and translations from models' documentation. Ends
    with 1 if something differs.
    """
    from dragoman.translation.published import CLOSE, DIFFERS, HOLDS, findings

    found = []
    with load({"model": model, **pick(chosen, LoadOptions)}) as translator:
        for finding in findings(translator):
            say(f"{finding.verdict}: {finding.about}")
            found.append(finding)
    counts = {verdict: sum(each.verdict == verdict for each in found) for verdict in (HOLDS, CLOSE, DIFFERS)}
    if as_json:
        facts = [finding.to_dict() for finding in found]
        put(json.dumps({"model": model, **counts, "facts": facts}, ensure_ascii=False, indent=2) + "\n")
    else:
        other = [each for each in found if each.verdict != HOLDS]
        if other:
            rows = [(each.verdict, each.about, each.expected, each.found) for each in other]
            print_table(("", "what", "published", "here"), rows)
        say(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    if counts[DIFFERS]:
        raise typer.Exit(1)
