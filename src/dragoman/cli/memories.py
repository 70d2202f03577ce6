"""`dragoman memory`: translation memories in and out of TMX."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dragoman.cli.commands import HELP, Command
from dragoman.cli.messages import put, say
from dragoman.cli.records import as_json
from dragoman.errors import InvalidOption
from dragoman.languages import find, known_languages

if TYPE_CHECKING:
    from dragoman.translation.memory import TranslationMemory

app = typer.Typer(
    no_args_is_help=True,
    context_settings=HELP,
    help="Translation memories: what has been translated before, for `dragoman translate --tm FILE`.",
)
_Memory = Annotated[Path, typer.Argument(metavar="MEMORY", help="A .sqlite file, or a .tmx file to read.")]


def open_memory(path: Path) -> "TranslationMemory":
    """The memory in a file, which is made if its name says .sqlite or .db. Raises InvalidOption."""
    from dragoman.translation.memory import TranslationMemory

    suffix = path.suffix.lower()
    if suffix not in (".tmx", ".sqlite", ".db"):
        raise InvalidOption(f"{path} is no translation memory by its name; it may be .sqlite, .db or .tmx")
    try:
        return TranslationMemory(path)
    except OSError as error:
        raise InvalidOption(f"{path} can't be read: {error.strerror}") from None


@app.command("import", cls=Command)
def import_tmx(
    memory: _Memory,
    files: Annotated[list[Path], typer.Argument(metavar="TMX...", help="Files to take in.")],
) -> None:
    """Take in what people have translated; of equal texts the last translation stays."""
    from dragoman.translation.tmx import read_tmx

    if memory.suffix.lower() == ".tmx":
        raise InvalidOption(f"{memory} is only read; give a .sqlite file to take in others")
    with open_memory(memory) as opened:
        for file in files:
            try:
                say(f"{file}: {opened.add(read_tmx(file)):,} units")
            except OSError as error:
                raise InvalidOption(f"{file} can't be read: {error.strerror}") from None
        say(f"{memory} holds {len(opened):,} units now")


@app.command("export", cls=Command)
def export_tmx(
    memory: _Memory, file: Annotated[Path, typer.Argument(metavar="TMX", help="The file to write.")]
) -> None:
    """Write what people have translated as TMX 1.4b."""
    with open_memory(memory) as opened:
        say(f"{file}: {opened.export(file):,} units")


@app.command("search", cls=Command)
def search(
    memory: _Memory,
    text: Annotated[str, typer.Argument(help="What to look for.")],
    source: Annotated[str, typer.Option("--from", "-f", metavar="LANGUAGE", help="Its language.")],
    target: Annotated[str, typer.Option("--to", "-t", metavar="LANGUAGE", help="That of the translation.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON object per line, for programs.")] = False,
) -> None:
    """Show the units whose texts are most like this one."""
    from dataclasses import asdict

    languages = known_languages()
    with open_memory(memory) as opened:
        for match in opened.similar(
            text, find(source, languages), find(target, languages), least=0.3, most=10
        ):
            put(as_json(asdict(match)) if json else f"{match.score:.0%}\t{match.source}\t{match.target}")
