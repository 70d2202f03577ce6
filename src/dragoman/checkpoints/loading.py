"""How weights come from files into a PyTorch model: one by one, once all are known to fit."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from dragoman.checkpoints.numbers import dtype_name
from dragoman.checkpoints.places import Change, Place, Reader
from dragoman.checkpoints.torch_tensors import numbers_of, tensor_of
from dragoman.checkpoints.weight_files import Pending
from dragoman.errors import Shape
from dragoman.layers.creation import unfilled

Model = TypeVar("Model", bound=nn.Module)


def skeleton(build: Callable[[], Model]) -> Model:
    """What `build` makes, without memory for its weights, which would only be filled to be thrown away."""
    with unfilled():
        return build()


def shapes_of(model: nn.Module) -> dict[str, Shape]:
    """The shape of each parameter; one that has two names counts once."""
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


def fill(
    model: nn.Module,
    places: Mapping[str, Place],
    dtype: torch.dtype | None,
    device: torch.device | str,
    changes: Mapping[str, Change] | None = None,
) -> None:
    """Give a skeleton's parameters their tensors in `dtype` (None: as stored), with the changes made."""
    read, changes = Reader(), changes or {}
    for name, place in places.items():
        numbers = read(place)
        if name in changes:
            numbers = changes[name].applied(numbers, read, None if dtype is None else dtype_name(dtype))
        tensor = tensor_of(numbers)
        assign(model, name, tensor.to(device=device, dtype=dtype or tensor.dtype))
    model.tie_weights()  # type: ignore[operator]


def assign(model: nn.Module, name: str, tensor: Tensor) -> None:
    """Make `tensor` the parameter of that dotted name."""
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, nn.Parameter(tensor))


def pending(tensor: Tensor, dtype: torch.dtype | None = None) -> Pending:
    """A tensor to be written in `dtype` (None: its own); it comes to the CPU when its turn comes."""
    return Pending(tuple(tensor.shape), dtype_name(dtype or tensor.dtype), lambda: numbers_of(tensor))


def check_dtype(dtype: torch.dtype | None) -> None:
    """InvalidOption for what weights can't be held in; None stands for `as stored`."""
    if dtype is not None:
        dtype_name(dtype)
