"""The output layer, a rough pass over all tokens and exact scores for the best; and tokens' vectors."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dragoman.kernels import structs
from dragoman.kernels.arrays import Array, Stored, address_or_none, empty
from dragoman.kernels.fine import Fine
from dragoman.kernels.library import needed
from dragoman.kernels.linear import Linear
from dragoman.kernels.packing import pack, unpack

SCREEN = 256
"""Tokens of the rough pass that are kept, more where its errors may hide the best (csrc/head.h); they are
scored anew until the rest can't be among the best."""


Table = Stored | Fine
"""Rows of an embedding or an output layer, as they are looked up."""


@dataclass(frozen=True, eq=False)
class Head:
    """Scores of next tokens, from hidden states.

    With `exact`, rows of the output matrix as it is or in 12 bits, the best tokens of the packed one are
    scored anew, 64 (more, if many are wanted) to 4,096, and the normaliser is exact in its largest
    terms. What no error of the rough pass exceeds is known (`bounds`): where a token that was left out
    might yet be among the best, all are scored exactly.
    """

    linear: Linear
    exact: Table | None
    """[vocabulary, hidden]."""
    kept: Array | None = None
    """Which tokens the columns are, if not all: int32 [tokens], sorted."""
    measured: tuple[float, float] | None = None
    """`bounds`, where they are known already."""

    @classmethod
    def screened(cls, weight: Stored, precision: str = "int8") -> "Head":
        """For a matrix [tokens, hidden], which itself serves for the exact scores.

        precision: of the rough pass.
        """
        weight = weight.contiguous()
        return cls(Linear(pack(weight, precision)), weight)

    @classmethod
    def fine(cls, table: Fine) -> "Head":
        """For a matrix [tokens, hidden] in 12 bits, whose upper ones serve for the rough pass."""
        return cls(Linear(table.packed), table)

    @cached_property
    def kept_set(self) -> frozenset[int]:
        """The tokens of a cut head."""
        return frozenset() if self.kept is None else frozenset(self.kept.tolist())

    @property
    def tokens(self) -> int:
        """How many tokens can come out."""
        return self.linear.outputs

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return self.linear.outputs if self.exact is None else len(self.exact)

    def __call__(self, x: Array) -> Array:
        """float32 [rows, hidden] -> [rows, vocabulary]; tokens that were cut away score -inf."""
        if isinstance(self.exact, Stored) and self.exact.dtype == "F32":
            return self.in_full(x)  # the model is exact, so all scores are
        rough = self.linear(x)
        if self.exact is not None:
            count = min(SCREEN, self.tokens)
            places = np.argpartition(rough, self.tokens - count, -1)[:, -count:]
            found = self.exactly(x, places.astype(np.int32) if self.kept is None else self.kept[places])
            np.put_along_axis(rough, places, found, -1)
        return self._spread(rough)

    def in_full(self, x: Array) -> Array:
        """Scores from the exact matrix alone, [rows, vocabulary]."""
        return self._spread(self.exactly(x, self.kept))

    def exactly(self, x: Array, tokens: Array | None) -> Array:
        """Exact scores [rows, count] of `x` [rows, hidden], each row's the same whatever the others are.

        tokens: int32 [count] or, different for each row, [rows, count]; None: the whole vocabulary.
        """
        assert self.exact is not None
        if tokens is not None and tokens.size and not 0 <= tokens.min() <= tokens.max() < self.vocabulary:
            raise IndexError(
                f"tokens {tokens.min()} to {tokens.max()} were asked for; there are {self.vocabulary}"
            )
        out = empty(len(x), self.vocabulary if tokens is None else tokens.shape[-1])
        needed().exact(self._struct(0.0, 0.0), np.ascontiguousarray(x), tokens, out)
        return out

    def cut(self, tokens: Array) -> "Head":
        """A head that only knows `tokens` (their numbers, sorted)."""
        exact = Stored.of(unpack(self.linear.packed).astype(np.float16)) if self.exact is None else self.exact
        kept = np.asarray(tokens, np.int32)
        if isinstance(exact, Fine):
            return Head(Linear(exact.screen(kept)), exact, kept)
        return Head(Linear(pack(exact.rows(kept), self.linear.packed.precision)), exact, kept)

    @cached_property
    def bounds(self) -> tuple[float, float]:
        """The largest distance of a packed row to the exact one, and the longest exact row.

        By Cauchy and Schwarz, no rough score is further from the exact one than |x'| times the first
        and |x - x'| times the second, with x' as the rough pass has x.
        """
        if self.measured is not None:
            return self.measured
        return (0.0, 0.0) if self.exact is None else needed().measure(self._struct(0.0, 0.0))

    def struct(self) -> structs.Head:
        """What the kernels need to know; it points to this head's arrays, which must outlive it."""
        return self._struct(*self.bounds)

    def _struct(self, gap: float, norm: float) -> structs.Head:
        exact = structs.Matrix(kind=structs.NONE) if self.exact is None else self.exact.matrix()
        rows = self.vocabulary if self.kept is not None else self.tokens
        if self.exact is not None and (exact.rows, exact.columns) != (rows, self.linear.inputs):
            raise ValueError(
                f"the exact rows [{exact.rows}, {exact.columns}] don't go with an output layer "
                f"[{rows}, {self.linear.inputs}]"
            )
        kept = address_or_none("kept tokens", self.kept, np.int32, self.tokens)
        return structs.Head(self.linear.struct(), exact, kept, gap, norm)

    def _spread(self, scores: Array) -> Array:
        """Scores of the head's tokens among those of the whole vocabulary."""
        if self.kept is None:
            return scores
        full = empty(len(scores), self.vocabulary)
        full[:] = -np.inf
        full[:, self.kept] = scores
        return full


@dataclass(frozen=True, eq=False)
class Embedding:
    """Vectors of tokens from a table, in float32 and multiplied by `scale`."""

    weight: Table
    """[tokens, hidden]."""
    scale: float = 1.0

    def __call__(self, tokens: Array) -> Array:
        """int64 [...] -> float32 [..., hidden]; IndexError for a token that isn't there."""
        rows = np.ascontiguousarray(tokens, np.int64).reshape(-1)
        out = empty(len(rows), self.weight.shape[1])
        needed().gather(self.weight.matrix(), rows, self.scale, out)
        return out.reshape(*tokens.shape, out.shape[1])
