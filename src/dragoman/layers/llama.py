"""Llama's attention and feed-forward block, with room for language modules.

Parameter names are the published ones. Reference: transformers 5.23, `modeling_llama.py`; for the
modules the authors' `modeling_xalma.py`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from dragoman.layers.attention import attention_with_weights
from dragoman.layers.cache import causal_mask
from dragoman.layers.lora import AdaptedProjections, Routes
from dragoman.layers.moe import FUNCTIONS
from dragoman.layers.rotary import Rotation, rotate


class SelfCache(Protocol):
    """What a decoder without an encoder asks of a cache."""

    @property
    def length(self) -> int:
        """Positions read so far."""

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add the new positions of a layer; all the rows' own so far come back."""


@dataclass
class Pass:
    """What all layers of one pass share."""

    rotation: Rotation
    mask: Tensor | None = None
    """[rows, 1, queries, keys]: boolean, True where a query may look, or to be added to the scores."""
    causal: bool = False
    """Instead of a mask: query i looks at the keys up to i."""
    cache: SelfCache | None = None
    shared: list[tuple[Tensor, Tensor] | None] | None = None
    """By layer: keys and values common to the rows of a sentence, [sentences, heads, time, head_dim]."""
    shared_mask: Tensor | None = None
    """Boolean [sentences, 1, 1, time]."""
    routes: Routes | None = None
    """Which rows use which language module."""
    need_weights: bool = False


class LlamaAttention(AdaptedProjections):
    """Self-attention with rotary positions; several query heads may share a key head."""

    def __init__(
        self,
        hidden: int,
        heads: int,
        key_heads: int,
        head_dim: int,
        index: int,
        bias: bool = False,
        dropout: float = 0.0,
        groups: Iterable[int] = (),
        rank: int = 0,
    ) -> None:
        queries, keys = heads * head_dim, key_heads * head_dim
        sizes = {"q": (hidden, queries), "k": (hidden, keys), "v": (hidden, keys), "o": (queries, hidden)}
        super().__init__(sizes, groups, rank, bias)
        self.heads, self.key_heads, self.head_dim = heads, key_heads, head_dim
        self.index = index
        self.dropout = dropout

    def forward(self, x: Tensor, step: Pass) -> tuple[Tensor, Tensor | None]:
        """[rows, time, hidden] -> the same, and if asked for the probabilities [rows, heads, time, keys]."""
        q, k, v = (self._split(part) for part in self.project(("q", "k", "v"), x, step.routes))
        q, k = rotate(q, step.rotation), rotate(k, step.rotation)
        if step.cache is not None:
            k, v = step.cache.extend(self.index, k, v)
        shared = None if step.shared is None else step.shared[self.index]
        dropout = self.dropout if self.training else 0.0
        weights = None
        if shared is not None:
            context = attend_to_both(q, k, v, step.mask, *shared, step.shared_mask)
        elif step.need_weights:
            k, v = (part.repeat_interleave(self.heads // self.key_heads, 1) for part in (k, v))
            context, weights = attention_with_weights(q, k, v, step.mask, step.causal, dropout)
        else:
            context = F.scaled_dot_product_attention(
                q, k, v, step.mask, dropout, step.causal, enable_gqa=self.heads != self.key_heads
            )
        context = context.transpose(1, 2).reshape(*x.shape[:2], -1)
        return self.project(("o",), context, step.routes)[0], weights

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], -1, self.head_dim).transpose(1, 2)


def attend_to_both(
    q: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    shared_key: Tensor,
    shared_value: Tensor,
    shared_mask: Tensor | None,
) -> Tensor:
    """Attention of rows to what their sentence has and to what they have of their own, as if it were one.

    q: [rows, heads, time, head_dim]; key, value: [rows, key heads, own, head_dim]; shared_*:
    [sentences, key heads, prompt, head_dim], a run of rows to each sentence. mask: [time, own],
    [rows, 1, time or 1, own] or None; shared_mask: [sentences, 1, 1, prompt] or None.
    Returns [rows, heads, time, head_dim].
    """
    rows, heads, time, width = q.shape
    sentences, key_heads = shared_key.shape[:2]
    # The query heads of a key head, and the beams of a sentence, are more queries on the same keys.
    repeats = heads // key_heads
    q = q.reshape(rows, key_heads, repeats * time, width) * width**-0.5
    own = q @ key.transpose(-1, -2)
    common = _by_sentence(q, sentences) @ shared_key.transpose(-1, -2)
    if mask is not None:
        by_query = (*[1] * (mask.dim() - 2), repeats, 1)
        own = own.masked_fill(~mask.repeat(by_query), -torch.inf)
    if shared_mask is not None:
        common = common.masked_fill(~shared_mask, -torch.inf)
    scores = torch.cat([_by_row(common, rows), own], -1)
    weights = scores.float().softmax(-1).to(q.dtype)
    on_common, on_own = weights.split([common.shape[-1], own.shape[-1]], -1)
    context = _by_row(_by_sentence(on_common, sentences) @ shared_value, rows) + on_own @ value
    return context.reshape(rows, heads, time, width)


def _by_sentence(x: Tensor, sentences: int) -> Tensor:
    """[rows, heads, queries, width] -> [sentences, heads, beams * queries, width]."""
    rows, heads, _, width = x.shape
    return (
        x.view(sentences, rows // sentences, heads, -1, width)
        .transpose(1, 2)
        .reshape(sentences, heads, -1, width)
    )


def _by_row(x: Tensor, rows: int) -> Tensor:
    """The inverse of `_by_sentence`."""
    sentences, heads, _, width = x.shape
    return (
        x.view(sentences, heads, rows // sentences, -1, width).transpose(1, 2).reshape(rows, heads, -1, width)
    )


class LlamaMLP(AdaptedProjections):
    """down(activation(gate(x)) * up(x))."""

    def __init__(
        self,
        hidden: int,
        inner: int,
        activation: str = "silu",
        bias: bool = False,
        groups: Iterable[int] = (),
        rank: int = 0,
    ) -> None:
        sizes = {"gate": (hidden, inner), "up": (hidden, inner), "down": (inner, hidden)}
        super().__init__(sizes, groups, rank, bias)
        self.activation = FUNCTIONS[activation]

    def forward(self, x: Tensor, routes: Routes | None = None) -> Tensor:
        """[rows, time, hidden] -> the same."""
        gate, up = self.project(("gate", "up"), x, routes)
        return self.project(("down",), self.activation(gate) * up, routes)[0]


def count_positions(keep: Tensor | None, past: int, time: int, device: torch.device) -> Tensor:
    """Positions [rows, time] from 0, padding not counted (it gets 0 or its neighbour's: nothing sees it)."""
    if keep is None:
        return torch.arange(past, past + time, device=device)[None]
    return (keep.long().cumsum(1) - 1).clamp(min=0)[:, past:]


def self_mask(
    keep: Tensor | None, past: int, time: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor | None, bool]:
    """(mask, causal) for attention to a row's own past. keep: boolean [rows, past + time] or None.

    The mask is one to add. A padded query that sees no key then spreads its attention evenly
    over all, as in transformers 4: losses that take in what padding predicts are the same.
    """
    if keep is None:
        if past == 0:
            return None, time > 1
        return (causal_mask(time, past, device) if time > 1 else None), False
    visible = keep[:, None, None, :] & causal_mask(time, past, device)
    # Half precision has no room for a score beside its least number.
    least = -30000.0 if dtype == torch.float16 else torch.finfo(dtype).min
    return torch.zeros(visible.shape, dtype=dtype, device=device).masked_fill_(~visible, least), False
