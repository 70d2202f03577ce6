"""`dragoman convert`: a model packed once and for all, and packed ones looked over."""

from pathlib import Path
from typing import Annotated

import typer

from dragoman.cli.messages import say
from dragoman.cli.writing import progress_bar
from dragoman.errors import InvalidOption


def convert(
    model: Annotated[str, typer.Argument(help="A model's name, folder or hub owner/name.")],
    output: Annotated[Path | None, typer.Argument(help="The folder to write.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, fp16, int8 or int4.", show_default=False)
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Only compare a packed MODEL with its checksums.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace another packed model.")] = False,
    max_shard_gb: Annotated[float, typer.Option(help="Largest weight file, in gigabytes.")] = 5.0,
) -> None:
    """Pack a model for the CPU, so that it opens at once and processes share its memory.

    What was cut off goes on when the same command is given again.
    """
    if verify:
        if output is not None or precision is not None or force:
            raise InvalidOption("--verify takes the folder of a packed model and nothing else")
        _verify(Path(model).expanduser())
        return
    if output is None or precision is None:
        raise InvalidOption("say where to and how: dragoman convert MODEL OUTPUT --precision int8")
    from dragoman.checkpoints.catalog import locate
    from dragoman.systems.converting import convert as run

    output = output.expanduser()
    with progress_bar() as report:
        run(
            locate(model),
            output,
            precision,
            model,
            force=force,
            max_shard_bytes=int(max_shard_gb * 1_000_000_000),
            progress=report,
        )
    say(f"wrote {output}")


def _verify(folder: Path) -> None:
    from dragoman.checkpoints.packed_folders import verify

    with progress_bar() as report:
        size = verify(folder, report)
    say(f"{folder} is whole: {size / 1e9:.2f} GB agree with their checksums")
