"""Next-token scores from the native output layer."""

import ctypes
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dragoman.kernels.head import PackedHead
from dragoman.kernels.library import kernels


class NativeScores:
    """The scores of some rows, of which the full matrix is only formed if asked for."""

    def __init__(self, head: PackedHead, hidden: Tensor) -> None:
        """hidden: [rows, hidden], float32 and contiguous."""
        self._head, self._hidden = head, hidden

    @property
    def rows(self) -> int:
        return len(self._hidden)

    def logits(self) -> Tensor:
        """[rows, vocabulary]; exact where the model is, else rough but for the best."""
        return self._head(self._hidden)

    def top(self, count: int, banned: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
        """The `count` best log-probabilities [rows, count] and their tokens, best first."""
        head, hidden = self._head, self._hidden
        count = min(count, head.tokens)
        scores = hidden.new_empty(self.rows, count)
        tokens = torch.empty(self.rows, count, dtype=torch.int32)
        spread = hidden.new_empty(self.rows, 2)
        bits = _bits(banned, head.vocabulary) if banned else None
        native = kernels()
        assert native is not None
        native.top(
            ctypes.byref(head.struct()),  # type: ignore[arg-type]
            hidden.data_ptr(),
            self.rows,
            count,
            head.SCREEN,
            0 if bits is None else bits.ctypes.data,
            scores.data_ptr(),
            tokens.data_ptr(),
            spread.data_ptr(),
        )
        if head.exact is not None:
            self._widen(scores, tokens, spread, banned)
        return scores, tokens.long()

    def _widen(self, scores: Tensor, tokens: Tensor, spread: Tensor, banned: tuple[int, ...]) -> None:
        """Score rows in full whose candidates might not have been the best."""
        # What was left out scored at most spread[:, 0] roughly; a better one would need so large an error.
        doubtful = scores[:, -1] < spread[:, 0] + self._head.MARGIN * spread[:, 1]
        if not bool(doubtful.any()) or scores.shape[1] >= self._head.tokens:
            return
        rows = doubtful.nonzero().flatten()
        logits = self._head.in_full(self._hidden[rows])
        found = logits.log_softmax(-1)
        if banned:
            found[:, list(banned)] = -torch.inf
        best = found.topk(scores.shape[1])
        scores[rows], tokens[rows] = best.values, best.indices.int()


@lru_cache(maxsize=64)
def _bits(banned: tuple[int, ...], vocabulary: int) -> Any:
    """A bit for each token, set where it is banned."""
    flags = np.zeros(-(-vocabulary // 8) * 8, np.uint8)
    flags[[token for token in banned if token < vocabulary]] = 1
    return np.packbits(flags, bitorder="little")
