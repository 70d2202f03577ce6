"""Progress bars on standard error, for people: none where no terminal is."""

import contextlib
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator


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
