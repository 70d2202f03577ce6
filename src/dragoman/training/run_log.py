"""What a run says of itself: a line of JSON for every window of updates and every evaluation."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from dragoman.files import replacing_file

COUNTS = ("tokens", "pairs", "batches")


class Observer(Protocol):
    """Whoever wants to know how a run goes."""

    def updated(self, update: int, ends: int, figures: Mapping[str, float]) -> None:
        """An update is done, of so many; figures: its sums and counts."""

    def logged(self, row: Mapping[str, Any]) -> None:
        """A line was written."""


class Printing:
    """Prints every line."""

    def updated(self, update: int, ends: int, figures: Mapping[str, float]) -> None:
        pass

    def logged(self, row: Mapping[str, Any]) -> None:
        print(json.dumps(row), flush=True)


class RunLog:
    """Gathers figures of updates in windows, and writes means.

    Where a run was interrupted the window goes on: its checkpoint has what was gathered.
    """

    def __init__(
        self, path: Path, counted_by: Mapping[str, str], observer: Observer | None, writes: bool = True
    ) -> None:
        """counted_by: what each figure is divided by, as an objective says; writes: whether to."""
        self.path, self.counted_by, self.writes = path, counted_by, writes
        self.observer = Printing() if observer is None else observer
        self.window: dict[str, float] = {}
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, update: int, ends: int, figures: Mapping[str, float]) -> None:
        """Take in an update's sums and counts."""
        for name, value in figures.items():
            self.window[name] = self.window.get(name, 0.0) + value
        if self.writes:
            self.observer.updated(update, ends, figures)

    def write_window(self, state: Mapping[str, Any], rate: float) -> None:
        """Write the means since the last such line, and begin anew."""
        window, self.window = self.window, {}
        row: dict[str, Any] = dict(state)
        for name, count in self.counted_by.items():
            # What is zero throughout (no experts, no such loss) says nothing.
            if window[name] or name in ("loss", "aux"):
                row[name] = round(window[name] / max(1.0, window[count]), 7)
        skipped = window.get("skipped", 0.0)
        row["norm"] = round(window.get("norm", 0.0) / max(1.0, window["updates"] - skipped), 5)
        row["rate"] = rate
        row["tokens"] = int(window["tokens"])
        if skipped:
            row["skipped"] = int(skipped)  # updates that were not made because a gradient was infinite
        self.write(row)

    def write(self, row: Mapping[str, Any]) -> None:
        """Write a line."""
        if not self.writes:
            return
        with open(self.path, "a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")
        self.observer.logged(row)

    def resume(self, update: int, window: Mapping[str, float]) -> None:
        """Forget what was written after `update`, and go on with its window."""
        self.window = dict(window)
        if self.writes and self.path.exists():
            lines = self.path.read_bytes().splitlines(keepends=True)
            with replacing_file(self.path) as file:
                file.writelines(line for line in lines if _is_past(line, update))


def _is_past(line: bytes, update: int) -> bool:
    try:
        return bool(json.loads(line)["update"] <= update)
    except ValueError:
        return False  # cut off by a crash
