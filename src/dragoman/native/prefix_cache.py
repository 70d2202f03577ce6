"""What prompts begin with: an instruction is the same for many, and its keys are kept from batch to batch."""

from collections import OrderedDict
from collections.abc import Sequence

from dragoman.native.kv_cache import Fixed

LEAST = 8
"""Fewer common tokens than this aren't worth a pass of their own."""
LONGEST = 64
"""Instructions are shorter; what goes on to be the same are equal texts."""
MOST = 8
"""Prefixes that stay. One of 25 tokens takes 41 MB in a model of 13B."""

Key = tuple[int, tuple[int, ...]]
"""A language group, whose module makes keys its own, and tokens."""


class PrefixCache:
    """Keys and values of prefixes, the least recently used of which go first."""

    def __init__(self) -> None:
        self._known: OrderedDict[Key, Fixed] = OrderedDict()

    def find(self, group: int, prompts: Sequence[Sequence[int]]) -> Fixed | None:
        """The longest known prefix of all these prompts of a group; each has more tokens than that."""
        best = None
        for key in self._known:
            start = key[1]
            fits = key[0] == group and (best is None or len(start) > len(best[1]))
            if fits and all(len(p) > len(start) and tuple(p[: len(start)]) == start for p in prompts):
                best = key
        if best is None:
            return None
        self._known.move_to_end(best)
        return self._known[best]

    def keep(self, group: int, tokens: Sequence[int], fixed: Fixed) -> None:
        """Remember a prefix."""
        self._known[group, tuple(tokens)] = fixed
        while len(self._known) > MOST:
            self._known.popitem(last=False)

    def clear(self) -> None:
        """Forget all: the weights have changed."""
        self._known.clear()


def common_prefix(prompts: Sequence[list[int]]) -> int:
    """How many first tokens all prompts share, short of the last token of any, and LONGEST at the most."""
    first, last = min(prompts), max(prompts)
    most = min(LONGEST, *(len(prompt) - 1 for prompt in prompts))
    for place in range(most):
        if first[place] != last[place]:
            return place
    return most
