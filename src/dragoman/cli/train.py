"""`dragoman train`: a model from a recipe, or what is there of one."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from dragoman.cli.messages import put, say
from dragoman.cli.progress import training
from dragoman.errors import InvalidOption


def train(
    recipe: Annotated[Path, typer.Argument(help="A TOML file, such as those in recipes/.")],
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the recipe's files are; else what it says.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder of the run; else runs/ and its name.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only read settings and texts, and say what there is.")
    ] = False,
    finish: Annotated[
        int | None,
        typer.Option(metavar="UPDATES", help="Let the rate fall now, and end after so many.", min=1),
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write figures for TensorBoard, too.")
    ] = False,
) -> None:
    """Train a model, a LoRA or a language module.

    The same command goes on after an interruption. The folder gets
    log.jsonl, checkpoint.pt, curves.png, and model/ to translate with.
    """
    _need_training()
    from dragoman.training.running import Recipe
    from dragoman.training.running import check as look
    from dragoman.training.running import train as run

    found = Recipe.read(recipe, data, out)
    if check:
        for line in look(found):
            put(line)
        return
    is_first = os.environ.get("RANK", "0") == "0"  # of several processes the first one speaks
    with contextlib.ExitStack() as stack:
        observers: list[Any] = [stack.enter_context(training())]
        if tensorboard and is_first:
            from dragoman.training.tensorboard import board

            observers.append(stack.enter_context(board(found.out / "tensorboard")))
        folder = run(found, _All(observers), finish, say)
    if is_first:
        _plot(found.out)
        say(f"wrote {folder}")


class _All:
    """Tells each of several observers."""

    def __init__(self, observers: list[Any]) -> None:
        self.observers = observers

    def updated(self, update: int, ends: int, figures: Mapping[str, float]) -> None:
        for observer in self.observers:
            observer.updated(update, ends, figures)

    def logged(self, row: Mapping[str, Any]) -> None:
        for observer in self.observers:
            observer.logged(row)


def _need_training() -> None:
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        raise InvalidOption("training needs PyTorch: pip install 'dragoman[training]'")


def _plot(out: Path) -> None:
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        say("no curves.png without matplotlib: pip install 'dragoman[training]'")
        return
    from dragoman.training.plots import plot

    with contextlib.suppress(InvalidOption):  # so short a run has no curve
        plot(out / "log.jsonl", out / "curves.png")
