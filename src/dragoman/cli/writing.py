"""A progress bar for what reads or writes gigabytes."""

import contextlib
import sys
from collections.abc import Callable, Iterator

Report = Callable[[int, int], None]
"""Is told (bytes done, bytes in all)."""


@contextlib.contextmanager
def progress_bar() -> Iterator[Report]:
    """A bar on standard error, if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = ("[progress.percentage]{task.percentage:>3.0f}%", BarColumn(), DownloadColumn())
    bar = Progress(
        *columns,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),  # a bar is for people
    )
    task = bar.add_task("")
    with contextlib.ExitStack() as stack:

        def report(done: int, total: int) -> None:
            # Not before there is something to write: an error should be the only line.
            if not bar.live.is_started:
                stack.enter_context(bar)
            bar.update(task, completed=done, total=total)

        yield _sparing(report)


def _sparing(report: Report) -> Report:
    """`report`, but not for every one of thousands of small tensors."""
    last = 0

    def sparing(done: int, total: int) -> None:
        nonlocal last
        if done == total or done - last > total / 500:
            last = done
            report(done, total)

    return sparing
