"""Examples in rows of one size: several in each, told apart by numbers, so that no time goes to padding.

A network that always gets the same shape is compiled once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dragoman.training.data import PAD, Example

OPEN = 48
"""Rows that an example may still go to."""


@dataclass(frozen=True)
class Rows:
    """Packed examples; every array is [rows, width].

    source, inputs, gold: token ids, PAD where nothing is; the gold token of a position is the one that comes
    after its input. source_part, part: the number of a position's example in its row, from 1; 0 for none.
    source_place, place: the place of a position in its example.
    """

    source: np.ndarray
    source_part: np.ndarray
    source_place: np.ndarray
    inputs: np.ndarray
    gold: np.ndarray
    part: np.ndarray
    place: np.ndarray

    def __len__(self) -> int:
        return len(self.source)

    def arrays(self) -> tuple[np.ndarray, ...]:
        return (
            self.source,
            self.source_part,
            self.source_place,
            self.inputs,
            self.gold,
            self.part,
            self.place,
        )


@dataclass
class _Row:
    """A row that is being filled, and how much room is left on each side."""

    source: int
    target: int
    examples: list[Example] = field(default_factory=list)

    def add(self, example: Example) -> None:
        self.source -= len(example.source)
        self.target -= len(example.target) - 1
        self.examples.append(example)


def pack(examples: Sequence[Example], width: int) -> Rows:
    """Examples, in their order, each into the first open row that has room on both sides.

    ValueError for an example that is wider than a row.
    """
    filled: list[_Row] = []
    open_rows: list[_Row] = []
    for example in examples:
        source, target = len(example.source), len(example.target) - 1
        if max(source, target) > width:
            raise ValueError(f"an example of {source} and {target} tokens doesn't fit in a row of {width}")
        row = next((row for row in open_rows if row.source >= source and row.target >= target), None)
        if row is None:
            if len(open_rows) == OPEN:
                # The fullest goes: least fits there.
                open_rows.remove(min(open_rows, key=lambda row: min(row.source, row.target)))
            row = _Row(width, width)
            open_rows.append(row)
            filled.append(row)
        row.add(example)
    return _arrays([row.examples for row in filled], width)


def _arrays(filled: Sequence[Sequence[Example]], width: int) -> Rows:
    shape = len(filled), width
    source, inputs, gold = (np.full(shape, PAD, np.uint16) for _ in range(3))
    source_part, source_place, part, place = (np.zeros(shape, np.uint8) for _ in range(4))
    for row, examples in enumerate(filled):
        s = t = 0
        for number, example in enumerate(examples, 1):
            n, m = len(example.source), len(example.target) - 1
            source[row, s : s + n] = example.source
            source_part[row, s : s + n] = number
            source_place[row, s : s + n] = np.arange(n)
            inputs[row, t : t + m] = example.target[:-1]
            gold[row, t : t + m] = example.target[1:]
            part[row, t : t + m] = number
            place[row, t : t + m] = np.arange(m)
            s, t = s + n, t + m
    return Rows(source, source_part, source_place, inputs, gold, part, place)
