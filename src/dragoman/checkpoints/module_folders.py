"""Opening folders with an X-ALMA base, modules or both: all names and shapes compared, no tensor read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from dragoman.checkpoints.module_layout import (
    COMBINED,
    PARTS,
    AdapterConfig,
    Layout,
    LoraName,
    lora_settings,
    lora_shapes,
    parse_adapter,
    parse_combined,
)
from dragoman.checkpoints.weight_files import Stored, find_shards, open_shard, read_metadata
from dragoman.errors import CheckpointError, ConfigError, KeyMismatch, Shape
from dragoman.files import read_json

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER, ADAPTER_PICKLE = "adapter_model.safetensors", "adapter_model.bin"
GROUP_MARK = "xalma_group"
"""What a file's metadata say of its group: a number, "base", or "unknown" for a merged stranger."""

Name = TypeVar("Name")


@dataclass(frozen=True)
class Place:
    """Where a tensor is stored, and what its header says."""

    file: Path
    key: str
    shape: Shape
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """Its size in memory and in the file."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


@dataclass(frozen=True)
class Module:
    """A language module in a file. `group` is None where the file doesn't say."""

    source: Path
    rank: int
    scale: float
    group: int | None
    tensors: dict[LoraName, Place]

    @cached_property
    def pairs(self) -> dict[str, tuple[Place, Place]]:
        """A and B by the name of the weight that they belong to."""
        return {
            name.weight: (a, self.tensors[LoraName(name.layer, name.projection, "B")])
            for name, a in self.tensors.items()
            if name.side == "A"
        }

    @property
    def projections(self) -> tuple[str, ...]:
        """The projections it changes."""
        return tuple(name for name in PARTS if LoraName(0, name, "A") in self.tensors)


@dataclass(frozen=True)
class ModelFolder:
    """A folder with a base, or a merged model, and perhaps modules by group."""

    path: Path
    config: dict[str, Any]
    layout: Layout
    mark: str | None
    """What the metadata say of its group; published files have none."""
    base: dict[str, Place]
    modules: dict[int, Module] = field(default_factory=dict)

    @property
    def is_combined(self) -> bool:
        """Whether it holds modules beside the base."""
        return self.config["model_type"] == COMBINED or bool(self.modules)


class Reader:
    """Reads tensors from their places, a bounded part of the files in memory.

    Pages of a mapped file count as memory once they were read, until the file is closed.
    """

    BUDGET = 256 * 2**20

    def __init__(self) -> None:
        self._open: dict[Path, dict[str, Stored]] = {}
        self._read_bytes = 0

    def __call__(self, place: Place) -> Tensor:
        if self._read_bytes > self.BUDGET:
            self._open.clear()
            self._read_bytes = 0
        if place.file not in self._open:
            self._open[place.file] = open_shard(place.file)
        self._read_bytes += place.nbytes
        return self._open[place.file][place.key].read()


def open_model(folder: str | Path) -> ModelFolder:
    """The base and modules in `folder`.

    Raises ConfigError, CheckpointError, or KeyMismatch with every tensor that doesn't fit.
    """
    folder = _existing(folder)
    config = _read_json(folder / "config.json")
    layout = Layout.from_config(config)
    shards = find_shards(folder)
    places = {
        key: place for key, place in _places(shards).items() if not key.endswith(".rotary_emb.inv_freq")
    }
    loras = {key: parsed for key in places if (parsed := parse_combined(key))}

    shapes = layout.base_shapes()
    groups = sorted({group for _, group in loras.values()})
    rank, scale = lora_settings(config) if groups else (0, 0.0)
    for group in groups:
        needed = lora_shapes(layout.layers, layout.sizes, rank)
        shapes |= {name.combined(group): shape for name, shape in needed.items()}
    optional = {"lm_head.weight"} if layout.tied else set()
    _check(folder, places, shapes, optional, str)

    modules = {group: Module(folder, rank, scale, group, {}) for group in groups}
    for key, (name, group) in loras.items():
        modules[group].tensors[name] = places.pop(key)
    mark = read_metadata(shards[0]).get(GROUP_MARK)
    return ModelFolder(folder, config, layout, mark, places, modules)


def open_adapter(folder: str | Path, base: ModelFolder | None = None) -> Module:
    """The PEFT adapter in `folder`, compared with the shapes of `base` or, without one, in itself.

    Raises ConfigError, CheckpointError, or KeyMismatch with every tensor that doesn't fit.
    """
    folder = _existing(folder)
    config = AdapterConfig.from_dict(_read_json(folder / ADAPTER_CONFIG), folder)
    file = next((folder / name for name in (ADAPTER, ADAPTER_PICKLE) if (folder / name).is_file()), None)
    if file is None:
        raise CheckpointError(f"{folder} holds no {ADAPTER} and no {ADAPTER_PICKLE}. Download it again.")
    found: dict[LoraName, Place] = {}
    strange: dict[str, Place] = {}
    for key, place in _places([file]).items():
        name = parse_adapter(key)
        if name is None or name in found:
            strange[key] = place
        else:
            found[name] = place

    sizes = _sizes_seen(found) if base is None else base.layout.sizes
    # An adapter may leave projections out, but then in all layers.
    adapted = config.projections or tuple(p for p in PARTS if any(name.projection == p for name in found))
    absent = [projection for projection in adapted if projection not in sizes]
    if absent or not adapted:
        raise CheckpointError(
            f"{file} lacks tensors for {', '.join(absent) or 'all projections'}. Download it again."
        )
    layers = base.layout.layers if base else 1 + max(name.layer for name in found)
    shapes = lora_shapes(layers, {projection: sizes[projection] for projection in adapted}, config.rank)
    described_by = f"{folder / ADAPTER_CONFIG}" + (f" and the base in {base.path}" if base else "")
    _check(folder, {**found, **strange}, dict(shapes), set(), _spell_adapter, described_by)
    mark = read_metadata(file).get(GROUP_MARK, "")
    return Module(folder, config.rank, config.scale, int(mark) if mark.isdecimal() else None, found)


def has_weights(folder: Path) -> bool:
    """Whether `folder` holds a model's weights, adapters not counted."""
    try:
        return bool(find_shards(folder))
    except CheckpointError:
        return False


def _existing(folder: str | Path) -> Path:
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder; give the one that holds the checkpoint's files")
    return folder


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return read_json(path, ConfigError)
    except FileNotFoundError:
        raise ConfigError(f"{path.parent} has no {path.name}. Download it beside the weights.") from None


def _places(files: list[Path]) -> dict[str, Place]:
    """All tensors in `files`, in their order."""
    places: dict[str, Place] = {}
    for file in files:
        for key, stored in open_shard(file).items():
            if key in places:
                raise CheckpointError(
                    f"{key} is both in {places[key].file} and {file.name}. "
                    "Leave only the files of one model there."
                )
            if not stored.is_plain:
                raise CheckpointError(
                    f"{file} stores {key} as {stored.dtype}, so it is quantised. Get the model in float32, "
                    "float16 or bfloat16; it can be quantised after loading."
                )
            places[key] = Place(file, key, stored.shape, stored.torch_dtype)
    return places


def _check(
    folder: Path,
    found: Mapping[Name, Place],
    expected: Mapping[Name, Shape],
    optional: set[Name],
    spell: Callable[[Name], str],
    described_by: str = "its config.json",
) -> None:
    missing = [spell(name) for name in expected if name not in found and name not in optional]
    unexpected = [place.key for name, place in found.items() if name not in expected]
    misshapen = {
        place.key: (place.shape, expected[name])
        for name, place in found.items()
        if name in expected and place.shape != expected[name]
    }
    if missing or unexpected or misshapen:
        raise KeyMismatch.in_folder(folder, missing, unexpected, misshapen, described_by)


def _spell_adapter(name: LoraName | str) -> str:
    return name if isinstance(name, str) else name.adapter


def _sizes_seen(found: Mapping[LoraName, Place]) -> dict[str, Shape]:
    """(out, in) of each projection, from the first layer that has it."""
    ends: dict[str, dict[str, int]] = {}
    for name, place in sorted(found.items(), key=lambda item: item[0].layer):
        if len(place.shape) == 2:
            end = place.shape[0] if name.side == "B" else place.shape[1]
            ends.setdefault(name.projection, {}).setdefault(name.side, end)
    return {projection: (end["B"], end["A"]) for projection, end in ends.items() if len(end) == 2}
