"""Language modules: low-rank additions to projections, chosen row by row.

A module of a projection W is a pair A [rank, in], B [out, rank]; a row of its group gets
x W^T + scale * (x A^T) B^T. The product B A is never formed: that is what made the
reference slow.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch
from torch import Tensor, nn

from dragoman.layers.creation import unfilled
from dragoman.layers.lora_stack import Stack


@dataclass(frozen=True)
class Span:
    """Rows `start` to `stop` (exclusive) of the sorted ones belong to `group`."""

    group: int
    start: int
    stop: int


@dataclass(frozen=True)
class Routes:
    """Which rows of a batch use which module; worked out once per pass and shared by all layers."""

    spans: tuple[Span, ...]
    scales: Mapping[int, float]
    order: Tensor
    """The rows with a module, sorted by group, [covered]."""
    first: int | None
    """Where these rows begin, if they lie side by side in this very order; then nothing is gathered."""
    covers_all: bool

    @classmethod
    def of(
        cls, groups: Sequence[int], scales: Mapping[int, float], device: torch.device | str = "cpu"
    ) -> "Routes | None":
        """groups: one per row, 0 for none; None if no row has a module."""
        order = sorted((row for row, group in enumerate(groups) if group), key=lambda row: groups[row])
        if not order:
            return None
        spans, start = [], 0
        for group, rows in groupby(order, key=lambda row: groups[row]):
            stop = start + len(list(rows))
            spans.append(Span(group, start, stop))
            start = stop
        is_run = order == list(range(order[0], order[0] + len(order)))
        return cls(
            tuple(spans),
            scales,
            torch.tensor(order, device=device),
            order[0] if is_run else None,
            len(order) == len(groups),
        )

    @property
    def covered(self) -> int:
        """How many rows have a module."""
        return self.spans[-1].stop

    @cached_property
    def groups(self) -> frozenset[int]:
        """The groups that have rows."""
        return frozenset(span.group for span in self.spans)

    @cached_property
    def is_even(self) -> bool:
        """Whether every group has as many rows."""
        return len({span.stop - span.start for span in self.spans}) == 1

    @cached_property
    def evened(self) -> "Routes":
        """The same with as many rows for every group, if that is not over twice as many.

        A group's last row stands in for those it lacks, so whichever copy is kept is right.
        """
        most = max(span.stop - span.start for span in self.spans)
        if self.is_even or most * len(self.spans) > 2 * self.covered:
            return self
        start = torch.tensor([span.start for span in self.spans])
        last = torch.tensor([span.stop - 1 for span in self.spans])
        places = torch.minimum(start[:, None] + torch.arange(most), last[:, None]).flatten()
        spans = tuple(Span(s.group, i * most, (i + 1) * most) for i, s in enumerate(self.spans))
        return Routes(spans, self.scales, self.order[places.to(self.order.device)], None, False)


class AdaptedProjections(nn.Module):
    """Linear layers `{name}_proj`, to each of which a row may add its language module's product.

    The modules are children `{name}_lora_A` and `{name}_lora_B`, dictionaries of linear layers
    by group, as in the combined X-ALMA checkpoint.
    """

    def __init__(
        self,
        sizes: Mapping[str, tuple[int, int]],
        groups: Iterable[int] = (),
        rank: int = 0,
        bias: bool = False,
    ) -> None:
        """sizes: (in, out) of each projection by name; groups: those to make room for."""
        super().__init__()
        self._stacks: dict[tuple[str, ...], Stack | None] = {}
        groups = tuple(groups)
        for name, (inputs, outputs) in sizes.items():
            self.add_module(f"{name}_proj", nn.Linear(inputs, outputs, bias))
        for name, (inputs, outputs) in sizes.items():
            a = {str(group): nn.Linear(inputs, rank, bias=False) for group in groups}
            b = {str(group): nn.Linear(rank, outputs, bias=False) for group in groups}
            self.add_module(f"{name}_lora_A", nn.ModuleDict(a))
            self.add_module(f"{name}_lora_B", nn.ModuleDict(b))

    def _apply(self, fn, recurse: bool = True):  # type: ignore[no-untyped-def]
        self._stacks.clear()  # whatever moves or converts the parameters would leave the old memory here
        return super()._apply(fn, recurse)

    def project(self, names: tuple[str, ...], x: Tensor, routes: Routes | None) -> list[Tensor]:
        """`x` [rows, time, in] through the projections `names`, which all read it."""
        # Called, never read as `.weight`: the base may be quantised or wrapped.
        outputs = [self._modules[f"{name}_proj"](x) for name in names]  # type: ignore[misc]
        if routes is None:
            return outputs
        stack = self._stack(names, routes)
        if stack is not None and stack.fits(x, outputs):
            _add_fast(stack, x, outputs, routes)
            return outputs
        return self._add_plainly(names, x, outputs, routes)

    def _add_plainly(
        self, names: tuple[str, ...], x: Tensor, outputs: list[Tensor], routes: Routes
    ) -> list[Tensor]:
        """One group and projection after the other, through the modules: gradients and hooks work."""
        for span in routes.spans:
            is_whole = routes.covers_all and len(routes.spans) == 1
            rows = routes.order[span.start : span.stop]
            part = x if is_whole else x.index_select(0, rows)
            for i, name in enumerate(names):
                pair = self.module_pair(name, span.group)
                if pair is None:
                    continue  # an adapter may leave projections out
                extra = (pair[1](pair[0](part)) * routes.scales[span.group]).to(outputs[i].dtype)
                outputs[i] = outputs[i] + extra if is_whole else outputs[i].index_add(0, rows, extra)
        return outputs

    def module_pair(self, name: str, group: int) -> tuple[nn.Module, nn.Module] | None:
        """A and B of a group's module for projection `name`."""
        a, b = (self._modules[f"{name}_lora_{side}"]._modules for side in "AB")  # type: ignore[union-attr]
        key = str(group)
        return (a[key], b[key]) if key in a and key in b else None  # type: ignore[return-value]

    def attach(self, name: str, group: int, a: Tensor, b: Tensor) -> None:
        """Add a module to projection `name`. a: [rank, in]; b: [out, rank]."""
        self.adopt(name, group, linear_of(a), linear_of(b))

    def adopt(self, name: str, group: int, a: nn.Module, b: nn.Module) -> None:
        """As `attach`, with the linear layers of the module themselves."""
        for side, linear in (("A", a), ("B", b)):
            getattr(self, f"{name}_lora_{side}")[str(group)] = linear.train(self.training)
        self._stacks.clear()

    def detach(self, group: int) -> None:
        """Take the modules of a group away."""
        for name, child in self._modules.items():
            if "_lora_" in name and str(group) in child._modules:  # type: ignore[union-attr]
                del child._modules[str(group)]  # type: ignore[union-attr]
        self._stacks.clear()

    def _stack(self, names: tuple[str, ...], routes: Routes) -> Stack | None:
        """The fused weights of `names`, if all groups have them alike and no gradient is wanted."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return None
        found = self._stacks.get(names)
        a, b = ([self._modules[f"{name}_lora_{side}"] for name in names] for side in "AB")
        if found is None or not found.is_current(a, b, routes.groups):  # type: ignore[arg-type]
            found = self._stacks[names] = Stack.build(a, b)  # type: ignore[arg-type]
        return found if found is not None and routes.groups <= found.groups.keys() else None


def linear_of(weight: Tensor) -> nn.Linear:
    """A layer without bias. weight: [out, in]."""
    with unfilled():
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight = nn.Parameter(weight)
    return linear


def _add_fast(stack: Stack, x: Tensor, outputs: list[Tensor], routes: Routes) -> None:
    """Add the products to `outputs` in place, with few and large operations."""
    if x.device.type != "cpu" and len(routes.spans) > 2:
        routes = routes.evened  # there, starting an operation costs more than a few rows too many
    if routes.first is not None:
        rows = slice(routes.first, routes.first + routes.covered)
        _add_sorted(stack, x[rows], [out[rows] for out in outputs], routes)
        return
    targets = [out.index_select(0, routes.order) for out in outputs]
    _add_sorted(stack, x.index_select(0, routes.order), targets, routes)
    for out, target in zip(outputs, targets, strict=True):
        out.index_copy_(0, routes.order, target)


def _add_sorted(stack: Stack, x: Tensor, targets: list[Tensor], routes: Routes) -> None:
    """x: [covered, time, in]; targets: [covered, time, out] each; rows sorted by group."""
    spans, time = routes.spans, x.shape[1]
    x = x.reshape(-1, x.shape[-1])
    flat = [target.view(-1, target.shape[-1]) for target in targets]
    indices = [stack.groups[span.group] for span in spans]
    scale = routes.scales[spans[0].group]
    is_run = indices == list(range(indices[0], indices[0] + len(indices)))
    if len(spans) > 1 and is_run and routes.is_even and all(routes.scales[s.group] == scale for s in spans):
        these = slice(indices[0], indices[-1] + 1)
        blocks = (len(spans), -1)
        inner = torch.bmm(x.view(*blocks, x.shape[-1]), stack.a[these].transpose(1, 2))
        for target, b, (low, high) in zip(flat, stack.b, stack.bounds, strict=True):
            target.view(*blocks, target.shape[-1]).baddbmm_(
                inner[..., low:high], b[these].transpose(1, 2), alpha=scale
            )
        return
    for span, index in zip(spans, indices, strict=True):
        rows = slice(span.start * time, span.stop * time)
        inner = x[rows] @ stack.a[index].t()
        for target, b, (low, high) in zip(flat, stack.b, stack.bounds, strict=True):
            target[rows].addmm_(inner[:, low:high], b[index].t(), alpha=routes.scales[span.group])
