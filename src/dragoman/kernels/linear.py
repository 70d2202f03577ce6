"""A linear layer on packed weights, by the native kernels or in PyTorch with the same answer."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dragoman.kernels import structs
from dragoman.kernels.arrays import address, address_or_none
from dragoman.kernels.library import kernels
from dragoman.kernels.packing import Packed, largest, levels, pack, unpack
from dragoman.kernels.structs import BYTE, FLOAT, GROUP, HALF, KINDS, NIBBLE, PANEL

# Sums of so many products of quantised numbers are still exact in float32: 1024 * 127 * 127 < 2**24.
EXACT = 1024
# Rows whose largest number is smaller count as zeros: 127 times its reciprocal would be infinite.
LEAST = 4e-37


class PackedLinear(nn.Module):
    """y = x W^T + bias with W in fp32, fp16, int8 or int4; for inference only.

    In int8 and int4 each row of x is rounded to 8 bits with a scale of its own, and products are
    summed exactly, so that a row's result does not depend on the other rows.
    """

    data: Tensor
    scale: Tensor | None
    bias: Tensor | None

    def __init__(self, packed: Packed, bias: Tensor | None = None) -> None:
        super().__init__()
        self.kind, self.out_features, self.in_features = packed.kind, packed.outputs, packed.inputs
        self.register_buffer("data", packed.data, persistent=False)
        self.register_buffer("scale", packed.scale, persistent=False)
        self.register_buffer(
            "bias", None if bias is None else bias.detach().to(torch.float32, copy=True), persistent=False
        )

    @classmethod
    def of(cls, linear: nn.Linear, precision: str, name: str = "a layer") -> "PackedLinear":
        """The packed twin of `linear`, which errors call `name`; raises what `pack` does."""
        if linear.bias is not None:
            largest(linear.bias, f"{name}.bias")
        return cls(pack(linear.weight, precision, f"{name}.weight"), linear.bias)

    @property
    def packed(self) -> Packed:
        return Packed(self.kind, self.out_features, self.in_features, self.data, self.scale)

    @property
    def precision(self) -> str:
        return next(name for name, kind in KINDS.items() if kind == self.kind)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, {self.precision}, bias={self.bias is not None}"

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs], in the dtype of `x`."""
        flat = x.reshape(-1, self.in_features).float()
        native = kernels() if x.device.type == "cpu" else None
        out = multiply(flat, self.packed, self.bias) if native is None else self._native(flat)
        return out.view(*x.shape[:-1], self.out_features).to(x.dtype)

    def _native(self, x: Tensor) -> Tensor:
        native = kernels()
        assert native is not None
        out = x.new_empty(1, len(x), self.out_features)
        native.linear((structs.Linear * 1)(self.struct()), x.contiguous(), out)
        return out[0]

    def struct(self) -> structs.Linear:
        """What the kernels need to know; it points to this module's tensors, which must outlive it."""
        packed = self.packed
        panels, width = -(-packed.outputs // PANEL), packed.panel_bytes
        return structs.Linear(
            packed.kind,
            packed.outputs,
            packed.inputs,
            packed.padded,
            address("packed weights", self.data, np.uint8, panels, width),
            address_or_none("scales", self.scale, np.float32, panels * PANEL),
            address_or_none("bias", self.bias, np.float32, packed.outputs),
        )


def multiply(x: Tensor, packed: Packed, bias: Tensor | None = None) -> Tensor:
    """x [rows, inputs] W^T + bias in PyTorch: bit for bit what the kernels give in int8 and int4."""
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
