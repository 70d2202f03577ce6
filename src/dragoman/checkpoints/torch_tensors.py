"""Numbers of files as PyTorch's tensors and back, in the same memory."""

import torch
from torch import Tensor

from dragoman.checkpoints.numbers import LONG_NAMES, TYPES, Numbers

DTYPES = {
    short: dtype
    for short in TYPES
    if (dtype := getattr(torch, LONG_NAMES.get(short, TYPES[short].name), None)) is not None
}
NAMES = {dtype: short for short, dtype in DTYPES.items()}


def tensor_of(numbers: Numbers) -> Tensor:
    """A tensor in the memory of the numbers."""
    tensor = torch.from_numpy(numbers.data)
    return tensor.view(torch.bfloat16) if numbers.dtype == "BF16" else tensor


def numbers_of(tensor: Tensor) -> Numbers:
    """The numbers of a tensor, in its memory if that is the CPU's."""
    plain = tensor.detach().cpu()
    bits = plain.view(torch.uint16) if plain.dtype == torch.bfloat16 else plain
    return Numbers(bits.numpy(), NAMES[tensor.dtype])
