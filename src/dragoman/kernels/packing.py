"""Weights in the order in which the kernels read them.

Outputs lie in panels of 64, padded with zeros to whole ones; inside a panel inputs follow each
other. One storage serves the kernels and the computation in PyTorch, which unpacks it.

fp32, fp16   [panel, input, 64]
int8         [panel, input / 4, 64, 4] as weight + 128, and a scale for each output
int4         for each panel and group of 32 inputs: 64 scales in fp16, then [4, 64, 4] bytes, of which
             the low nibbles are inputs 0 to 3 of eight and the high ones 4 to 7, as weight + 8
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dragoman.errors import CheckpointError, InvalidOption
from dragoman.kernels.library import kernels
from dragoman.kernels.structs import BYTE, FLOAT, GROUP, HALF, KINDS, NIBBLE, PANEL, RECORD

PRECISIONS = tuple(KINDS)
CHUNK = 4  # panels packed at a time: what is worked on stays near the processor
LARGEST = {"fp16": 65504.0, "int4": 8 * 65504.0}
"""Weights beyond would become infinite; in 4 bits it is the scales, in fp16, that would."""
MOST_INPUTS = {"int8": 2**16}
"""More products of bytes may not fit into a sum of 32 bits."""


@dataclass(frozen=True)
class Packed:
    """A weight matrix [outputs, inputs] for the kernels."""

    kind: int
    outputs: int
    inputs: int
    data: Tensor
    """Bytes, [panels, bytes of a panel]."""
    scale: Tensor | None
    """int8: what a weight of one stands for, float32 [outputs, padded to panels]."""

    @property
    def padded(self) -> int:
        """Inputs, rounded up to whole groups where activations are quantised."""
        return _padded(self.inputs) if self.kind >= BYTE else self.inputs

    @property
    def panel_bytes(self) -> int:
        return panel_bytes(self.kind, self.inputs)

    @property
    def bytes(self) -> int:
        return self.data.nbytes + (0 if self.scale is None else self.scale.nbytes)


def pack(weight: Tensor, precision: str, name: str = "a weight") -> Packed:
    """Pack `weight` [outputs, inputs], which errors call `name`, in "fp32", "fp16", "int8" or "int4".

    Raises InvalidOption for another precision or a matrix that doesn't fit it, CheckpointError if a
    number is NaN or infinite.
    """
    check_shape(tuple(weight.shape), precision, name)
    kind = KINDS[precision]
    outputs, inputs = weight.shape
    panels = -(-outputs // PANEL)
    data = torch.empty(panels, panel_bytes(kind, inputs), dtype=torch.uint8, device=weight.device)
    scale = None
    if kind == BYTE:
        scale = torch.zeros(panels * PANEL, dtype=torch.float32, device=weight.device)
    for first in range(0, panels, CHUNK):
        rows = weight[first * PANEL : (first + CHUNK) * PANEL].detach().float()
        check_range(largest(rows, name), precision, name)
        part = data[first : first + CHUNK]
        rows = torch.nn.functional.pad(rows, (0, 0, 0, len(part) * PANEL - len(rows)))
        if kind == BYTE:
            assert scale is not None
            part.copy_(_bytes(rows, scale[first * PANEL : (first + CHUNK) * PANEL]))
        elif kind == NIBBLE:
            _nibbles(rows, part)
        else:
            part.copy_(_floats(rows, torch.float32 if kind == FLOAT else torch.float16))
    return Packed(kind, outputs, inputs, data, scale)


def check_shape(shape: tuple[int, ...], precision: str, name: str) -> None:
    """InvalidOption unless a matrix of this shape can be packed."""
    if precision not in KINDS:
        raise InvalidOption(f"precision is {precision!r}; it must be one of {', '.join(PRECISIONS)}")
    if len(shape) != 2 or 0 in shape:
        raise InvalidOption(
            f"{name} has the shape {list(shape)}; only matrices with rows and columns are packed"
        )
    most = MOST_INPUTS.get(precision, shape[1])
    if shape[1] > most:
        raise InvalidOption(
            f"{name} has {shape[1]} inputs; {precision} takes {most}, so take another precision"
        )


def check_range(most: float, precision: str, name: str) -> None:
    """InvalidOption if the largest number of a matrix is too large for the precision."""
    if most > LARGEST.get(precision, most):
        raise InvalidOption(
            f"{name} holds {most:g}, which is too large for {precision} (up to {LARGEST[precision]:g}); "
            "take another precision"
        )


def largest(values: Tensor, name: str) -> float:
    """The largest magnitude among `values`; CheckpointError if one is NaN or infinite."""
    if not values.numel():
        return 0.0
    low, high = (float(end) for end in values.detach().aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise CheckpointError(
            f"{name} holds NaN or infinite numbers, so the model can't work; take another copy of it"
        )
    return max(-low, high)


def unpack(packed: Packed) -> Tensor:
    """The matrix [outputs, inputs] in float32, as the kernels see it."""
    weight, scale = levels(packed)
    if scale is not None:
        weight = (weight.view(len(weight), -1, weight.shape[1] // scale.shape[1]) * scale[..., None]).flatten(
            1
        )
    return weight[: packed.outputs, : packed.inputs]


def levels(packed: Packed) -> tuple[Tensor, Tensor | None]:
    """Quantised weights as whole numbers (in float32) [panels * 64, padded], and their scales.

    Scales are [panels * 64, groups], with one group in int8; None if the weights are floats.
    """
    panels = len(packed.data)
    if packed.kind in (FLOAT, HALF):
        dtype = torch.float32 if packed.kind == FLOAT else torch.float16
        return packed.data.view(dtype).view(panels, packed.inputs, PANEL).transpose(1, 2).flatten(
            0, 1
        ).float(), None
    if packed.kind == BYTE:
        assert packed.scale is not None
        grid = packed.data.view(panels, -1, PANEL, 4).transpose(1, 2).reshape(panels * PANEL, -1)
        return grid.float() - 128, packed.scale[:, None]
    records = packed.data.view(panels, -1, RECORD)
    scale = records[..., : 2 * PANEL].contiguous().view(torch.float16).transpose(1, 2).flatten(0, 1).float()
    pairs = records[..., 2 * PANEL :].view(panels, -1, 4, PANEL, 4)
    grid = torch.stack([pairs & 15, pairs >> 4], 3)  # [panel, group, eight, half, output, 4]
    grid = grid.permute(0, 4, 1, 2, 3, 5).reshape(panels * PANEL, -1)
    return grid.float() - 8, scale


def panel_bytes(kind: int, inputs: int) -> int:
    """Bytes that 64 outputs of so many inputs take."""
    if kind in (FLOAT, HALF):
        return inputs * PANEL * (4 if kind == FLOAT else 2)
    return _padded(inputs) * PANEL if kind == BYTE else _padded(inputs) // GROUP * RECORD


def _padded(inputs: int) -> int:
    return -(-inputs // GROUP) * GROUP


def _floats(rows: Tensor, dtype: torch.dtype) -> Tensor:
    return (
        rows.to(dtype)
        .view(-1, PANEL, rows.shape[1])
        .transpose(1, 2)
        .contiguous()
        .view(torch.uint8)
        .flatten(1)
    )


def _bytes(rows: Tensor, scale: Tensor) -> Tensor:
    """Weights from -127 to 127, the largest of each row at the end; `scale` is filled."""
    torch.div(rows.abs().amax(1), 127, out=scale)
    grid = (rows / scale.clamp(min=torch.finfo(torch.float32).tiny)[:, None]).round_().clamp_(-127, 127)
    grid = torch.nn.functional.pad(grid, (0, _padded(rows.shape[1]) - rows.shape[1]))
    return (grid + 128).to(torch.uint8).view(-1, PANEL, grid.shape[1] // 4, 4).transpose(1, 2).flatten(1)


def _nibbles(rows: Tensor, out: Tensor) -> None:
    rows = torch.nn.functional.pad(rows, (0, _padded(rows.shape[1]) - rows.shape[1]))
    native = kernels() if rows.device.type == "cpu" else None
    if native is None:
        out.copy_(nibble_records(rows))
        return
    native.pack_nibbles(rows.contiguous(), out)


def nibble_records(rows: Tensor) -> Tensor:
    """The 4-bit records of rows [panels * 64, whole groups], in PyTorch."""
    groups = rows.view(len(rows), -1, GROUP)
    scale = best_scale(groups)
    step = scale.float()
    grid = (groups / torch.where(step == 0, 1.0, step)[..., None]).round_().clamp_(-8, 7) + 8
    # [panel, output, group, eight, half, 4] -> [panel, group, eight, half, output, 4]
    grid = grid.to(torch.uint8).view(-1, PANEL, groups.shape[1], 4, 2, 4).permute(0, 2, 3, 4, 1, 5)
    pairs = (grid[:, :, :, 0] | grid[:, :, :, 1] << 4).flatten(2)
    scales = scale.view(-1, PANEL, groups.shape[1]).transpose(1, 2).contiguous().view(torch.uint8)
    return torch.cat([scales, pairs], 2).flatten(1)


def best_scale(groups: Tensor) -> Tensor:
    """The fp16 scale of each group [..., 32] that leaves the least squared error with levels -8 to 7.

    The largest weight goes to -8 or a little beyond; of several such scales the best is kept.
    """
    index = groups.abs().argmax(-1, keepdim=True)
    largest = groups.gather(-1, index).squeeze(-1)
    found = torch.zeros_like(largest, dtype=torch.float16)
    least = torch.full_like(largest, torch.inf)
    for end in (-7.0, -7.4, -7.7, -8.0, -8.4, -8.8, 7.0):
        scale = (largest / end).to(torch.float16)
        step = torch.where(scale == 0, 1, scale).float()[..., None]
        error = ((groups / step).round_().clamp_(-8, 7) * step - groups).square_().sum(-1)
        found = torch.where(error < least, scale, found)
        least = torch.minimum(error, least)
    return found
