"""A linear layer on packed weights."""

from dataclasses import dataclass

import numpy as np

from dragoman.kernels import structs
from dragoman.kernels.arrays import Array, Stored, empty
from dragoman.kernels.library import needed
from dragoman.kernels.packing import Packed, largest, pack


@dataclass(frozen=True, eq=False)
class Linear:
    """y = x W^T + bias with W in fp32, fp16, int8 or int4; for inference only.

    In int8 and int4 each row of x is rounded to 8 bits with a scale of its own, and products are
    summed exactly, so that a row's result does not depend on the other rows.
    """

    packed: Packed
    bias: Array | None = None
    """float32 [outputs]."""

    @classmethod
    def of(cls, weight: Stored, bias: Stored | None, precision: str, name: str = "a layer") -> "Linear":
        """A layer of a checkpoint, which errors call `name`; raises what `pack` does."""
        if bias is not None:
            largest(bias, f"{name}.bias")
        return cls(pack(weight, precision, f"{name}.weight"), None if bias is None else bias.float32())

    @property
    def outputs(self) -> int:
        return self.packed.outputs

    @property
    def inputs(self) -> int:
        return self.packed.inputs

    def __call__(self, x: Array) -> Array:
        """float32 [rows, inputs] -> [rows, outputs]."""
        out = empty(1, len(x), self.outputs)
        needed().linear((structs.Linear * 1)(self.struct()), np.ascontiguousarray(x), out)
        return out[0]

    def struct(self) -> structs.Linear:
        """What the kernels need to know; it points to this layer's arrays, which must outlive it."""
        return self.packed.struct(self.bias)
