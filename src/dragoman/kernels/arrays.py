"""Memory for the kernels, and the one way in which an address of it gets there.

C believes whatever it is told. PyTorch, on the other hand, makes tensors of a type and on a device that
any part of the process may have changed a moment ago (`torch.set_default_dtype`,
`torch.set_default_device`). So memory of our own is NumPy's, whose types nobody else decides, and nothing is
handed over before `address` has looked at it.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = Any
"""A tensor or a NumPy array; structured ones are described by their list of fields."""
LINE = 64  # bytes that a processor fetches together
TYPES = {
    kind: np.dtype(str(kind).removeprefix("torch."))
    for kind in (torch.float32, torch.float16, torch.int32, torch.uint8)
}


def empty(*shape: int) -> Any:
    """A float32 array with arbitrary contents that begins where a line of the processor's cache does."""
    size = 4 * int(np.prod(shape, dtype=np.int64))
    room = np.empty(size + LINE, np.uint8)
    first = -room.ctypes.data % LINE
    return room[first : first + size].view(np.float32).reshape(shape)


def address(name: str, array: Array, dtype: Any, *shape: int) -> int:
    """Where the numbers of `array` lie, once it is sure that C will find there what it expects.

    name: what it is, for the error; dtype: NumPy's, also for a tensor; shape: what it must be exactly. Raises
    ValueError if the array is of another type or shape, has gaps, or isn't in the CPU's memory.
    """
    wanted = np.dtype(dtype)
    if isinstance(array, Tensor):
        sound = (
            array.device.type == "cpu"
            and array.layout == torch.strided
            and TYPES.get(array.dtype) == wanted
            and tuple(array.shape) == shape
            and array.is_contiguous()
            and not (array.is_conj() or array.is_neg())
        )
        if sound:
            return array.data_ptr()
        raise _unfit(name, f"{array.dtype} {list(array.shape)} on {array.device}", wanted, shape)
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
