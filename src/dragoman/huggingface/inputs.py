"""What a pass is given: ids or embeddings, and attention masks of two forms."""

from dataclasses import dataclass

import torch
from torch import Tensor


def shape_of(ids: Tensor | None, embeds: Tensor | None, prefix: str = "") -> tuple[int, int]:
    """Rows and positions of the one input of the two that is there; ValueError unless it is one."""
    if (ids is None) == (embeds is None):
        raise ValueError(f"pass either {prefix}input_ids or {prefix}inputs_embeds, and not both")
    given = ids if embeds is None else embeds
    assert given is not None
    return given.shape[0], given.shape[1]


@dataclass(frozen=True)
class Sight:
    """What the queries of a pass may look at."""

    keep: Tensor | None = None
    """Boolean [batch, keys], False on padding; None if nothing is said to be padding."""
    mask: Tensor | None = None
    """[batch, heads, queries, keys], the first three perhaps 1: boolean, True where a query may look, or
    numbers to add to the scores. It stands in for all that `keep` and the order of the keys would say."""

    @classmethod
    def of(
        cls, attention_mask: Tensor | None, name: str, rows: int, queries: int, keys: int, dtype: torch.dtype
    ) -> "Sight":
        """A mask [batch, keys] of any type, or one of four dimensions as transformers makes them.

        In the latter a key is padding if no query may look at it. ValueError for another shape.
        """
        if attention_mask is None:
            return cls()
        shape = attention_mask.shape
        if attention_mask.dim() == 2 and shape[0] == rows and shape[1] == keys:
            return cls(attention_mask.bool())
        if (
            attention_mask.dim() == 4
            and shape[0] in (rows, 1)
            and shape[2] in (queries, 1)
            and shape[3] == keys
        ):
            is_added = attention_mask.is_floating_point()
            mask = attention_mask.to(dtype) if is_added else attention_mask.bool()
            return cls(seen_keys(attention_mask).expand(rows, keys), mask)
        raise ValueError(
            f"{name} has the shape {list(shape)}; it must be [batch, keys] = [{rows}, {keys}]: 1 for every "
            "token, those in the cache included, and 0 for padding; or [batch, heads, queries, keys] = "
            f"[{rows}, 1, {queries}, {keys}]: True where a query may look, or numbers to add to the scores"
        )


def seen_keys(mask: Tensor) -> Tensor:
    """Boolean [batch, keys], True where a query may look, of a mask [batch, heads, queries, keys]."""
    seen = mask > torch.finfo(mask.dtype).min / 2 if mask.is_floating_point() else mask.bool()
    return seen.any(2).any(1)
