"""The weights of language modules side by side in memory, so that few large operations use them."""

from collections.abc import Sequence
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
    places: list[int]

    @classmethod
    def build(cls, a: Sequence[nn.ModuleDict], b: Sequence[nn.ModuleDict]) -> "Stack | None":
        """Stack the dictionaries of the projections' A and B; None if they aren't plain and alike."""
        keys = list(a[0]._modules)
        if not keys or any(list(side._modules) != keys for side in (*a, *b)):
            return None
        tables = [[_plain_weight(side._modules[key]) for key in keys] for side in (*a, *b)]
        weights = [weight for table in tables for weight in table if weight is not None]
        if len(weights) < len(keys) * len(tables) or not _alike(tables, weights):  # type: ignore[arg-type]
            return None
        weights_a, weights_b = tables[: len(a)], tables[len(a) :]
        # Ordinary tensors even if built while generating: parameters must stay trainable.
        with torch.inference_mode(False), torch.no_grad():
            per_group = [list(column) for column in zip(*weights_a, strict=True)]
            stacked = _join([_join(parts, torch.cat) for parts in per_group], torch.stack)  # type: ignore[arg-type]
            others = [_join(table, torch.stack) for table in weights_b]  # type: ignore[arg-type]
            bounds, start = [], 0
            for table in weights_a:
                bounds.append((start, start + len(table[0])))  # type: ignore[arg-type]
                start = bounds[-1][1]
            for i in range(len(keys)):
                for table, (low, high) in zip(weights_a, bounds, strict=True):
                    table[i].data = stacked[i, low:high]  # type: ignore[union-attr]
                for table, other in zip(weights_b, others, strict=True):
                    table[i].data = other[i]  # type: ignore[union-attr]
        groups = {int(key): i for i, key in enumerate(keys)}
        return cls(groups, stacked, others, bounds, _places(a, b))

    def is_current(self, a: Sequence[nn.ModuleDict], b: Sequence[nn.ModuleDict]) -> bool:
        """Whether the modules' parameters still lie in these tensors."""
        try:
            return _places(a, b) == self.places
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


def _places(a: Sequence[nn.ModuleDict], b: Sequence[nn.ModuleDict]) -> list[int]:
    # Compared at every call, so without the detour through Module.__getattr__.
    return [
        linear._parameters["weight"].data_ptr()  # type: ignore[union-attr]
        for side in (*a, *b)
        for linear in side._modules.values()
    ]


def _plain_weight(linear: nn.Module | None) -> nn.Parameter | None:
    """The weight, if calling the module does nothing but multiply by it."""
    weight = linear._parameters.get("weight") if type(linear) is nn.Linear else None
    if linear is None or type(weight) is not nn.Parameter or weight.is_meta:
        return None
    # accelerate keeps its offloading hook in `_hf_hook`.
    watched = linear._forward_hooks or linear._forward_pre_hooks or "_hf_hook" in linear.__dict__
    return None if watched or linear.bias is not None else weight


def _alike(tables: list[list[nn.Parameter]], weights: list[nn.Parameter]) -> bool:
    kinds = {(weight.dtype, weight.device) for weight in weights}
    shapes = all(len({weight.shape for weight in table}) == 1 for table in tables)
    return len(kinds) == 1 and shapes and weights[0].is_floating_point()


def _join(parts: list[Tensor], how) -> Tensor:  # type: ignore[no-untyped-def]
    """One tensor of many; of one, that itself, which may still lie in a file."""
    if len(parts) > 1:
        return how(parts)
    return parts[0].detach() if how is torch.cat else parts[0].detach()[None]
