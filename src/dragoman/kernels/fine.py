"""Tables in 12 bits a number, for the look-up of rows and an output layer's rough and exact scores at once.

A number is its row's scale / 16 times a whole number from -2032 to 2032, which is stored as what it is above
-2056. The upper eight bits are an int8 matrix in panels, as `kernels.packing` has it: nowhere more than 17/32
of the scale off. The lower four are the rest: for each row and group of 32 inputs 16 bytes, of which the low
nibbles are the first 16 inputs.
"""

from dataclasses import dataclass

import numpy as np

from dragoman.kernels.arrays import Array, Stored, address
from dragoman.kernels.library import needed
from dragoman.kernels.packing import Packed, adjacent, check_numbers, check_shape, levels, padded_inputs
from dragoman.kernels.structs import BYTE, FINE, GROUP, PANEL, Matrix

UPPER = "int8"
"""What the upper bits are packed in."""
FINE_BYTES = 1.5
"""Of a number, the scales of rows not included."""
FINE_FOR = ("int8", "int4")
"""Precisions in which NLLB's embedding and output layer, often one, are such tables."""


@dataclass(frozen=True, eq=False)
class Fine:
    """A table [rows, columns] in 12 bits."""

    packed: Packed
    """The upper bits, in int8."""
    rest: Array
    """The lower bits, uint8 [rows, padded columns / 2]."""

    def __post_init__(self) -> None:
        if self.packed.kind != BYTE:
            raise ValueError(
                f"the upper bits of a table in 12 bits came in {self.packed.precision}; they are {UPPER}"
            )

    @classmethod
    def of(cls, weight: Stored, name: str = "a table") -> "Fine":
        """Convert a matrix, which errors call `name`; raises what `kernels.packing.pack` does."""
        check_shape(weight.shape, UPPER, name)
        rows, columns = weight.shape
        packed = Packed.empty(UPPER, rows, columns)
        rest = np.empty((rows, padded_inputs(BYTE, columns) // 2), np.uint8)
        weight = adjacent(weight)
        check_numbers(needed().pack(weight.matrix(), packed.struct(), rest), name)
        return cls(packed, rest)

    @property
    def shape(self) -> tuple[int, int]:
        return self.packed.outputs, self.packed.inputs

    def __len__(self) -> int:
        return self.packed.outputs

    @property
    def bytes(self) -> int:
        return self.packed.bytes + int(self.rest.nbytes)

    def screen(self, rows: Array) -> Packed:
        """The upper bits of some rows: int32 [count]."""
        packed, count = self.packed, len(rows)
        assert packed.scale is not None
        found = Packed.empty(UPPER, count, packed.inputs)
        assert found.scale is not None
        panels = packed.data.reshape(len(packed.data), -1, PANEL, 4)
        grid = np.full((len(found.data) * PANEL, panels.shape[1], 4), 128, np.uint8)
        grid[:count] = panels[rows // PANEL, :, rows % PANEL]
        found.data[:] = grid.reshape(len(found.data), PANEL, -1, 4).swapaxes(1, 2).reshape(found.data.shape)
        found.scale[:count], found.scale[count:] = packed.scale[rows], 0
        return found

    def float32(self) -> Array:
        """All rows [rows, columns] as the kernels see them."""
        upper, scale = levels(self.packed)
        assert scale is not None
        pairs = self.rest.reshape(len(self), -1, GROUP // 2)
        lower = np.stack([pairs & 15, pairs >> 4], 2).reshape(len(self), -1).astype(np.float32) - np.float32(
            8
        )
        whole = upper[: len(self)] * np.float32(16) + lower
        return (whole * (scale[: len(self)] / np.float32(16)))[:, : self.packed.inputs]

    def matrix(self) -> Matrix:
        """For the kernels; it points to these arrays, which must outlive it."""
        rows, columns = self.shape
        stride = padded_inputs(BYTE, columns) // 2
        upper = self.packed.struct()
        rest = address("lower bits", self.rest, np.uint8, rows, stride)
        return Matrix(upper.data, stride, FINE, rows, columns, rest, upper.scale)
