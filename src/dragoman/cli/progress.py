"""Progress bars on standard error, for people: none where no terminal is."""

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def sentences() -> Iterator[Callable[[int, int], None]]:
    """A bar that is told (sentences done, sentences known so far)."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda done, known: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (MofNCompleteColumn(), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, known: bar.update(task, completed=done, total=known)


@contextlib.contextmanager
def progress(size: int | None) -> Iterator[Callable[[int, int], None]]:
    """A bar that is told (bytes of the input done, lines done); none if the size is unknown."""
    if not size or sys.stderr is None or not sys.stderr.isatty():
        yield lambda done, lines: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.percentage:>3.0f}%"),
        BarColumn(),
        TextColumn("{task.fields[lines]} lines"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=size, lines=0)
        yield lambda done, lines: bar.update(task, completed=done, lines=lines)
