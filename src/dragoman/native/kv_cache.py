"""Keys and values of decoding under way: slots per position, which beams refer to by number.

Each sentence has a buffer of its own, [layers, 2, positions, beams, width]: the beam in place b
writes its new key to slot b of its position, and a table says for every row which slot holds its
key at each position. Reordering beams moves numbers, never keys; a sentence that leaves takes its
buffer with it.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dragoman.kernels.arrays import Array, address, empty
from dragoman.kernels.structs import SPAN

ROOM = 32  # positions that a buffer grows by, at least


@dataclass
class Fixed:
    """Keys and values that do not change any more: a source's, or a prompt's."""

    keys: Array
    """Keys and values, [layers, 2, tokens, width]."""
    count: int

    def span(self) -> tuple[int, int, int, int, int, int]:
        """As the kernels' Span."""
        _, two, tokens, width = self.keys.shape
        first = address("keys", self.keys, np.float32, *self.keys.shape)
        return (first, two * tokens * width, tokens * width, 0, self.count, 1)


@dataclass
class Sentence:
    """What one sentence has: its fixed part and its slots."""

    fixed: tuple[Fixed, ...]
    length: int = 0
    """Positions in its own slots."""
    position: int = 0
    """Of its next token, counted from the beginning of what the decoder reads."""
    group: int = 0
    """Its language module's, where there are such."""
    language: int = 0
    """The token of the language it is translated to, where that decides what it may choose from."""
    source: tuple[int, ...] = ()
    """Tokens of its source, and later those that it may choose besides its language's."""
    own: Array | None = None


class KeyValueCache:
    """The own keys and values of all rows of a batch."""

    def __init__(self, layers: int, width: int, sentences: list[Sentence]) -> None:
        self.layers, self.width, self.beams = layers, width, 1
        self.sentences = sentences
        self.table = np.zeros((len(sentences), 0), np.int32)  # [rows, positions]
        self._arrays: _Arrays | None = None

    def rows(self) -> int:
        return len(self.sentences) * self.beams

    def lengths(self) -> Any:
        """Of each row, int64 [rows]."""
        return self._current().length

    def extend(self, new: int) -> tuple[Any, tuple[Any, Any, Any]]:
        """Make room for `new` tokens of each row.

        Returns the rows' own spans, a structured array [rows * new] that ends with each token
        itself, and where they write.
        """
        self._reserve(new)
        arrays = self._current()
        rows = np.repeat(np.arange(self.rows()), new)
        place = arrays.length[rows] + np.tile(np.arange(new), self.rows())
        beam = rows % self.beams
        self.table[rows, place] = beam
        spans = np.zeros(len(rows), arrays.span.dtype)
        spans[:] = arrays.span[rows]
        table = address("slots", self.table, np.int32, self.rows(), self.table.shape[1])
        spans["slot"] = table + 4 * self.table.shape[1] * rows
        spans["count"] = place + 1
        write = arrays.span["key"][rows] + (4 * self.width * (place * self.beams + beam)).astype(np.uint64)
        for sentence in self.sentences:
            sentence.length += new
            sentence.position += new
        arrays.length = arrays.length + new
        return spans, (write, spans["layer_stride"].copy(), spans["value_offset"].copy())

    def select(self, rows: Any, beams: int) -> None:
        """Keep `rows` (numbers of present rows, repeats allowed), each run of `beams` from one sentence."""
        chosen = (rows[::beams] // self.beams).tolist()
        same = beams == self.beams and chosen == list(range(len(self.sentences)))
        self.table = self.table[rows]
        if same:
            return
        if beams != self.beams:
            assert self.beams == 1, "only single rows widen to beams"
        seen: set[int] = set()
        kept = []
        for number in chosen:
            sentence = self.sentences[number]
            if number in seen or (beams != self.beams and sentence.own is not None):
                sentence = self._copy(sentence, beams)
            seen.add(number)
            kept.append(sentence)
        self.sentences, self.beams, self._arrays = kept, beams, None

    def join(self, other: "KeyValueCache") -> None:
        """Put the other's rows behind these."""
        assert other.beams == self.beams, "batches with different numbers of beams can't join"
        width = max(self.table.shape[1], other.table.shape[1])
        tables = [np.pad(t, ((0, 0), (0, width - t.shape[1]))) for t in (self.table, other.table)]
        self.table = np.concatenate(tables)
        self.sentences = self.sentences + other.sentences
        self._arrays = None

    def _copy(self, sentence: Sentence, beams: int) -> Sentence:
        """The same sentence in a buffer of its own; a single row's keys go to slot 0."""
        own = sentence.own
        fresh = None
        if own is not None:
            fresh = empty(*own.shape[:3], beams, self.width)
            used = sentence.length
            if beams == self.beams:
                fresh[:, :, :used] = own[:, :, :used]
            else:
                fresh[:, :, :used, 0] = own[:, :, :used, 0]
        return replace(sentence, own=fresh)

    def _reserve(self, new: int) -> None:
        """Buffers with room for `new` more positions."""
        for sentence in self.sentences:
            end, own = sentence.length + new, sentence.own
            if own is not None and own.shape[2] >= end:
                continue
            capacity = -(-end // ROOM) * ROOM
            fresh = empty(self.layers, 2, capacity, self.beams, self.width)
            if own is not None:
                fresh[:, :, : sentence.length] = own[:, :, : sentence.length]
            sentence.own, self._arrays = fresh, None
        need = max((s.length for s in self.sentences), default=0) + new
        if need > self.table.shape[1]:
            self.table = np.pad(self.table, ((0, 0), (0, need + ROOM - self.table.shape[1])))

    def _current(self) -> "_Arrays":
        if self._arrays is None:
            self._arrays = _Arrays.of(self)
        return self._arrays


@dataclass
class _Arrays:
    """Per row, what only changes when sentences come and go."""

    span: Any
    length: Any

    @classmethod
    def of(cls, cache: KeyValueCache) -> "_Arrays":
        spans = np.zeros(len(cache.sentences), SPAN)
        for number, sentence in enumerate(cache.sentences):
            own = sentence.own
            if own is not None:
                half = own.shape[2] * own.shape[3] * own.shape[4]
                first = address("keys", own, np.float32, *own.shape)
                spans[number] = (first, 2 * half, half, 0, 0, cache.beams)
        lengths = np.array([s.length for s in cache.sentences], np.int64)
        return cls(np.repeat(spans, cache.beams), np.repeat(lengths, cache.beams))


def fixed_spans(sentences: list[Sentence], index: int, beams: int) -> Any:
    """The spans of the sentences' `index`-th fixed part, for each row."""
    spans = np.array([s.fixed[index].span() for s in sentences], SPAN)
    return np.repeat(spans, beams)
