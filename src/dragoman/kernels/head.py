"""The output layer: a rough pass over all tokens, and exact scores for the best of them."""

from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dragoman.errors import InvalidOption
from dragoman.kernels import structs
from dragoman.kernels.arrays import address_or_none
from dragoman.kernels.library import kernels
from dragoman.kernels.linear import PackedLinear
from dragoman.kernels.packing import pack, unpack

EXACT_KINDS: dict[torch.dtype, tuple[int, Any]] = {
    torch.float32: (structs.FLOAT, np.float32),
    torch.float16: (structs.HALF, np.float16),
}
"""What the rows of exact scores may be, and what the kernels call it."""


class PackedHead(nn.Module):
    """Scores of next tokens, from hidden states.

    With `exact`, rows of the unquantised output matrix, the best SCREEN tokens of the packed
    one (more, if many are wanted) are scored anew, and the normaliser is exact in its largest terms. What
    no error of the rough pass exceeds is known (`bounds`): where a token that was left out might yet be among
    the best, all are scored exactly.
    """

    SCREEN = 64

    exact: Tensor | None
    kept: Tensor | None

    def __init__(self, linear: PackedLinear, exact: Tensor | None, kept: Tensor | None = None) -> None:
        """exact: [vocabulary, hidden] in fp32 or fp16. kept: which tokens the columns are, if not all.

        InvalidOption if `exact` is in another precision.
        """
        super().__init__()
        if exact is not None and exact.dtype not in EXACT_KINDS:
            possible = " or ".join(map(str, EXACT_KINDS))
            raise InvalidOption(f"exact scores from rows in {exact.dtype}; convert them to {possible}")
        self.linear = linear
        self.register_buffer("exact", exact, persistent=False)
        self.register_buffer("kept", None if kept is None else kept.int(), persistent=False)
        self.vocabulary = linear.out_features if exact is None else len(exact)
        self._bounds: tuple[float, float] | None = None

    @classmethod
    def screened(cls, weight: Tensor, precision: str = "int8") -> "PackedHead":
        """For a matrix [tokens, hidden] in fp32 or fp16, which itself serves for the exact scores.

        precision: of the rough pass.
        """
        return cls(PackedLinear(pack(weight, precision)), weight.detach())

    @cached_property
    def kept_set(self) -> frozenset[int]:
        """The tokens of a cut head."""
        return frozenset() if self.kept is None else frozenset(self.kept.tolist())

    @property
    def tokens(self) -> int:
        """How many tokens can come out."""
        return self.linear.out_features

    def forward(self, x: Tensor) -> Tensor:
        """[..., hidden] -> [..., vocabulary]; tokens that were cut away score -inf."""
        if self.exact is not None and self.exact.dtype == torch.float32:
            return self.in_full(x)  # the model is exact, so all scores are
        rough = self.linear(x)
        if self.exact is not None:
            flat = x.reshape(-1, x.shape[-1])
            places = rough.reshape(len(flat), -1).topk(min(self.SCREEN, self.tokens), -1).indices
            found = self.exactly(flat, places if self.kept is None else self.kept.long()[places])
            rough = rough.scatter(-1, places.view(*x.shape[:-1], -1), found.view(*x.shape[:-1], -1))
        return self._spread(rough)

    def in_full(self, x: Tensor) -> Tensor:
        """Scores from the exact matrix alone, [..., vocabulary]."""
        flat = x.reshape(-1, x.shape[-1])
        return self._spread(self.exactly(flat, self.kept)).view(*x.shape[:-1], self.vocabulary)

    def exactly(self, x: Tensor, tokens: Tensor | None) -> Tensor:
        """Exact scores [rows, count] of `x` [rows, hidden], each row's the same whatever the others are.

        tokens: [count] or, different for each row, [rows, count]; None: the whole vocabulary.
        """
        assert self.exact is not None
        native = kernels() if x.device.type == "cpu" else None
        if native is None:
            return self._exactly_in_torch(x.float(), tokens)
        x = x.float().contiguous()
        tokens = None if tokens is None else tokens.int().contiguous()
        out = x.new_empty(len(x), len(self.exact) if tokens is None else tokens.shape[-1])
        native.exact(self.struct(), x, tokens, out)
        return out

    def _exactly_in_torch(self, x: Tensor, tokens: Tensor | None) -> Tensor:
        assert self.exact is not None
        if tokens is not None and tokens.dim() == 2:
            return (self.exact[tokens.long()].float() @ x[..., None]).squeeze(-1)
        rows = self.exact if tokens is None else self.exact[tokens.long()]
        # Parts, so that no copy of the whole in another precision is made.
        return torch.cat([x @ part.float().t() for part in rows.split(16384)], -1)

    def _spread(self, scores: Tensor) -> Tensor:
        """Scores of the head's tokens among those of the whole vocabulary."""
        if self.kept is None:
            return scores
        full = scores.new_full((*scores.shape[:-1], self.vocabulary), -torch.inf)
        return full.index_copy_(-1, self.kept.long(), scores)

    def cut(self, tokens: Tensor) -> "PackedHead":
        """A head that only knows `tokens` (their numbers, sorted)."""
        exact = unpack(self.linear.packed).half() if self.exact is None else self.exact
        return PackedHead(PackedLinear(pack(exact[tokens], self.linear.precision)), exact, tokens)

    def bounds(self) -> tuple[float, float]:
        """The largest distance of a packed row to the exact one, and the longest exact row; measured once.

        By Cauchy and Schwarz, no rough score is further from the exact one than |x'| times the first
        and |x - x'| times the second, with x' as the rough pass has x.
        """
        if self._bounds is None:
            native = kernels()
            assert native is not None
            self._bounds = (0.0, 0.0) if self.exact is None else native.measure(self._struct(0.0, 0.0))
        return self._bounds

    def struct(self) -> structs.Head:
        """What the kernels need to know; it points into this module."""
        return self._struct(*self.bounds())

    def _struct(self, gap: float, norm: float) -> structs.Head:
        kind, dtype = structs.NONE, np.float32
        if self.exact is not None:
            kind, dtype = EXACT_KINDS[self.exact.dtype]
        shape = (self.vocabulary, self.linear.in_features)
        return structs.Head(
            self.linear.struct(),
            kind,
            address_or_none("exact rows", self.exact, dtype, *shape),
            address_or_none("kept tokens", self.kept, np.int32, self.tokens),
            gap,
            norm,
        )


class PackedEmbedding(nn.Module):
    """Vectors of tokens from a table in fp32 or fp16, in float32 and multiplied by `scale`."""

    weight: Tensor

    def __init__(self, weight: Tensor, scale: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach(), persistent=False)
        self.embed_scale = scale

    def forward(self, tokens: Tensor) -> Tensor:
        """[...] -> [..., hidden]."""
        return nn.functional.embedding(tokens, self.weight).float() * self.embed_scale
