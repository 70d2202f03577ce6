"""Next-token scores from the native output layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dragoman.errors import NoNumbers
from dragoman.kernels.arrays import Array
from dragoman.kernels.head import SCREEN, Head
from dragoman.kernels.library import needed

FULL = 32
"""Rows that are scored in full together: a row of 256,000 scores takes a megabyte."""


@dataclass(frozen=True, eq=False)
class Choice:
    """What some rows choose from."""

    head: Head
    rows: Array | None
    """Which rows these are, int64; None for all."""
    extra: tuple[Sequence[int], ...] | None = None
    """For each of these rows, tokens that it may use besides those of a cut head."""


class NativeScores:
    """The scores of some rows, of which the full matrix is only formed if asked for."""

    def __init__(self, hidden: Array, choices: Sequence[Choice]) -> None:
        """hidden: float32 [rows, hidden], contiguous; the choices share out the rows."""
        self._hidden, self._choices = hidden, choices

    @property
    def rows(self) -> int:
        return len(self._hidden)

    def logits(self, rows: Tensor | None = None) -> Tensor:
        """[rows, vocabulary]; exact where the model is, else rough but for the best. rows: of which."""
        if rows is not None:
            return self._of(rows.numpy()).logits()
        return torch.from_numpy(
            self._together([_logits(choice, self._part(choice)) for choice in self._choices])
        )

    def top(self, count: int, banned: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
        """The `count` best log-probabilities [rows, count] and their tokens, best first."""
        count = min(count, *(choice.head.tokens for choice in self._choices))
        parts = [_top(choice, self._part(choice), count, banned) for choice in self._choices]
        scores, tokens = (self._together(list(part)) for part in zip(*parts, strict=True))
        return torch.from_numpy(scores), torch.from_numpy(tokens.astype(np.int64))

    def _of(self, rows: Array) -> "NativeScores":
        """Those of some rows, repeats allowed."""
        choices = []
        for choice in self._choices:
            there = range(self.rows) if choice.rows is None else choice.rows.tolist()
            own = {row: place for place, row in enumerate(there)}
            mine = [(place, own[row]) for place, row in enumerate(rows.tolist()) if row in own]
            if mine:
                places = np.array([place for place, _ in mine], np.int64)
                extra = None if choice.extra is None else tuple(choice.extra[its] for _, its in mine)
                choices.append(Choice(choice.head, None if choice.rows is None else places, extra))
        return NativeScores(self._hidden[rows], choices)

    def _part(self, choice: Choice) -> Array:
        return self._hidden if choice.rows is None else self._hidden[choice.rows]

    def _together(self, parts: list[Array]) -> Array:
        if len(parts) == 1 and self._choices[0].rows is None:
            return parts[0]
        out = np.empty((self.rows, parts[0].shape[1]), parts[0].dtype)
        for part, choice in zip(parts, self._choices, strict=True):
            out[choice.rows] = part
        return out


def _top(choice: Choice, hidden: Array, count: int, banned: tuple[int, ...]) -> tuple[Array, Array]:
    head, rows = choice.head, len(hidden)
    scores, spread = np.empty((rows, count), np.float32), np.empty((rows, 2), np.float32)
    tokens = np.empty((rows, count), np.int32)
    bits = _bits(banned, head.vocabulary) if banned else None
    extra = None if choice.extra is None else _flat(choice.extra)
    needed().top(head.struct(), hidden, max(SCREEN, 4 * count), bits, extra, (scores, tokens, spread))
    # What was left out scored at most spread[:, 0] roughly, and no error exceeds spread[:, 1]. Written so
    # that what is no number is in doubt.
    with np.errstate(invalid="ignore"):
        sure = scores[:, -1] >= spread[:, 0] + spread[:, 1]
    if head.exact is not None and not sure.all():
        _score_in_full(choice, hidden, np.flatnonzero(~sure), banned, scores, tokens)
    elif head.exact is None and np.isnan(spread).any():
        raise NoNumbers()
    return scores, tokens


def _score_in_full(
    choice: Choice, hidden: Array, rows: Array, banned: tuple[int, ...], scores: Array, tokens: Array
) -> None:
    """Replace the results of rows whose candidates might not have been the best, a few at a time."""
    for first in range(0, len(rows), FULL):
        these = rows[first : first + FULL]
        found = _sound(_allow(choice, choice.head.in_full(hidden[these]), hidden, these.tolist()))
        _log_softmax_(found)
        found[:, [token for token in banned if token < choice.head.vocabulary]] = -np.inf
        scores[these], tokens[these] = _best(found, scores.shape[1])


def _best(scores: Array, count: int) -> tuple[Array, Array]:
    """The best of each row and where they are [rows, count]: higher ones first, then lower places."""
    places = np.argpartition(scores, scores.shape[1] - count, -1)[:, -count:]
    found = np.take_along_axis(scores, places, -1)
    order = np.lexsort((places, -found))
    return np.take_along_axis(found, order, -1), np.take_along_axis(places, order, -1)


def _log_softmax_(scores: Array) -> None:
    """In place, as [rows, vocabulary] may be large."""
    scores -= scores.max(-1, keepdims=True)
    scores -= np.log(np.exp(scores).sum(-1, keepdims=True))


def _logits(choice: Choice, hidden: Array) -> Array:
    return _sound(_allow(choice, choice.head(hidden), hidden, range(len(hidden))))


def _sound(logits: Array) -> Array:
    """The same scores, if each row has one that is largest; NoNumbers otherwise."""
    if not np.isfinite(logits.max(-1)).all():
        raise NoNumbers()
    return logits


def _allow(choice: Choice, logits: Array, hidden: Array, rows: Sequence[int]) -> Array:
    """Fill in the scores of extra tokens. logits: those of `rows`."""
    if choice.extra is not None:
        for place, row in enumerate(rows):
            these = np.array(choice.extra[row], np.int32)
            if len(these):
                logits[place, these] = choice.head.exactly(hidden[row : row + 1], these)[0]
    return logits


def _flat(extra: tuple[Sequence[int], ...]) -> tuple[Any, Any]:
    """All rows' tokens one after the other, and where each row's begin."""
    starts = np.cumsum([0, *map(len, extra)]).astype(np.int32)
    return np.concatenate([np.asarray(tokens, np.int32) for tokens in extra]), starts


@lru_cache(maxsize=64)
def _bits(banned: tuple[int, ...], vocabulary: int) -> Any:
    """A bit for each token, set where it is banned."""
    flags = np.zeros(-(-vocabulary // 8) * 8, np.uint8)
    flags[[token for token in banned if token < vocabulary]] = 1
    return np.packbits(flags, bitorder="little")
