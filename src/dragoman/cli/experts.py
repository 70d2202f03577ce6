"""The commands under `dragoman experts`: which experts of a mixture of experts its languages use."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dragoman.cli.commands import HELP, Command, takes
from dragoman.cli.expert_texts import TEXT, observed, read_text
from dragoman.cli.messages import put, say
from dragoman.cli.model import load
from dragoman.cli.tables import print_table
from dragoman.errors import InvalidOption
from dragoman.languages import of_code
from dragoman.translation.options import LoadOptions

if TYPE_CHECKING:
    from dragoman.evaluation.experts import ExpertStatistics

app = typer.Typer(
    no_args_is_help=True,
    context_settings=HELP,
    help="See which experts of a mixture of experts its languages use.",
)

PAGE = "experts.html"
PICTURES = ("coder-experts.png", "coder-similarity.png", "load-balance.png")
"""What the pictures' names end in."""


@app.command("report", cls=Command)
@takes(LoadOptions, but=("model", "device", "vocabulary", "vocabulary_text", "parallel"))
def report(
    chosen: dict[str, Any],
    model: Annotated[str, typer.Argument(help="A model's name, folder or hub owner/name.")],
    text: Annotated[list[str], TEXT],
    to: Annotated[
        str | None,
        typer.Option(
            "--to", "-t", metavar="LANGUAGES", help="What to translate to: fr,de. Else each other's."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A folder for statistics, pictures and a page.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The statistics as one line of JSON.")] = False,
) -> None:
    """Count where a model's routers send the tokens of each language.

    A language's lines give its experts of the encoder, and their
    translations those of the decoder; lines with translations (tab,
    then the translation) give both sides of both languages.
    """
    if out is None and not as_json:
        raise InvalidOption("say where to write to: --out DIR, or --json for the figures alone")
    if out is not None:
        from dragoman.evaluation.expert_charts import need_matplotlib

        out = out.expanduser()
        if out.exists() and not out.is_dir():
            raise InvalidOption(f"--out {out} is a file; give a folder")
        need_matplotlib()
    texts = [read_text(item) for item in text]
    translator = load({"model": model, "device": "cpu", **chosen})
    statistics = observed(translator, texts, to.split(",") if to else ())
    if out is not None:
        _write(statistics, out)
    if as_json:
        put(json.dumps(statistics.to_dict()))
    else:
        _print(statistics)


def _write(statistics: "ExpertStatistics", out: Path) -> None:
    from dragoman.evaluation.expert_charts import charts
    from dragoman.evaluation.expert_page import page
    from dragoman.evaluation.experts import STATISTICS
    from dragoman.files import replacing_files

    pictures = dict(charts(statistics))
    with replacing_files(out, STATISTICS, lambda name: name.endswith(PICTURES)) as scratch:
        for name, data in pictures.items():
            (scratch / name).write_bytes(data)
        (scratch / PAGE).write_text(page(statistics, pictures), encoding="utf-8")
        statistics.save(scratch / STATISTICS)
    say(f"wrote {out / STATISTICS}, {out / PAGE} and {len(pictures)} pictures")


def _print(statistics: "ExpertStatistics") -> None:
    from dragoman.evaluation.experts import in_effect

    rows = []
    for name, side in statistics.sides.items():
        for code, routing in side.languages.items():
            effect = ", ".join(f"{count:.1f}" for count in in_effect(routing.rate))
            rows.append(
                (name, of_code(code).name, code, f"{routing.tokens:,}", f"{effect} of {side.experts}")
            )
    print_table(("side", "language", "code", "tokens", "experts in effect, by layer"), rows)
