"""What the kernels do with weights, in PyTorch: for other devices, and to hold the kernels against.

`dragoman.kernels.packing` draws the layout. Whole numbers come out the same to the last bit.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dragoman.kernels.packing import Packed, check_range, check_shape, padded_inputs, panel_bytes
from dragoman.kernels.structs import BYTE, FLOAT, GROUP, HALF, KINDS, NIBBLE, PANEL, RECORD

CHUNK = 4  # panels packed at a time: what is worked on stays near the processor
# Sums of so many products of quantised numbers are still exact in float32: 1024 * 127 * 127 < 2**24.
EXACT = 1024
# What 12 bits are stored above: kernels/csrc/simd.h.
FINE_ZERO = 128 * 16 + 8
# Rows whose largest number is smaller count as zeros: 127 times its reciprocal would be infinite.
LEAST = 4e-37


@dataclass(frozen=True, eq=False)
class PackedTensor:
    """A `kernels.packing.Packed` as tensors, on any device."""

    kind: int
    outputs: int
    inputs: int
    data: Tensor
    """Bytes, [panels, bytes of a panel]."""
    scale: Tensor | None
    """int8: what a weight of one stands for, float32 [outputs, padded to panels]."""

    @classmethod
    def of(cls, packed: Packed) -> "PackedTensor":
        """In the same memory."""
        scale = None if packed.scale is None else torch.from_numpy(packed.scale)
        return cls(packed.kind, packed.outputs, packed.inputs, torch.from_numpy(packed.data), scale)


def pack(weight: Tensor, precision: str, name: str = "a weight") -> PackedTensor:
    """As `kernels.packing.pack`, for a tensor [outputs, inputs]."""
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
        check_range(float(rows.abs().amax()), precision, name)
        part = data[first : first + CHUNK]
        rows = F.pad(rows, (0, padded_inputs(kind, inputs) - inputs, 0, len(part) * PANEL - len(rows)))
        if kind == BYTE:
            assert scale is not None
            part.copy_(_bytes(rows, scale[first * PANEL : (first + CHUNK) * PANEL]))
        elif kind == NIBBLE:
            part.copy_(nibble_records(rows))
        else:
            part.copy_(_floats(rows, torch.float32 if kind == FLOAT else torch.float16))
    return PackedTensor(kind, outputs, inputs, data, scale)


def unpack(packed: PackedTensor) -> Tensor:
    """The matrix [outputs, inputs] in float32."""
    weight, scale = levels(packed)
    if scale is not None:
        weight = (weight.view(len(weight), scale.shape[1], -1) * scale[..., None]).flatten(1)
    return weight[: packed.outputs, : packed.inputs]


def levels(packed: PackedTensor) -> tuple[Tensor, Tensor | None]:
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


def multiply(x: Tensor, packed: PackedTensor, bias: Tensor | None = None) -> Tensor:
    """x [rows, inputs] W^T + bias: bit for bit what the kernels give in int8 and int4."""
    if packed.kind in (FLOAT, HALF):
        return F.linear(x, unpack(packed), bias)
    grid, scale = levels(packed)
    assert scale is not None
    whole, unit = quantise_rows(x, grid.shape[1])
    if packed.kind == BYTE:
        total = torch.zeros(len(x), len(grid), dtype=torch.float64, device=x.device)
        for start in range(0, grid.shape[1], EXACT):
            total += whole[:, start : start + EXACT] @ grid[:, start : start + EXACT].t()
        out = total.float() * scale[:, 0] * unit
    else:
        assert packed.kind == NIBBLE
        out = x.new_zeros(len(x), len(grid))
        for group in range(scale.shape[1]):
            these = slice(group * GROUP, (group + 1) * GROUP)
            out += (whole[:, these] @ grid[:, these].t()) * scale[:, group]
        out *= unit
    out = out[:, : packed.outputs]
    return out if bias is None else out + bias


def quantise_rows(x: Tensor, padded: int) -> tuple[Tensor, Tensor]:
    """Rows as whole numbers from -127 to 127 (in float32) [rows, padded], and their units [rows, 1]."""
    most = x.abs().amax(1, keepdim=True)
    most = torch.where(most < LEAST, 0.0, most)
    # A division: PyTorch makes `127 / most` a product with the rounded reciprocal.
    inverse = torch.where(most == 0, 0.0, torch.full_like(most, 127.0) / most)
    return F.pad((x * inverse).round(), (0, padded - x.shape[1])), most / 127


def nibble_records(rows: Tensor) -> Tensor:
    """The 4-bit records of rows [panels * 64, whole groups]."""
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


def pack_fine(weight: Tensor, name: str = "a table") -> tuple[PackedTensor, Tensor]:
    """As `kernels.fine.Fine.of`, for a tensor [rows, columns]: the upper bits and the lower ones."""
    check_shape(tuple(weight.shape), "int8", name)
    count, width = weight.shape
    panels, padded = -(-count // PANEL), padded_inputs(BYTE, width)
    data = torch.empty(panels, panel_bytes(BYTE, width), dtype=torch.uint8, device=weight.device)
    scale = torch.zeros(panels * PANEL, dtype=torch.float32, device=weight.device)
    rest = torch.empty(count, padded // 2, dtype=torch.uint8, device=weight.device)
    for first in range(0, panels, CHUNK):
        rows = weight[first * PANEL : (first + CHUNK) * PANEL].detach().float()
        part, lower = data[first : first + CHUNK], rest[first * PANEL : (first + CHUNK) * PANEL]
        its = scale[first * PANEL : (first + CHUNK) * PANEL]
        torch.div(rows.abs().amax(1), 127, out=its[: len(rows)])
        rows = F.pad(rows, (0, padded - width, 0, len(part) * PANEL - len(rows)))
        level = _levels(rows, its).mul_(16).round_().int() + FINE_ZERO
        part.copy_(_panels(level >> 4))
        pairs = (level[: len(lower)] & 15).view(len(lower), -1, 2, GROUP // 2)
        lower.copy_((pairs[:, :, 0] | pairs[:, :, 1] << 4).flatten(1))
    return PackedTensor(BYTE, count, width, data, scale), rest


def fine_rows(packed: PackedTensor, rest: Tensor, rows: Tensor) -> Tensor:
    """Those rows [...] of a table in 12 bits, [..., columns] in float32."""
    assert packed.scale is not None
    upper = packed.data.view(len(packed.data), -1, PANEL, 4)[rows // PANEL, :, rows % PANEL].flatten(-2)
    pairs = rest[rows].unflatten(-1, (-1, 1, GROUP // 2))
    lower = torch.cat([pairs & 15, pairs >> 4], -2).flatten(-3)
    whole = upper.float() * 16 + lower.float() - FINE_ZERO
    return (whole * (packed.scale[rows] / 16)[..., None])[..., : packed.inputs]


def _floats(rows: Tensor, dtype: torch.dtype) -> Tensor:
    columns = rows.to(dtype).view(-1, PANEL, rows.shape[1]).transpose(1, 2).contiguous()
    return columns.view(torch.uint8).flatten(1)


def _bytes(rows: Tensor, scale: Tensor) -> Tensor:
    """Weights from -127 to 127, the largest of each row at the end; `scale` is filled."""
    torch.div(rows.abs().amax(1), 127, out=scale)
    return _panels(_levels(rows, scale).round_() + 128)


def _levels(rows: Tensor, scale: Tensor) -> Tensor:
    """Rows in units of their scale, from -127 to 127."""
    return (rows / scale.clamp(min=torch.finfo(torch.float32).tiny)[:, None]).clamp_(-127, 127)


def _panels(grid: Tensor) -> Tensor:
    """Whole numbers [panels * 64, padded] as bytes in panels."""
    return grid.to(torch.uint8).view(-1, PANEL, grid.shape[1] // 4, 4).transpose(1, 2).flatten(1)
