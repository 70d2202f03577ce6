"""The numbers of tensors as files have them; bfloat16, which NumPy doesn't know, as bits in uint16."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dragoman.errors import InvalidOption, Shape
from dragoman.kernels.arrays import Stored

TYPES: dict[str, Any] = {
    name: np.dtype(kind)
    for name, kind in {
        "F64": "<f8",
        "F32": "<f4",
        "F16": "<f2",
        "BF16": "<u2",
        "I64": "<i8",
        "I32": "<i4",
        "I16": "<i2",
        "I8": "i1",
        "U8": "u1",
        "BOOL": "?",
    }.items()
}
"""By safetensors' names."""
FLOATS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64"}
"""What weights may be stored in, by PyTorch's names."""
LONG_NAMES = {short: name for name, short in FLOATS.items()}


@dataclass(frozen=True, eq=False)
class Numbers:
    """A tensor's numbers, which may still lie in the file."""

    data: Any
    """[...], of the type that TYPES has for `dtype`."""
    dtype: str

    @property
    def shape(self) -> Shape:
        return tuple(self.data.shape)

    @property
    def nbytes(self) -> int:
        return int(self.data.nbytes)

    def float32(self) -> Any:
        """As float32: themselves, or a copy."""
        if self.dtype == "BF16":
            return Stored(self.data, self.dtype).float32()
        return self.data.astype(np.float32, copy=False)

    def to(self, dtype: str) -> "Numbers":
        """The same in another of FLOATS, rounded to the nearest; themselves if they are that already."""
        if dtype == self.dtype:
            return self
        if dtype == "BF16":
            return Numbers(_bits_of_bfloat16(self.float32()), dtype)
        data = self.float32() if self.dtype == "BF16" else self.data
        with np.errstate(over="ignore"):  # beyond the largest is infinite, as everywhere
            return Numbers(data.astype(TYPES[dtype]), dtype)


def dtype_name(dtype: object) -> str:
    """The short name of what weights may be stored in, from "bfloat16" or torch.bfloat16.

    InvalidOption for anything else.
    """
    found = FLOATS.get(str(dtype).removeprefix("torch."))
    if found is None:
        raise InvalidOption(f"dtype is {dtype}; it must be one of {', '.join(FLOATS)}")
    return found


def nbytes(shape: Shape, dtype: str) -> int:
    """How much room so many numbers take."""
    return int(math.prod(shape) * TYPES[dtype].itemsize)


def _bits_of_bfloat16(values: Any) -> Any:
    """The upper halves of float32 numbers, rounded to the nearest, and to even ones between two."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)
    # What is no number must not be rounded into infinity.
    return np.where(np.isnan(values), np.uint32(0x7FC0), rounded).astype(np.uint16)
