"""The one way in which weights come from files into a model: plan, compare everything, then read one by one.

What a model expects is read from its skeleton on the meta device, which costs no memory. No tensor is read
before all names and shapes are known to fit.
"""

import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from dragoman.checkpoints.weight_files import DTYPES, Stored, open_shard
from dragoman.errors import CheckpointError, InvalidOption, KeyMismatch, Shape
from dragoman.layers.creation import unfilled

Model = TypeVar("Model", bound=nn.Module)
Name = TypeVar("Name")


@dataclass(frozen=True)
class Place:
    """Where a tensor is stored, and what its header says."""

    file: Path
    key: str
    shape: Shape
    dtype: torch.dtype
    factor: float = 1.0
    """What it is multiplied by when it is read."""

    @property
    def nbytes(self) -> int:
        """Its size in memory and in the file."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


class Reader:
    """Reads tensors from their places, a bounded part of the files in memory.

    Pages of a mapped file count as memory once they were read, until the file is closed.
    """

    BUDGET = 256 * 2**20

    def __init__(self) -> None:
        self._open: dict[Path, dict[str, Stored]] = {}
        self._read_bytes = 0

    def __call__(self, place: Place) -> Tensor:
        if self._read_bytes > self.BUDGET or (place.file not in self._open and not is_mapped(place.file)):
            self._open.clear()
            self._read_bytes = 0
        if place.file not in self._open:
            self._open[place.file] = open_shard(place.file)
        # A file that is read whole would be read again, and no memory won by it.
        self._read_bytes += place.nbytes * is_mapped(place.file)
        tensor = self._open[place.file][place.key].read()
        return tensor if place.factor == 1.0 else tensor * place.factor


@dataclass(frozen=True)
class Change:
    """A low-rank change of a weight: it becomes W + scale * B A."""

    a: Place
    """[rank, in]"""
    b: Place
    """[out, rank]"""
    scale: float

    def applied(self, weight: Tensor, read: Reader) -> Tensor:
        """The changed weight in the dtype of `weight`: summed in float32 and rounded once."""
        a, b = (read(side).to(weight.device, torch.float32) for side in (self.a, self.b))
        return weight.to(torch.float32, copy=True).addmm_(b, a, alpha=self.scale).to(weight.dtype)


def skeleton(build: Callable[[], Model]) -> Model:
    """What `build` makes, without memory for its weights, which would only be filled to be thrown away."""
    with unfilled():
        return build()


def shapes_of(model: nn.Module) -> dict[str, Shape]:
    """The shape of each parameter; one that has two names counts once."""
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


def find_tensors(
    files: Iterable[Path], name_of: Callable[[str], Name | None], folder: Path
) -> dict[Name, Place]:
    """The places of all tensors in `files`, in their order, by the names that `name_of` gives their keys.

    Those without a name are left out. CheckpointError if a name is there twice, or a tensor is quantised.
    """
    found: dict[Name, Place] = {}
    for file in files:
        for key, stored in open_shard(file).items():
            name = name_of(key)
            if name is None:
                continue
            if name in found:
                twin = found[name]
                raise CheckpointError(
                    f"{folder} holds {name} twice: as {twin.key} in {twin.file.name} and as {key} in "
                    f"{file.name}. Leave only the files of one model there."
                )
            if not stored.is_plain:
                raise CheckpointError(
                    f"{file} stores {key} as {stored.dtype}, so it is quantised. Get the model in float32, "
                    "float16 or bfloat16; it can be quantised after loading."
                )
            found[name] = Place(file, key, stored.shape, stored.torch_dtype)
    return found


def compare(
    folder: Path,
    found: Mapping[Name, Place],
    expected: Mapping[Name, Shape],
    optional: Iterable[Name] = (),
    spell: Callable[[Name], str] = str,
    described_by: str = "its config.json",
) -> None:
    """KeyMismatch with every tensor that is missing, unexpected or of another shape.

    spell: what a missing one would be called in a file.
    """
    optional = set(optional)
    missing = [spell(name) for name in expected if name not in found and name not in optional]
    unexpected = [place.key for name, place in found.items() if name not in expected]
    misshapen = {
        place.key: (place.shape, expected[name])
        for name, place in found.items()
        if name in expected and place.shape != expected[name]
    }
    if missing or unexpected or misshapen:
        raise KeyMismatch.in_folder(folder, missing, unexpected, misshapen, described_by)


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
        tensor = read(place)
        tensor = tensor.to(device=device, dtype=dtype or tensor.dtype)
        assign(model, name, changes[name].applied(tensor, read) if name in changes else tensor)
    model.tie_weights()  # type: ignore[operator]


def is_mapped(file: Path) -> bool:
    """Whether tensors are read from a file one by one; pickles of torch before 1.6 are read whole."""
    return file.suffix == ".safetensors" or zipfile.is_zipfile(file)


def assign(model: nn.Module, name: str, tensor: Tensor) -> None:
    """Make `tensor` the parameter of that dotted name."""
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, nn.Parameter(tensor))


def check_dtype(dtype: torch.dtype | None) -> None:
    """InvalidOption for what weights can't be held in; None stands for `as stored`."""
    if dtype is not None and dtype not in DTYPES:
        raise InvalidOption(f"dtype is {dtype}; it must be one of {', '.join(map(str, DTYPES))} or None")
