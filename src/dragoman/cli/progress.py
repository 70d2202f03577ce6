"""Progress bars on standard error, for people: none where no terminal is."""

import contextlib
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any


@contextlib.contextmanager
def sentences(title: str = "") -> Iterator[Callable[[int, int], None]]:
    """A bar that is told (sentences done, sentences known so far)."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda done, known: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    speed = Speed()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None, speed="")
        yield lambda done, known: bar.update(
            task, completed=done, total=known, speed=speed.told(done, "sentences")
        )


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
        TextColumn("{task.fields[lines]} lines, {task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    speed = Speed()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=size, lines=0, speed="")
        yield lambda done, lines: bar.update(
            task, completed=done, lines=lines, speed=speed.told(lines, "lines")
        )


class Speed:
    """How fast something has gone on in the last seconds."""

    SPAN = 15.0

    def __init__(self) -> None:
        self._marks = deque([(time.monotonic(), 0)])

    def told(self, done: int, what: str) -> str:
        """So many are done now: as in "3.4 sentences/s"."""
        now = time.monotonic()
        self._marks.append((now, done))
        while len(self._marks) > 2 and now - self._marks[1][0] > self.SPAN:
            self._marks.popleft()
        began, before = self._marks[0]
        return f"{(done - before) / max(now - began, 1e-3):.1f} {what}/s"


class _Bar:
    """Tells how a training run goes: on a terminal by a bar, else by a line now and then."""

    EVERY = 30.0
    """Seconds between lines."""

    def __init__(self, show: Callable[[int, int, str], None]) -> None:
        self.show = show
        self.tokens, self.last = 0, ""
        self.speed = Speed()

    def updated(self, update: int, ends: int, figures: Mapping[str, float]) -> None:
        """As `training.run_log.Observer`."""
        self.tokens += int(figures["tokens"])
        loss = figures["loss"] / max(1.0, figures["tokens"])
        load = figures.get("load", 0.0) / max(1.0, figures.get("batches", 1.0))
        experts = f", busiest expert {load:.2f}x" if load else ""
        speed = self.speed.told(self.tokens, "tokens")
        self.show(update, ends, f"loss {loss:.3f}{experts}, {speed}")

    def logged(self, row: Mapping[str, Any]) -> None:
        pass


@contextlib.contextmanager
def training() -> Iterator[_Bar]:
    """An observer of a training run, which shows updates, loss, the experts' load and tokens a second."""
    if sys.stderr is None:
        yield _Bar(lambda update, ends, words: None)
        return
    if not sys.stderr.isatty():
        yield _Bar(_lines_apart(_Bar.EVERY))
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None)
        yield _Bar(
            lambda update, ends, words: bar.update(task, completed=update, total=ends, description=words)
        )


def _lines_apart(seconds: float) -> Callable[[int, int, str], None]:
    """Prints what it is told, at most once in so many seconds; the last update always."""
    told = time.monotonic()

    def show(update: int, ends: int, words: str) -> None:
        nonlocal told
        if update == ends or time.monotonic() - told > seconds:
            told = time.monotonic()
            print(f"update {update:,} of {ends:,}: {words}", file=sys.stderr, flush=True)

    return show
