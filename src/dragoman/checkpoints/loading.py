"""What all loaders of weights share."""

import torch
from torch import Tensor, nn

from dragoman.checkpoints.weight_files import DTYPES
from dragoman.errors import InvalidOption


def assign(model: nn.Module, name: str, tensor: Tensor) -> None:
    """Make `tensor` the parameter of that dotted name."""
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, nn.Parameter(tensor))


def check_dtype(dtype: torch.dtype | None) -> None:
    """InvalidOption for what weights can't be held in; None stands for `as stored`."""
    if dtype is not None and dtype not in DTYPES:
        raise InvalidOption(f"dtype is {dtype}; it must be one of {', '.join(map(str, DTYPES))} or None")
