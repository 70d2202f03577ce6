"""The weights of language modules side by side in memory, so that few large operations use them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Stack:
    """All groups' A and B for projections that read the same input.

    The modules' own parameters become views into these tensors: nothing is held twice,
    updates in place show here, and state dicts stay as they were. What replaces a
    parameter's memory (`.to`, assignment) makes the stack stale, which `is_current` sees.
    """

    groups: dict[int, int]
    """Group -> its index below."""
    a: Tensor
    """[groups, ranks of all projections, in]."""
    b: list[Tensor]
    """For each projection [groups, out, rank]."""
    bounds: list[tuple[int, int]]
    """For each projection, where its ranks begin and end in `a`."""
    places: dict[int, list[int]]
    """Where in memory each group's parameters must be."""

    @classmethod
    def build(cls, a: Sequence[nn.ModuleDict], b: Sequence[nn.ModuleDict]) -> "Stack | None":
        """Stack the dictionaries of the projections' A and B; None if they aren't plain and alike."""
        keys = list(a[0]._modules)
        tables = [_plain_weights(side, keys) for side in (*a, *b)]
        weights_a, weights_b = tables[: len(a)], tables[len(a) :]
        if not keys or not _alike(tables, len(keys)):
            return None
        bounds, start = [], 0
        for table in weights_a:
            bounds.append((start, start + len(table[0])))
            start = bounds[-1][1]
        # Ordinary tensors even if built while generating: parameters must stay trainable.
        with torch.inference_mode(False), torch.no_grad():
            stacked = _stack([_concatenate(parts) for parts in zip(*weights_a, strict=True)])
            others = [_stack(table) for table in weights_b]
            for table, (low, high) in zip(weights_a, bounds, strict=True):
                for weight, home in zip(table, stacked, strict=True):
                    weight.data = home[low:high]
            for table, other in zip(weights_b, others, strict=True):
                for weight, home in zip(table, other, strict=True):
                    weight.data = home
        groups = {int(key): i for i, key in enumerate(keys)}
        return cls(groups, stacked, others, bounds, {group: _places(a, b, group) for group in groups})

    def is_current(
        self, a: Sequence[nn.ModuleDict], b: Sequence[nn.ModuleDict], groups: Iterable[int]
    ) -> bool:
        """Whether the parameters of these groups still lie in these tensors."""
        try:
            return all(_places(a, b, group) == self.places[group] for group in groups)
        except KeyError:
            return False

    def fits(self, x: Tensor, outputs: list[Tensor]) -> bool:
        """Whether `x` and what the base made of it can be used as they are."""
        return (
            x.dtype == self.a.dtype
            and x.device == self.a.device
            and not torch.is_autocast_enabled(x.device.type)
            and all(out.dtype == x.dtype and out.is_contiguous() for out in outputs)
        )

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Copied or pickled it is None, as the copies' parameters lie elsewhere."""
        return type(None), ()


def _places(a: Sequence[nn.ModuleDict], b: Sequence[nn.ModuleDict], group: int) -> list[int]:
    key = str(group)
    # Compared at every call, so without the detour through Module.__getattr__.
    return [side._modules[key]._parameters["weight"].data_ptr() for side in (*a, *b)]  # type: ignore[union-attr]


def _plain_weights(side: nn.ModuleDict, keys: Sequence[str]) -> list[nn.Parameter]:
    """The weights of these modules, if calling one does nothing but multiply by it; else fewer."""
    found: list[nn.Parameter] = []
    for linear in (side._modules.get(key) for key in keys):
        weight = linear._parameters.get("weight") if type(linear) is nn.Linear else None
        if linear is None or type(weight) is not nn.Parameter or weight.is_meta or linear.bias is not None:
            continue
        # accelerate keeps its offloading hook in `_hf_hook`.
        if not (linear._forward_hooks or linear._forward_pre_hooks or "_hf_hook" in linear.__dict__):
            found.append(weight)
    return found


def _alike(tables: list[list[nn.Parameter]], count: int) -> bool:
    kinds = {(weight.dtype, weight.device) for table in tables for weight in table}
    if len(kinds) != 1 or not next(iter(kinds))[0].is_floating_point:
        return False
    return all(len(table) == count and len({weight.shape for weight in table}) == 1 for table in tables)


def _stack(parts: Sequence[Tensor]) -> Tensor:
    """Of one tensor no copy is made: it may still lie in a file."""
    return torch.stack(list(parts)) if len(parts) > 1 else parts[0].detach()[None]


def _concatenate(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts)) if len(parts) > 1 else parts[0].detach()
