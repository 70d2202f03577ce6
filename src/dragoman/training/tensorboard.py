"""Figures for TensorBoard."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dragoman.errors import InvalidOption


class Board:
    """An observer of a run that writes its lines of figures."""

    def __init__(self, writer: Any) -> None:
        self.writer = writer

    def updated(self, update: int, ends: int, figures: Mapping[str, float]) -> None:
        pass

    def logged(self, row: Mapping[str, Any]) -> None:
        for name, value in row.items():
            if name != "update":
                self.writer.add_scalar(name, value, row["update"])


@contextmanager
def board(folder: Path) -> Iterator[Board]:
    """A board that writes to `folder`; InvalidOption without TensorBoard."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InvalidOption("--tensorboard needs TensorBoard: pip install tensorboard") from None
    with SummaryWriter(folder) as writer:
        yield Board(writer)
