"""Figures as lines, on a board, and as a picture."""

from pathlib import Path
from typing import Any

import pytest

from dragoman.errors import InvalidOption
from dragoman.training.plots import plot
from dragoman.training.run_log import RunLog
from dragoman.training.tensorboard import Board


class Writer:
    def __init__(self) -> None:
        self.written: list[tuple[str, float, int]] = []

    def add_scalar(self, name: str, value: float, update: int) -> None:
        self.written.append((name, value, update))


def log_in(folder: Path, observer: Any) -> RunLog:
    return RunLog(folder / "log.jsonl", {"loss": "tokens", "aux": "batches"}, observer)


def test_figures_of_a_window_are_divided_by_what_they_are_counted_by(tmp_path: Path) -> None:
    writer = Writer()
    log = log_in(tmp_path, Board(writer))
    log.add(1, 9, {"loss": 30.0, "aux": 1.0, "tokens": 10.0, "batches": 2.0, "updates": 1.0, "norm": 3.0})
    log.add(2, 9, {"loss": 10.0, "aux": 2.0, "tokens": 10.0, "batches": 1.0, "updates": 1.0, "skipped": 1.0})
    log.write_window({"update": 2}, rate=0.5)
    found = {name: (value, update) for name, value, update in writer.written}
    assert found["loss"] == (2.0, 2)
    assert found["aux"] == (1.0, 2)
    assert found["norm"] == (3.0, 2)
    assert found["skipped"] == (1, 2)
    assert log.window == {}


def test_window_of_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    counts = {"tokens": 1.0, "batches": 1.0, "updates": 1.0, "aux": 0.0}
    first = log_in(tmp_path, Board(Writer()))
    first.add(1, 9, {"loss": 4.0, **counts})
    writer = Writer()
    second = log_in(tmp_path, Board(writer))
    second.resume(1, first.window)
    second.add(2, 9, {"loss": 2.0, **counts})
    second.write_window({"update": 2}, 0.1)
    assert ("loss", 3.0, 2) in writer.written


def test_picture_needs_two_lines(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with pytest.raises(InvalidOption, match="no two lines of figures yet"):
        plot(log, tmp_path / "a.png")
    log.write_text('{"update": 1, "loss": 2.0}\n{"update": 2, "loss": 1.0, "dev_loss": 1.5}\n')
    plot(log, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
