"""Weights in the order in which the kernels read them.

Outputs lie in panels of 64, padded with zeros to whole ones; inside a panel inputs follow each other.

fp32, fp16   [panel, input, 64]
int8         [panel, input / 4, 64, 4] as weight + 128, and a scale for each output
int4         for each panel and group of 32 inputs: 64 scales in fp16, then [4, 64, 4] bytes, of which
             the low nibbles are inputs 0 to 3 of eight and the high ones 4 to 7, as weight + 8
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dragoman.errors import CheckpointError, InvalidOption
from dragoman.kernels import structs
from dragoman.kernels.arrays import Array, Stored, address, address_or_none
from dragoman.kernels.library import needed
from dragoman.kernels.structs import BYTE, FLOAT, GROUP, HALF, KINDS, NIBBLE, NONE, PANEL, RECORD

PRECISIONS = tuple(KINDS)
LARGEST = {"fp16": 65504.0, "int4": 8 * 65504.0}
"""Weights beyond would become infinite; in 4 bits it is the scales, in fp16, that would."""
MOST_INPUTS = {"int8": 2**16}
"""More products of bytes may not fit into a sum of 32 bits."""


@dataclass(frozen=True, eq=False)
class Packed:
    """A weight matrix [outputs, inputs] for the kernels."""

    kind: int
    outputs: int
    inputs: int
    data: Array
    """uint8 [panels, bytes of a panel]."""
    scale: Array | None
    """int8: what a weight of one stands for, float32 [outputs, padded to panels]."""

    @classmethod
    def empty(cls, precision: str, outputs: int, inputs: int) -> "Packed":
        """Room for a matrix, with arbitrary contents."""
        kind, panels = KINDS[precision], -(-outputs // PANEL)
        data = np.empty((panels, panel_bytes(kind, inputs)), np.uint8)
        return cls(
            kind, outputs, inputs, data, np.empty(panels * PANEL, np.float32) if kind == BYTE else None
        )

    @property
    def precision(self) -> str:
        return next(name for name, kind in KINDS.items() if kind == self.kind)

    @property
    def bytes(self) -> int:
        return int(self.data.nbytes) + (0 if self.scale is None else int(self.scale.nbytes))

    def struct(self, bias: Array | None = None) -> structs.Linear:
        """What the kernels need to know; it points to these arrays, which must outlive it."""
        panels = -(-self.outputs // PANEL)
        return structs.Linear(
            self.kind,
            self.outputs,
            self.inputs,
            padded_inputs(self.kind, self.inputs),
            address("packed weights", self.data, np.uint8, panels, panel_bytes(self.kind, self.inputs)),
            address_or_none("scales", self.scale, np.float32, panels * PANEL),
            address_or_none("bias", bias, np.float32, self.outputs),
        )


def pack(weight: Stored, precision: str, name: str = "a weight", out: Packed | None = None) -> Packed:
    """Pack `weight` [outputs, inputs], which errors call `name`, in "fp32", "fp16", "int8" or "int4".

    out: where to, if the memory is the caller's; after an error its contents are void. Raises
    InvalidOption for another precision or a matrix that doesn't fit it, CheckpointError if a number is NaN
    or infinite.
    """
    check_shape(weight.shape, precision, name)
    outputs, inputs = weight.shape
    out = Packed.empty(precision, outputs, inputs) if out is None else out
    if (out.kind, out.outputs, out.inputs) != (KINDS[precision], outputs, inputs):
        raise ValueError(
            f"{name} is to be packed in {precision} as [{outputs}, {inputs}], but the room for it is in "
            f"{out.precision} as [{out.outputs}, {out.inputs}]"
        )
    if not (out.data.flags.writeable and (out.scale is None or out.scale.flags.writeable)):
        raise ValueError(f"the room for {name} can't be written to")
    weight = adjacent(weight)
    most = needed().pack(weight.matrix(), out.struct())
    check_numbers(most, name)
    check_range(most, precision, name)
    return out


def largest(values: Stored, name: str) -> float:
    """The largest magnitude among `values` [...]; CheckpointError if one is NaN or infinite."""
    if 0 in values.shape:
        return 0.0
    flat = values.data if values.data.ndim == 2 else values.data.reshape(1, -1)
    matrix = adjacent(Stored(flat, values.dtype))
    most = needed().pack(matrix.matrix(), structs.Linear(NONE))
    check_numbers(most, name)
    return most


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


def check_numbers(most: float, name: str) -> None:
    """CheckpointError if the largest of some numbers is none, or infinite."""
    if not math.isfinite(most):
        raise CheckpointError(
            f"{name} holds NaN or infinite numbers, so the model can't work; take another copy of it"
        )


def unpack(packed: Packed) -> Array:
    """The matrix float32 [outputs, inputs], as the kernels see it."""
    weight, scale = levels(packed)
    if scale is not None:
        grouped = weight.reshape(len(weight), scale.shape[1], -1)
        weight = (grouped * scale[..., None]).reshape(len(weight), -1)
    return weight[: packed.outputs, : packed.inputs]


def levels(packed: Packed) -> tuple[Array, Array | None]:
    """Quantised weights as whole numbers (in float32) [panels * 64, padded], and their scales.

    Scales are [panels * 64, groups], with one group in int8; None if the weights are floats.
    """
    panels, data = len(packed.data), packed.data
    if packed.kind in (FLOAT, HALF):
        numbers = data.view(np.float32 if packed.kind == FLOAT else np.float16)
        columns: Any = numbers.reshape(panels, packed.inputs, PANEL).swapaxes(1, 2)
        return columns.reshape(panels * PANEL, -1).astype(np.float32), None
    if packed.kind == BYTE:
        assert packed.scale is not None
        grid = data.reshape(panels, -1, PANEL, 4).swapaxes(1, 2).reshape(panels * PANEL, -1)
        return grid.astype(np.float32) - np.float32(128), packed.scale[:, None]
    assert packed.kind == NIBBLE
    records = data.reshape(panels, -1, RECORD)
    scale = np.ascontiguousarray(records[..., : 2 * PANEL]).view(np.float16).swapaxes(1, 2)
    pairs = records[..., 2 * PANEL :].reshape(panels, -1, 4, PANEL, 4)
    grid = np.stack([pairs & 15, pairs >> 4], 3)  # [panel, group, eight, half, output, 4]
    grid = grid.transpose(0, 4, 1, 2, 3, 5).reshape(panels * PANEL, -1)
    return grid.astype(np.float32) - np.float32(8), scale.reshape(panels * PANEL, -1).astype(np.float32)


def panel_bytes(kind: int, inputs: int) -> int:
    """Bytes that 64 outputs of so many inputs take."""
    padded = padded_inputs(kind, inputs)
    return padded // GROUP * RECORD if kind == NIBBLE else padded * PANEL * {FLOAT: 4, HALF: 2, BYTE: 1}[kind]


def padded_inputs(kind: int, inputs: int) -> int:
    """Inputs, rounded up to whole groups where activations are quantised."""
    return -(-inputs // GROUP) * GROUP if kind >= BYTE else inputs


def adjacent(weight: Stored) -> Stored:
    """The same with the numbers of a row side by side, copied if need be."""
    apart, step = weight.data.strides
    fits = step == weight.data.itemsize and apart >= 0 and apart % step == 0 and weight.data.flags.aligned
    return weight if fits else weight.contiguous()
