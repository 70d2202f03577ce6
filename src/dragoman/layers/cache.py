"""Keys and values that the decoder has already computed."""

from typing import Protocol

import torch
from torch import Tensor

from dragoman.layers.attention import Attention


class Cache(Protocol):
    """What a decoder asks of a cache. The plain one is below; the transformers face brings its own."""

    @property
    def length(self) -> int:
        """Positions decoded so far."""

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add the new positions of a layer; all its positions so far come back."""

    def source(
        self, layer: int, attention: Attention, encoded: Tensor | None
    ) -> tuple[Tensor, Tensor] | None:
        """Keys and values of the source sentences, projected from `encoded` when first asked for.

        None if there is no source: a decoder can run alone.
        """


class NoCache:
    """Computes everything anew: training and teacher forcing."""

    length = 0

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        return key, value

    def source(
        self, layer: int, attention: Attention, encoded: Tensor | None
    ) -> tuple[Tensor, Tensor] | None:
        return None if encoded is None else attention.project(encoded)


class DecoderCache:
    """Keys and values per layer: own ones in preallocated slots, the source's once per sentence.

    Rows are hypotheses; every sentence has `beams` of them, side by side.
    """

    GROWTH = 32

    def __init__(self, layers: int) -> None:
        self.length = 0
        self.beams = 1
        self._own: list[tuple[Tensor, Tensor] | None] = [None] * layers
        self._source: list[tuple[Tensor, Tensor] | None] = [None] * layers

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new positions [rows, heads, new, head_dim]; returns views of all so far."""
        end = self.length + key.shape[2]
        slots = self._own[layer]
        if slots is None or slots[0].shape[2] < end:
            slots = _grow(slots, key, end + self.GROWTH, self.length)
            self._own[layer] = slots
        slots[0][:, :, self.length : end] = key
        slots[1][:, :, self.length : end] = value
        if layer == len(self._own) - 1:
            self.length = end
        return slots[0][:, :, :end], slots[1][:, :, :end]

    def source(self, layer: int, attention: Attention, encoded: Tensor | None) -> tuple[Tensor, Tensor]:
        """Keys and values of the source [sentences, heads, time, head_dim]."""
        pair = self._source[layer]
        if pair is None:
            assert encoded is not None, "the first step brings the encoded source"
            pair = self._source[layer] = attention.project(encoded)
        return pair

    def select(self, rows: Tensor, sentences: Tensor | None, beams: int) -> None:
        """Keep `rows` in their order; `sentences` too, unless all stay as they are (None)."""
        self.beams = beams
        self._own = [pair and _pick(pair, rows) for pair in self._own]
        if sentences is not None:
            self._source = [pair and _pick(pair, sentences) for pair in self._source]


class PromptCache:
    """Keys and values of a decoder that reads its prompt itself, by layer.

    As long as a sentence has one row, all of them lie in one place. Once it has several
    (its beams), what came before is kept once per sentence, and only what each row adds
    is its own: reordering beams then moves little.
    """

    def __init__(self, layers: int) -> None:
        self.length = 0
        self.shared_length = 0
        self.beams = 1
        self._own: list[tuple[Tensor, Tensor] | None] = [None] * layers
        self.shared: list[tuple[Tensor, Tensor] | None] = [None] * layers
        """What a sentence's rows share, [sentences, heads, shared_length, head_dim]."""

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new positions [rows, heads, new, head_dim]; returns views of all the rows' own."""
        used = self.length - self.shared_length
        end = used + key.shape[2]
        slots = self._own[layer]
        if slots is None or slots[0].shape[2] < end:
            slots = _grow(slots, key, end + DecoderCache.GROWTH, used)
            self._own[layer] = slots
        slots[0][:, :, used:end] = key
        slots[1][:, :, used:end] = value
        if layer == len(self._own) - 1:
            self.length = self.shared_length + end
        return slots[0][:, :, :end], slots[1][:, :, :end]

    def select(self, rows: Tensor, sentences: Tensor | None, beams: int) -> None:
        """Keep `rows` in their order; `sentences` too, unless all stay as they are (None)."""
        if beams > 1 and self.shared_length == 0 and self.length:
            assert self.beams == 1, "rows that were never one can't share what they have"
            end = self.length
            self.shared = [pair and (pair[0][:, :, :end], pair[1][:, :, :end]) for pair in self._own]
            self._own = [None] * len(self._own)
            self.shared_length = end
        self.beams = beams
        self._own = [pair and _pick(pair, rows) for pair in self._own]
        if sentences is not None:
            self.shared = [pair and _pick(pair, sentences) for pair in self.shared]


def _pick(pair: tuple[Tensor, Tensor], rows: Tensor) -> tuple[Tensor, Tensor]:
    return pair[0].index_select(0, rows), pair[1].index_select(0, rows)


def _grow(
    slots: tuple[Tensor, Tensor] | None, like: Tensor, capacity: int, used: int
) -> tuple[Tensor, Tensor]:
    rows, heads, _, width = like.shape
    key, value = (like.new_empty(rows, heads, capacity, width) for _ in range(2))
    if slots is not None:
        key[:, :, :used] = slots[0][:, :, :used]
        value[:, :, :used] = slots[1][:, :, :used]
    return key, value


def causal_mask(queries: int, past: int, device: torch.device) -> Tensor:
    """Boolean [queries, past + queries], True where a query may look: itself and all before it."""
    return torch.ones(queries, past + queries, dtype=torch.bool, device=device).tril(past)
