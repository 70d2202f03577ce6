"""NLLB's encoder: the vectors of sources, read many at a time without padding, and ahead if that pays."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from dragoman.kernels.arrays import Array, address, empty
from dragoman.kernels.structs import SPAN
from dragoman.native.passes import Passes

Source = tuple[int, ...]
"""The tokens of a sentence."""
Embed = Callable[[Array, Array], Array]
"""Tokens and their places [rows] -> vectors [rows, hidden]."""

TOKENS = 2048
"""Encoded together: their vectors stay near the processor."""
AHEAD = 4096
"""Encoded together where experts come from the disk: each is read once for all of them, while others run."""


class Encoder:
    """Encodes sources; those that were read ahead are there until they are asked for.

    A source's vectors are the same bits whatever it is encoded with.
    """

    def __init__(self, passes: Passes, embed: Embed, width: int, ahead: int = 0) -> None:
        """ahead: how many tokens are worth reading together before they are asked for; 0 for none."""
        self.passes, self.ahead = passes, ahead
        self._embed, self._width = embed, width
        self._read: dict[Source, Array] = {}

    def __call__(self, sources: Sequence[Source]) -> list[Array]:
        """Of each source its tokens' vectors, float32 [tokens, hidden]."""
        there: dict[Source, Array] = {}
        for source in sources:
            found = self._read.pop(source, None)
            if found is not None:
                there[source] = found
        self._encode([source for source in sources if source not in there], there)
        return [there[source] for source in sources]

    def read_ahead(self, sources: Sequence[Source]) -> None:
        """Encode sources that will be asked for; of those that never are, the oldest are forgotten."""
        self._encode([source for source in sources if source not in self._read], self._read)
        kept = sum(map(len, self._read))
        for source in list(self._read):
            if kept <= 2 * self.ahead:
                break
            kept -= len(source)
            self._read.pop(source, None)

    def has_read(self, source: Source) -> bool:
        """Whether a source was read ahead and not yet asked for."""
        return source in self._read

    def _encode(self, sources: Sequence[Source], found: dict[Source, Array]) -> None:
        for group in groups(list(dict.fromkeys(sources)), max(TOKENS, self.ahead)):
            x, first = self._pass(group), 0
            for source in group:
                found[source] = x[first : first + len(source)].copy()
                first += len(source)

    def _pass(self, sources: Sequence[Source]) -> Array:
        """The vectors of all tokens, one source behind the other."""
        counts, width = [len(source) for source in sources], self._width
        total = sum(counts)
        starts = np.cumsum([0, *counts[:-1]])
        places = np.arange(total) - np.repeat(starts, counts)
        x = self._embed(np.concatenate([np.array(source, np.int64) for source in sources]), places)
        room = empty(2, total, width)
        first = address("keys", room, np.float32, 2, total, width)
        spans = np.zeros(total, SPAN)
        spans["key"] = np.repeat(starts, counts) * (4 * width) + first
        spans["value_offset"] = total * width
        spans["count"] = np.repeat(counts, counts)
        spans["step"] = 1
        write = (np.arange(total) * (4 * width) + first).astype(np.uint64)
        zeros = np.zeros(total, np.int64)
        self.passes(x, spans, 1, (write, zeros, zeros + total * width))
        return x


def groups(sources: Sequence[Source], tokens: int) -> Iterator[Sequence[Source]]:
    """Sources in their order, in groups of at most so many tokens, or of one."""
    first = 0
    while first < len(sources):
        last, count = first, 0
        while last < len(sources) and (last == first or count + len(sources[last]) <= tokens):
            count += len(sources[last])
            last += 1
        yield sources[first:last]
        first = last
