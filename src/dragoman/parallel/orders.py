"""What rank 0 tells the others to do, and how it travels: numbers and nothing else."""

from collections.abc import Sequence
from enum import IntEnum, auto

import numpy as np
import torch

from dragoman.models.prompt import Prompt
from dragoman.parallel.ranks import Ranks

Array = np.ndarray
MOST = 6
"""Arrays of an order."""
DIMENSIONS = 2
HEAD = 2 + MOST * (1 + DIMENSIONS)
INLINE = 256 - HEAD
"""Numbers that travel with the head of an order; more come behind it."""


class Order(IntEnum):
    """What is to be done, with the arrays that go with it. States have the numbers that rank 0 gives them."""

    BEGIN = auto()
    """[state], source, its keep, tokens, their keep, groups, as in `Prompt`"""
    STEP = auto()
    """[state], tokens"""
    SELECT = auto()
    """[state, beams], rows"""
    JOIN = auto()
    """[state, the other, which is used up]"""
    FORGET = auto()
    """states"""
    TOP = auto()
    """[count, banned...], of the last step"""
    LOGITS = auto()
    """rows of the last step, or nothing for all"""
    ATTACH = auto()
    """[group]: read its language module and attach it"""
    DETACH = auto()
    """[group]"""
    END = auto()


class Wire:
    """The way of orders from rank 0 to all others. An array is None, or int64 of at most two dimensions."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks

    def tell(self, order: Order, arrays: Sequence[Array | None]) -> None:
        """Send an order."""
        head = np.full(HEAD + INLINE, -1, np.int64)
        head[:2] = order, len(arrays)
        for place, array in enumerate(arrays):
            if array is not None:
                first = 2 + place * (1 + DIMENSIONS)
                head[first] = array.ndim
                head[first + 1 : first + 1 + array.ndim] = array.shape
        parts = [np.asarray(array, np.int64).ravel() for array in arrays if array is not None]
        content = np.concatenate(parts) if parts else np.empty(0, np.int64)
        if len(content) <= INLINE:
            head[HEAD : HEAD + len(content)] = content
        self._ranks.broadcast(torch.from_numpy(head))
        if len(content) > INLINE:
            self._ranks.broadcast(torch.from_numpy(content))

    def hear(self) -> tuple[Order, list[Array | None]]:
        """Wait for an order."""
        message = self._ranks.broadcast(torch.empty(HEAD + INLINE, dtype=torch.int64)).numpy()
        head = message[:HEAD].tolist()
        shapes: list[tuple[int, ...] | None] = []
        for place in range(head[1]):
            first = 2 + place * (1 + DIMENSIONS)
            dimensions = head[first]
            shapes.append(None if dimensions < 0 else tuple(head[first + 1 : first + 1 + dimensions]))
        sizes = [0 if shape is None else int(np.prod(shape)) for shape in shapes]
        content = message[HEAD : HEAD + sum(sizes)]
        if sum(sizes) > INLINE:
            content = self._ranks.broadcast(torch.empty(sum(sizes), dtype=torch.int64)).numpy()
        parts = np.split(content, np.cumsum(sizes)[:-1]) if sizes else []
        return Order(head[0]), [
            None if shape is None else part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)
        ]


def of_prompt(prompt: Prompt) -> list[Array | None]:
    """A prompt as arrays of an order."""
    groups = None if prompt.groups is None else np.array(prompt.groups, np.int64)
    return [prompt.source, prompt.source_keep, prompt.tokens, prompt.keep, groups]


def to_prompt(arrays: Sequence[Array | None]) -> Prompt:
    """The prompt that `of_prompt` made arrays of."""
    source, source_keep, tokens, keep, groups = arrays
    return Prompt(
        source,
        None if source_keep is None else source_keep.astype(bool),
        tokens,
        None if keep is None else keep.astype(bool),
        None if groups is None else groups.tolist(),
    )
