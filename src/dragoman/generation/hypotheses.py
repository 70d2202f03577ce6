"""What generation finds, and the tokens it has so far."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
"""Searches work on the host, in NumPy: their arrays are small, and there a call takes a microsecond."""


@dataclass(frozen=True)
class Hypothesis:
    """One candidate: the generated tokens, prompt excluded, and its score.

    The score is the log-probability divided by length**length_penalty, as in
    transformers' `sequences_scores`; for a sample or a greedy result the penalty applies too.
    """

    tokens: tuple[int, ...]
    score: float


class History:
    """The tokens of each row so far, on a line of its own from the left; the lines' ends differ."""

    ROOM = 32

    def __init__(self, prompts: Sequence[Sequence[int]], forced: int, whole: bool) -> None:
        """prompts: one for each row, of which the last `forced` tokens count as generated.

        whole: keep what comes before these too, as penalties look at it.
        """
        kept = [list(prompt if whole else prompt[len(prompt) - forced :]) for prompt in prompts]
        self.lengths: Array = np.array([len(prompt) for prompt in kept], np.int64)
        self.starts: Array = self.lengths - forced
        """Where the generated tokens begin, [rows]."""
        self.tokens: Array = np.zeros((len(kept), max(map(len, kept), default=0) + self.ROOM), np.int64)
        for line, prompt in zip(self.tokens, kept, strict=True):
            line[: len(prompt)] = prompt

    @property
    def generated(self) -> Array:
        """How many tokens each row has generated, [rows]."""
        return self.lengths - self.starts

    def of(self, row: int) -> list[int]:
        """The tokens that a row has generated."""
        return self.tokens[row, self.starts[row] : self.lengths[row]].tolist()

    def extended(self, rows: Array, tokens: Array) -> Array:
        """The lines of these rows with one more token each, [rows, capacity]."""
        lengths = self.lengths.take(rows)
        if lengths.max(initial=0) >= self.tokens.shape[1]:
            self.tokens = wider(self.tokens, self.tokens.shape[1] * 3 // 2 + self.ROOM)
        lines = self.tokens.take(rows, 0)
        lines[np.arange(len(rows)), lengths] = tokens
        return lines

    def extend(self, rows: Array, tokens: Array) -> None:
        """Keep `rows`, repeats allowed, with one more token each."""
        self.tokens = self.extended(rows, tokens)
        self.lengths = self.lengths.take(rows) + 1
        self.starts = self.starts.take(rows)

    def select(self, rows: Array) -> None:
        """Keep `rows`."""
        self.tokens = self.tokens.take(rows, 0)
        self.lengths, self.starts = self.lengths.take(rows), self.starts.take(rows)

    def join(self, other: "History") -> None:
        """Put the rows of `other` behind these."""
        self.tokens = stacked(self.tokens, other.tokens)
        self.lengths = np.concatenate([self.lengths, other.lengths])
        self.starts = np.concatenate([self.starts, other.starts])

    def aligned(self) -> Array:
        """The tokens with all lines' ends in the last column, and -1 before their beginnings."""
        width = int(self.lengths.max(initial=0))
        places = np.arange(width) - (width - self.lengths)[:, None]
        moved = np.take_along_axis(self.tokens, places.clip(0), 1)
        return np.where(places >= 0, moved, -1)


def wider(lines: Array, width: int) -> Array:
    """[..., *] -> [..., width], what is new holds zeros."""
    return np.pad(lines, [(0, 0)] * (lines.ndim - 1) + [(0, width - lines.shape[-1])])


def stacked(one: Array, other: Array) -> Array:
    """Two arrays one below the other; the last axis is filled up to the wider one."""
    width = max(one.shape[-1], other.shape[-1])
    return np.concatenate([wider(one, width), wider(other, width)])


def common_prefix(lines: Sequence[tuple[int, ...]]) -> list[int]:
    """What all of them begin with."""
    first, last = min(lines, default=()), max(lines, default=())
    for place, (a, b) in enumerate(zip(first, last, strict=False)):
        if a != b:
            return list(first[:place])
    return list(first)
