"""Memory for the kernels, and the one way in which an address of it gets there.

C believes whatever it is told, so nothing is handed over before `address` has looked at it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from dragoman.kernels.structs import BRAIN, FLOAT, HALF, Matrix

Array = Any
"""A NumPy array; structured ones are described by their list of fields."""
LINE = 64  # bytes that a processor fetches together
STORED: dict[str, tuple[int, Any]] = {
    "F32": (FLOAT, np.float32),
    "F16": (HALF, np.float16),
    "BF16": (BRAIN, np.uint16),
}
"""By safetensors' names: what the kernels call numbers of a type, and what NumPy has them as."""


@dataclass(frozen=True, eq=False)
class Stored:
    """Numbers as a checkpoint has them; NumPy doesn't know bfloat16, so those are the bits, in uint16."""

    data: Array
    dtype: str
    """One of STORED."""

    def __post_init__(self) -> None:
        if self.dtype not in STORED:
            raise ValueError(f"numbers are stored as {self.dtype!r}; it must be one of {', '.join(STORED)}")
        wanted = np.dtype(STORED[self.dtype][1])
        if not isinstance(self.data, np.ndarray) or self.data.dtype != wanted:
            came = getattr(self.data, "dtype", type(self.data).__name__)
            raise ValueError(
                f"numbers stored as {self.dtype} came as {came}; they must be an array of {wanted}"
            )

    @classmethod
    def of(cls, array: Array) -> "Stored":
        """An array of float32 or float16; ValueError if it is another."""
        kinds = {np.dtype(np.float32): "F32", np.dtype(np.float16): "F16"}
        return cls(array, kinds.get(array.dtype, str(array.dtype)))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.shape)

    def __len__(self) -> int:
        return len(self.data)

    @property
    def kind(self) -> int:
        """What the kernels call the type."""
        return STORED[self.dtype][0]

    def rows(self, which: Any) -> "Stored":
        """Some of them, by a slice or by their numbers."""
        return Stored(self.data[which], self.dtype)

    def contiguous(self) -> "Stored":
        """The same without gaps: itself, or a copy."""
        return Stored(np.ascontiguousarray(self.data), self.dtype)

    def float32(self) -> Array:
        """A copy as float32."""
        if self.dtype == "BF16":
            return (self.data.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return self.data.astype(np.float32)

    def matrix(self) -> Matrix:
        """For the kernels; it points to the data, a matrix of adjacent numbers, which must outlive it."""
        size = self.data.itemsize
        apart, step = self.data.strides if self.data.ndim == 2 else (0, 0)
        rows, columns = self.data.shape if self.data.ndim == 2 else (0, 0)
        sound = self.data.ndim == 2 and (step == size or columns == 1) and apart % size == 0 and apart >= 0
        if not (sound and self.data.flags.aligned):
            raise _unfit(
                "a matrix", f"{self.dtype} {list(self.shape)}", np.dtype(STORED[self.dtype][1]), self.shape
            )
        return Matrix(self.data.ctypes.data, apart // size, self.kind, rows, columns)


def empty(*shape: int) -> Any:
    """A float32 array with arbitrary contents that begins where a line of the processor's cache does."""
    size = 4 * int(np.prod(shape, dtype=np.int64))
    room = np.empty(size + LINE, np.uint8)
    first = -room.ctypes.data % LINE
    return room[first : first + size].view(np.float32).reshape(shape)


def address(name: str, array: Array, dtype: Any, *shape: int) -> int:
    """Where the numbers of `array` lie, once it is sure that C will find there what it expects.

    name: what it is, for the error; dtype: NumPy's; shape: what it must be exactly. Raises
    ValueError if it is no array, of another type or shape, or has gaps.
    """
    wanted = np.dtype(dtype)
    if not isinstance(array, np.ndarray):
        raise _unfit(name, type(array).__name__, wanted, shape)
    if array.dtype == wanted and array.shape == shape and array.flags.c_contiguous and array.flags.aligned:
        return int(array.ctypes.data)
    raise _unfit(name, f"{array.dtype} {list(array.shape)}", wanted, shape)


def address_or_none(name: str, array: Array | None, dtype: Any, *shape: int) -> int | None:
    """As `address`; None where there is no array."""
    return None if array is None else address(name, array, dtype, *shape)


def _unfit(name: str, came: str, wanted: Any, shape: tuple[int, ...]) -> ValueError:
    kind = "structured" if wanted.fields else wanted
    return ValueError(
        f"the kernels were given {came} as {name}; they need {kind} {list(shape)} in the CPU's memory, "
        "without gaps. Convert it before the call"
    )
