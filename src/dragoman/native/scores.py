"""Next-token scores from the native output layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dragoman.errors import NoNumbers
from dragoman.kernels.head import PackedHead
from dragoman.kernels.library import kernels

FULL = 32
"""Rows that are scored in full together: a row of 256,000 scores takes a megabyte."""


@dataclass(frozen=True)
class Choice:
    """What some rows choose from."""

    head: PackedHead
    rows: Tensor | None
    """Which rows these are; None for all."""
    extra: tuple[Sequence[int], ...] | None = None
    """For each of these rows, tokens that it may use besides those of a cut head."""


class NativeScores:
    """The scores of some rows, of which the full matrix is only formed if asked for."""

    def __init__(self, hidden: Tensor, choices: Sequence[Choice]) -> None:
        """hidden: [rows, hidden], float32 and contiguous; the choices share out the rows."""
        self._hidden, self._choices = hidden, choices

    @property
    def rows(self) -> int:
        return len(self._hidden)

    @torch.inference_mode()
    def logits(self, rows: np.ndarray | None = None) -> np.ndarray:
        """[rows, vocabulary]; exact where the model is, else rough but for the best. rows: of which."""
        if rows is not None:
            return self._of(torch.from_numpy(rows)).logits()
        parts = [_logits(choice, self._part(choice)) for choice in self._choices]
        return self._together(parts).numpy()

    @torch.inference_mode()
    def top(self, count: int, banned: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
        """The `count` best log-probabilities [rows, count] and their tokens, best first."""
        count = min(count, *(choice.head.tokens for choice in self._choices))
        parts = [_top(choice, self._part(choice), count, banned) for choice in self._choices]
        scores, tokens = (self._together(list(part)) for part in zip(*parts, strict=True))
        return scores.numpy(), tokens.long().numpy()

    def _of(self, rows: Tensor) -> "NativeScores":
        """Those of some rows, repeats allowed."""
        choices = []
        for choice in self._choices:
            there = range(self.rows) if choice.rows is None else choice.rows.tolist()
            own = {row: place for place, row in enumerate(there)}
            mine = [(place, own[row]) for place, row in enumerate(rows.tolist()) if row in own]
            if mine:
                places = torch.tensor([place for place, _ in mine], dtype=torch.long, device="cpu")
                extra = None if choice.extra is None else tuple(choice.extra[its] for _, its in mine)
                choices.append(Choice(choice.head, None if choice.rows is None else places, extra))
        return NativeScores(self._hidden[rows], choices)

    def _part(self, choice: Choice) -> Tensor:
        return self._hidden if choice.rows is None else self._hidden[choice.rows]

    def _together(self, parts: list[Tensor]) -> Tensor:
        if len(parts) == 1 and self._choices[0].rows is None:
            return parts[0]
        out = parts[0].new_empty(self.rows, parts[0].shape[1])
        for part, choice in zip(parts, self._choices, strict=True):
            out[choice.rows] = part
        return out


def _top(choice: Choice, hidden: Tensor, count: int, banned: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    head, rows = choice.head, len(hidden)
    scores, spread = hidden.new_empty(rows, count), hidden.new_empty(rows, 2)
    tokens = hidden.new_empty(rows, count, dtype=torch.int32)
    bits = _bits(banned, head.vocabulary) if banned else None
    extra = None if choice.extra is None else _flat(choice.extra)
    native = kernels()
    assert native is not None
    screen = max(head.SCREEN, 4 * count)
    native.top(head.struct(), hidden, screen, bits, extra, (scores, tokens, spread))
    # What was left out scored at most spread[:, 0] roughly, and no error exceeds spread[:, 1]. Written so
    # that what is no number is in doubt.
    sure = scores[:, -1] >= spread[:, 0] + spread[:, 1]
    if head.exact is not None and not bool(sure.all()):
        _score_in_full(choice, hidden, (~sure).nonzero().flatten(), banned, scores, tokens)
    elif head.exact is None and bool(spread.isnan().any()):
        raise NoNumbers()
    return scores, tokens


def _score_in_full(
    choice: Choice, hidden: Tensor, rows: Tensor, banned: tuple[int, ...], scores: Tensor, tokens: Tensor
) -> None:
    """Replace the results of rows whose candidates might not have been the best, a few at a time."""
    if len(rows) > FULL:
        for part in rows.split(FULL):
            _score_in_full(choice, hidden, part, banned, scores, tokens)
        return
    found = _sound(_allow(choice, choice.head.in_full(hidden[rows]), hidden, rows.tolist())).log_softmax(-1)
    known = [token for token in banned if token < choice.head.vocabulary]
    if known:
        found[:, known] = -torch.inf
    best = found.topk(scores.shape[1])
    scores[rows], tokens[rows] = best.values, best.indices.int()


def _logits(choice: Choice, hidden: Tensor) -> Tensor:
    return _sound(_allow(choice, choice.head(hidden), hidden, range(len(hidden))))


def _sound(logits: Tensor) -> Tensor:
    """The same scores, if each row has one that is largest; NoNumbers otherwise."""
    if not bool(logits.amax(-1).isfinite().all()):
        raise NoNumbers()
    return logits


def _allow(choice: Choice, logits: Tensor, hidden: Tensor, rows: Sequence[int]) -> Tensor:
    """Fill in the scores of extra tokens. logits: those of `rows`."""
    if choice.extra is not None:
        for place, row in enumerate(rows):
            these = torch.tensor(choice.extra[row], dtype=torch.long, device="cpu")
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
