"""Keys and values that the decoder has already computed."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from dragoman.layers.attention import Attention

Pair = tuple[Tensor, Tensor]
"""Keys and values, [rows or sentences, heads, time, head_dim] each."""


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


class Slots:
    """Keys and values of rows by layer, the newest of all rows in the last column.

    Rows may have different lengths: what lies before a row's first column is empty, and a mask
    hides it. So a step writes one slice whatever the lengths, and none of the rows has to move
    when others leave or join. Rows are hypotheses, as many of them for every sentence; the lengths
    are the sentences'.
    """

    GROWTH = 32

    def __init__(self, layers: int, lengths: Sequence[int] = ()) -> None:
        """lengths: of the sentences; where rows never leave or join, they need not be known."""
        self.pairs: list[Pair | None] = [None] * layers
        self.lengths = list(lengths)
        self.columns = 0
        """How long the longest row is; there is room for more."""
        self.growth = self.GROWTH
        self._empty: Tensor | None = None
        self._visible: Tensor | None = None

    @property
    def is_even(self) -> bool:
        """Whether all rows are of one length, so that there is nothing to hide."""
        return not self.lengths or min(self.lengths) == self.columns

    def write(self, layer: int, key: Tensor, value: Tensor) -> Pair:
        """Put new columns [rows, heads, new, head_dim] behind; views of all in use come back."""
        start, stop = self.columns, self.columns + key.shape[2]
        pair = self.pairs[layer]
        if pair is None or pair[0].shape[2] < stop:
            roomy = [_empty_like(part, len(part), stop + self.growth) for part in (key, value)]
            for part, more in zip(pair or (), roomy, strict=False):
                more[:, :, :start] = part[:, :, :start]
            pair = self.pairs[layer] = roomy[0], roomy[1]
        pair[0][:, :, start:stop] = key
        pair[1][:, :, start:stop] = value
        if layer == len(self.pairs) - 1:
            self.columns = stop
            self.lengths = [length + stop - start for length in self.lengths]
        return pair[0][:, :, :stop], pair[1][:, :, :stop]

    def views(self) -> list[Pair | None]:
        """The columns in use, of each layer."""
        return [
            pair and (pair[0][:, :, : self.columns], pair[1][:, :, : self.columns]) for pair in self.pairs
        ]

    def select(self, rows: Tensor, sentences: Sequence[int] | None) -> None:
        """Keep `rows` in their order; `sentences` too, unless all stay as they are (None)."""
        first = 0
        if sentences is not None and self.lengths:
            self.lengths = [self.lengths[sentence] for sentence in sentences]
            first = self.columns - max(self.lengths, default=0)
        if sentences is not None or (self._empty is not None and len(self._empty) != len(rows)):
            self._empty = self._visible = None
        columns = self.columns - first
        # One layer after the other, so that no two copies of all of them exist at once.
        for layer, pair in enumerate(self.pairs):
            if pair is None:
                continue
            kept = [_empty_like(part, len(rows), columns + self.growth) for part in pair]
            for part, copy in zip(pair, kept, strict=True):
                torch.index_select(part[:, :, first : self.columns], 0, rows, out=copy[:, :, :columns])
            self.pairs[layer] = kept[0], kept[1]
        self.columns = columns

    def join(self, other: "Slots", beams: int) -> None:
        """Put the rows of `other` behind these; it must not be used any more."""
        columns = max(self.columns, other.columns)
        for layer, views in enumerate(zip(self.views(), other.views(), strict=True)):
            known = next((view for view in views if view is not None), None)
            if known is None:
                continue
            # One that has not begun has rows all the same.
            mine, theirs = (
                view or _no_columns(known, beams * len(slots.lengths))
                for view, slots in zip(views, (self, other), strict=True)
            )
            self.pairs[layer] = _joined(mine, theirs, columns, self.growth)
            other.pairs[layer] = None
        self.lengths = self.lengths + other.lengths
        self.columns = columns
        self._empty = self._visible = None

    def empty(self, beams: int, device: torch.device) -> Tensor | None:
        """How many columns of each row are empty, [rows, 1]; None if it is none."""
        if self.is_even:
            return None
        if self._empty is None:
            counts = torch.tensor([self.columns - length for length in self.lengths], device=device)
            self._empty = counts.repeat_interleave(beams)[:, None]
        return self._empty

    def visible(self, new: int, beams: int, device: torch.device) -> Tensor | None:
        """Boolean [rows, 1, 1, columns + new], False where a row is empty; None if it is nowhere."""
        empty = self.empty(beams, device)
        if empty is None:
            return None
        wanted = self.columns + new
        # What comes later is there for every row, so one mask serves many steps.
        if self._visible is None or self._visible.shape[3] < wanted:
            columns = torch.arange(wanted + self.GROWTH, device=device)
            self._visible = (columns >= empty)[:, None, None]
        return self._visible[..., :wanted]


class DecoderCache:
    """What a decoder with a source keeps: its rows' own keys and values, and the source's per sentence.

    Rows are hypotheses; every sentence has `beams` of them, side by side.
    """

    def __init__(self, layers: int, sentences: int = 0) -> None:
        """sentences: how many there are; need not be known where none leave or join."""
        self.beams = 1
        self.own = Slots(layers, [0] * sentences)
        self.sources: list[Pair | None] = [None] * layers

    @property
    def length(self) -> int:
        """Positions of the longest row so far."""
        return self.own.columns

    def extend(self, layer: int, key: Tensor, value: Tensor) -> Pair:
        """Store the new positions [rows, heads, new, head_dim]; returns views of all so far."""
        return self.own.write(layer, key, value)

    def source(self, layer: int, attention: Attention, encoded: Tensor | None) -> Pair:
        """Keys and values of the source [sentences, heads, time, head_dim]."""
        pair = self.sources[layer]
        if pair is None:
            assert encoded is not None, "the first step brings the encoded source"
            pair = self.sources[layer] = attention.project(encoded)
        return pair

    def select(
        self, rows: Tensor, sentences: Sequence[int] | None, beams: int, longest: int | None = None
    ) -> None:
        """Keep `rows` in their order; `sentences` too, unless all stay as they are (None).

        longest: how much of the kept sources is more than padding; None if that is unknown.
        """
        self.beams = beams
        self.own.select(rows, sentences)
        if sentences is None:
            return
        kept = torch.tensor(sentences, device=rows.device)
        for layer, pair in enumerate(self.sources):
            if pair is not None:
                key, value = (part[:, :, :longest].index_select(0, kept) for part in pair)
                self.sources[layer] = key, value

    def join(self, other: "DecoderCache") -> None:
        """Put the rows and sentences of `other`, which has as many beams, behind these."""
        assert self.beams == other.beams, "rows of one batch have one number of beams"
        self.own.join(other.own, self.beams)
        for layer, (mine, theirs) in enumerate(zip(self.sources, other.sources, strict=True)):
            if mine is not None and theirs is not None:
                time = max(mine[0].shape[2], theirs[0].shape[2])
                self.sources[layer] = _joined(mine, theirs, time, left=False)
                other.sources[layer] = None


class PromptCache:
    """Keys and values of a decoder that reads its prompt itself, by layer.

    As long as a sentence has one row, all of them lie in one place. Once it has several
    (its beams), what came before is kept once per sentence, and only what each row adds
    is its own: reordering beams then moves little.
    """

    def __init__(self, layers: int, lengths: Sequence[int] = ()) -> None:
        """lengths: of the prompts, which are stored first, padded on the left to the longest."""
        self.beams = 1
        self.own = Slots(layers)
        self._prompts: Slots | None = None
        self._prompt_lengths: Sequence[int] | None = lengths
        self.shared: list[Pair | None] = [None] * layers
        """What a sentence's rows share, [sentences, heads, shared_length, head_dim]."""

    @property
    def shared_length(self) -> int:
        return 0 if self._prompts is None else self._prompts.columns

    @property
    def length(self) -> int:
        """Positions of the longest row so far."""
        return self.shared_length + self.own.columns

    def extend(self, layer: int, key: Tensor, value: Tensor) -> Pair:
        """Store the new positions [rows, heads, new, head_dim]; returns views of all the rows' own."""
        pair = self.own.write(layer, key, value)
        if self._prompt_lengths is not None and layer == len(self.own.pairs) - 1:
            self.own.lengths, self._prompt_lengths = list(self._prompt_lengths), None
        return pair

    def shared_visible(self, device: torch.device) -> Tensor | None:
        """Boolean [sentences, 1, 1, shared_length], False on padding; None if there is none."""
        return None if self._prompts is None else self._prompts.visible(0, 1, device)

    def select(self, rows: Tensor, sentences: Sequence[int] | None, beams: int) -> None:
        """Keep `rows` in their order; `sentences` too, unless all stay as they are (None)."""
        if beams > 1 and self._prompts is None and self.own.columns:
            assert self.beams == 1, "rows that were never one can't share what they have"
            self._prompts = self.own
            self._prompts.growth = 0
            self.own = Slots(len(self.shared), [0] * len(self._prompts.lengths))
            self.shared = self._prompts.views()
        self.beams = beams
        self.own.select(rows, sentences)
        if sentences is None:
            return
        if self._prompts is not None:
            self.shared = []  # they keep what they show alive
            self._prompts.select(torch.tensor(sentences, device=rows.device), sentences)
            self.shared = self._prompts.views()
        elif self._prompt_lengths:
            self._prompt_lengths = [self._prompt_lengths[sentence] for sentence in sentences]

    def join(self, other: "PromptCache") -> None:
        """Put the rows and sentences of `other`, which has as many beams, behind these."""
        assert self.beams == other.beams, "rows of one batch have one number of beams"
        self.own.join(other.own, self.beams)
        if self._prompts is not None and other._prompts is not None:
            self.shared = []
            self._prompts.join(other._prompts, 1)
            self.shared = self._prompts.views()


def _empty_like(part: Tensor, rows: int, columns: int) -> Tensor:
    return part.new_empty(rows, part.shape[1], columns, part.shape[3])


def _no_columns(like: Pair, rows: int) -> Pair:
    return _empty_like(like[0], rows, 0), _empty_like(like[1], rows, 0)


def _joined(mine: Pair, theirs: Pair, columns: int, room: int = 0, left: bool = True) -> Pair:
    """`theirs` below `mine`, both filled up to `columns`, on the left or the right; behind them `room`."""
    found = []
    for parts in zip(mine, theirs, strict=True):
        whole = _empty_like(parts[0], len(parts[0]) + len(parts[1]), columns + room)
        for part, place in zip(parts, whole.split([len(parts[0]), len(parts[1])]), strict=True):
            used = part.shape[2]
            first = columns - used if left else 0
            place[:, :, first : first + used] = part
            # It gets no weight, but even so what is no number would spoil the sum.
            place[:, :, :first] = 0
            place[:, :, first + used : columns] = 0
        found.append(whole)
    return found[0], found[1]


def causal_mask(queries: int, past: int, device: torch.device) -> Tensor:
    """Boolean [queries, past + queries], True where a query may look: itself and all before it."""
    return torch.ones(queries, past + queries, dtype=torch.bool, device=device).tril(past)
