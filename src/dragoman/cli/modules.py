"""The commands under `dragoman modules`: X-ALMA's language modules in and out of checkpoints."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dragoman.cli.commands import HELP, Command
from dragoman.cli.messages import put, say
from dragoman.cli.writing import progress_bar
from dragoman.errors import InvalidOption

if TYPE_CHECKING:
    from dragoman.checkpoints.module_files import Listing, Part
    from dragoman.checkpoints.module_saving import Saving

app = typer.Typer(
    no_args_is_help=True,
    context_settings=HELP,
    help="Take X-ALMA checkpoints apart and put them together, without loading them.",
)

Folder = Annotated[
    Path, typer.Argument(help="The folder of a checkpoint, or a name or hub owner/name in the local cache.")
]
Output = Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")]
Group = Annotated[int | None, typer.Option("--group", "-g", help="The module's group, 1 to 8.")]
Lang = Annotated[str | None, typer.Option("--lang", "-l", help="A language that the module speaks.")]
Dtype = Annotated[
    str | None,
    typer.Option(help="float32, float16, bfloat16 or float64; as stored if left out.", show_default=False),
]
ShardSize = Annotated[float, typer.Option("--max-shard-gb", help="Largest weight file, in gigabytes.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a checkpoint of the same kind.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per line, for programs.")]


@app.command("list", cls=Command)
def list_modules(folder: Folder, as_json: AsJson = False) -> None:
    """Say what a folder holds: base, modules, groups, languages, sizes."""
    from dragoman.checkpoints.module_files import describe

    listing = describe(_located(folder))
    put(json.dumps(asdict(listing), ensure_ascii=False) if as_json else "\n".join(_lines(listing)))


@app.command(cls=Command)
def extract(
    folder: Folder,
    output: Output,
    group: Group = None,
    lang: Lang = None,
    base: Annotated[bool, typer.Option("--base", help="The base instead of a module.")] = False,
    base_name: Annotated[
        str | None, typer.Option(help="The base that the adapter names; the published one if left out.")
    ] = None,
    dtype: Dtype = None,
    max_shard_gb: ShardSize = 5.0,
    force: Force = False,
) -> None:
    """Take a module out of a combined checkpoint as a PEFT adapter, or the base alone."""
    from dragoman.checkpoints import module_files

    if base:
        if group is not None or lang is not None or base_name is not None:
            raise InvalidOption("--base takes the base alone; leave out --group, --lang and --base-name")
        with _saving(output, dtype, max_shard_gb, force) as saving:
            module_files.extract_base(_located(folder), output, saving)
        return
    number = _group(group, lang)
    if number is None:
        raise InvalidOption("say what to extract: --group 6, --lang zh or --base")
    with _saving(output, dtype, max_shard_gb, force) as saving:
        name = base_name or module_files.PRETRAINED
        module_files.extract_module(_located(folder), number, output, name, saving)


@app.command(cls=Command)
def merge(
    folder: Folder,
    output: Output,
    group: Group = None,
    lang: Lang = None,
    adapter: Annotated[Path | None, typer.Option(help="A PEFT adapter for the base in FOLDER.")] = None,
    dtype: Dtype = None,
    max_shard_gb: ShardSize = 5.0,
    force: Force = False,
) -> None:
    """Merge a module into the base: a plain Llama for one group, as fast as any Llama."""
    from dragoman.checkpoints import module_files

    number = _group(group, lang)
    if (number is None) == (adapter is None):
        raise InvalidOption(
            "say which module to merge: --group 6 or --lang zh of a combined checkpoint, "
            "or --adapter FOLDER for a base"
        )
    with _saving(output, dtype, max_shard_gb, force) as saving:
        module_files.merge(_located(folder), output, number, adapter, saving)


@app.command(cls=Command)
def combine(
    base: Annotated[Path, typer.Argument(help="The folder of the base.")],
    output: Output,
    module: Annotated[
        list[str], typer.Option("--module", "-m", metavar="GROUP=FOLDER", help="A PEFT adapter; repeat.")
    ],
    dtype: Dtype = None,
    max_shard_gb: ShardSize = 5.0,
    force: Force = False,
) -> None:
    """Put a base and PEFT adapters together into one combined checkpoint."""
    from dragoman.checkpoints import module_files
    from dragoman.checkpoints.module_layout import GROUPS

    modules: dict[int, str | Path] = {}
    for item in module:
        number, _, place = item.partition("=")
        if not number.isdecimal() or not place:
            raise InvalidOption(f"--module {item} is not GROUP=FOLDER, such as 6=adapters/group6")
        if int(number) in modules:
            raise InvalidOption(f"--module {item}: group {number} was given already")
        modules[int(number)] = Path(place)
    with _saving(output, dtype, max_shard_gb, force) as saving:
        module_files.combine(base, modules, output, saving)
    absent = [str(group) for group in GROUPS if group not in modules]
    if absent:
        say(
            f"it has no module for group {', '.join(absent)}; other programs may expect all eight "
            "and make up what is missing"
        )


def _located(name: Path) -> Path:
    from dragoman.checkpoints.catalog import locate

    return locate(name, download=False)


def _group(group: int | None, lang: str | None) -> int | None:
    if group is not None and lang is not None:
        raise InvalidOption("give --group or --lang, not both")
    if lang is None:
        return group
    from dragoman.models.xalma import group_of

    return group_of(lang)


@contextlib.contextmanager
def _saving(output: Path, dtype: str | None, max_shard_gb: float, force: bool) -> Iterator["Saving"]:
    """How to write `output`, with a progress bar on standard error while it is written."""
    from dragoman.checkpoints.module_saving import Saving
    from dragoman.checkpoints.numbers import FLOATS

    if dtype is not None and dtype not in FLOATS:
        raise InvalidOption(f"--dtype is {dtype!r}; it must be one of {', '.join(FLOATS)}")
    with progress_bar() as report:
        yield Saving(dtype, int(max_shard_gb * 1_000_000_000), overwrite=force, progress=report)
    say(f"wrote {output}")


_KINDS = {
    "combined": "base and language modules, combined",
    "base": "base",
    "merged": "base with a module merged into it",
    "adapter": "PEFT adapter",
    "llama": "Llama model; a base, or merged with a module (its files don't say)",
}


def _lines(listing: "Listing") -> Iterator[str]:
    facts = [f"{listing.layers} layers"]
    if listing.rank is not None:
        facts += [f"rank {listing.rank}", f"scale {listing.scale:g}"]
    yield f"{_KINDS[listing.kind]}: {', '.join(facts)}"
    if listing.base:
        yield _line("weights", listing.base)
    for part in listing.modules:
        yield _line(f"group {part.group or 'unknown'}", part)
    if listing.beside_adapter:
        yield (
            "an adapter lies beside the weights: in the published repositories of a group they contain it "
            "already, yet transformers with peft puts it on top"
        )


def _line(title: str, part: "Part") -> str:
    from rich.filesize import decimal

    languages = " ".join(part.languages)
    return f"  {title:13} {decimal(part.bytes):>9}  {part.dtype:9} {languages}".rstrip()
