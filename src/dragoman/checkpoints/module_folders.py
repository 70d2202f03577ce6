"""Opening folders with an X-ALMA base, modules or both: all names and shapes compared, no tensor read."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from dragoman.checkpoints.adapters import AdapterConfig, adapter_file
from dragoman.checkpoints.compressed import FIELD
from dragoman.checkpoints.families import ADAPTER_CONFIG, GROUP_MARK
from dragoman.checkpoints.module_layout import (
    OUTPUT,
    PARTS,
    LoraName,
    base_shapes,
    lora_shapes,
    parse_adapter,
    parse_combined,
    projection_sizes,
)
from dragoman.checkpoints.packed_facts import refuse_packed
from dragoman.checkpoints.places import Change, Place, compare, find_tensors
from dragoman.checkpoints.weight_files import find_shards, read_metadata
from dragoman.errors import CheckpointError, ConfigError, Shape
from dragoman.files import read_json
from dragoman.models.llama_config import XALMA, LlamaConfig


@dataclass(frozen=True)
class Module:
    """A language module in a file. `group` is None where the file doesn't say."""

    source: Path
    rank: int
    scale: float
    group: int | None
    tensors: dict[LoraName, Place]

    @cached_property
    def changes(self) -> dict[str, Change]:
        """What it does to the weights of the base, by their names."""
        return {
            name.weight: Change(a, self.tensors[LoraName(name.layer, name.projection, "B")], self.scale)
            for name, a in self.tensors.items()
            if name.side == "A"
        }

    @property
    def has_one_rank(self) -> bool:
        """Whether all its changes have the same rank and scale."""
        sides = self.tensors.items()
        ranks = {place.shape[0] for name, place in sides if name.side == "A"}
        return len(ranks) == 1 and all(place.factor == 1.0 for _, place in sides)

    def lacks(self, layers: int) -> list[str]:
        """The projections that it leaves as they are in some of a base's layers."""
        return [p for p in PARTS if any(LoraName(i, p, "A") not in self.tensors for i in range(layers))]


@dataclass(frozen=True)
class ModelFolder:
    """A folder with a base, or a merged model, and perhaps modules by group."""

    path: Path
    config: dict[str, Any]
    shape: LlamaConfig
    shapes: dict[str, Shape]
    """Of every tensor of the base."""
    mark: str | None
    """What the metadata say of its group; published files have none."""
    base: dict[str, Place]
    modules: dict[int, Module] = field(default_factory=dict)

    @property
    def is_combined(self) -> bool:
        """Whether it holds modules beside the base."""
        return self.config["model_type"] == XALMA or bool(self.modules)


def open_model(folder: str | Path) -> ModelFolder:
    """The base and modules in `folder`.

    Raises ConfigError, CheckpointError, or KeyMismatch with every tensor that doesn't fit.
    """
    folder = _existing(folder)
    refuse_packed(folder)
    config = _read_config(folder)
    shape = LlamaConfig.from_dict(config)
    shards = find_shards(folder)
    places = find_tensors(shards, lambda key: None if key.endswith(".rotary_emb.inv_freq") else key, folder)
    config.pop(FIELD, None)  # of the files; what is read from them is plain
    loras = {key: parsed for key in places if (parsed := parse_combined(key))}

    base = base_shapes(shape)
    groups = sorted({group for _, group in loras.values()})
    pairs = [(layer, name) for layer in range(shape.num_hidden_layers) for name in PARTS]
    module = lora_shapes(pairs, projection_sizes(base), lambda _: shape.lora_size) if groups else {}
    loras_wanted = {name.combined(group): size for group in groups for name, size in module.items()}
    compare(folder, places, base | loras_wanted, [OUTPUT] if shape.tie_word_embeddings else [])

    modules = {group: Module(folder, shape.lora_size, shape.lora_alpha, group, {}) for group in groups}
    for key, (name, group) in loras.items():
        modules[group].tensors[name] = places.pop(key)
    mark = read_metadata(shards[0]).get(GROUP_MARK)
    return ModelFolder(folder, config, shape, base, mark, places, modules)


def open_adapter(folder: str | Path, base: ModelFolder | None = None) -> Module:
    """The PEFT adapter in `folder`, compared with the shapes of `base` or, without one, in itself.

    Where its config says that it leaves a layer or projection as it is, it has no tensors for it. Raises
    ConfigError, CheckpointError, or KeyMismatch with every tensor that doesn't fit.
    """
    folder = _existing(folder)
    config = AdapterConfig.from_folder(folder)
    file = adapter_file(folder)
    places: dict[LoraName | str, Place] = find_tensors([file], lambda key: parse_adapter(key) or key, folder)
    found = {name: place for name, place in places.items() if isinstance(name, LoraName)}

    sizes = _sizes_seen(found) if base is None else projection_sizes(base.shapes)
    layers = base.shape.num_hidden_layers if base else 1 + max((name.layer for name in found), default=-1)
    pairs = _changed(config, layers, found)
    absent = [name for name in PARTS if name not in sizes and any(name == each for _, each in pairs)]
    if absent or not pairs:
        raise CheckpointError(
            f"{file} lacks tensors for {', '.join(absent) or 'all projections'}. Download it again."
        )
    shapes: dict[LoraName | str, Shape] = dict(lora_shapes(pairs, sizes, config.rank).items())
    spell: Callable[[LoraName | str], str] = _spell_adapter
    described_by = f"{folder / ADAPTER_CONFIG}" + (f" and the base in {base.path}" if base else "")
    compare(folder, places, shapes, (), spell, described_by)

    scale = config.scale(LoraName(*pairs[0], "A").module)
    for name, place in found.items():
        own = config.scale(name.module)
        if name.side == "B" and own != scale:  # a module has one scale; what is beyond it goes into B
            found[name] = replace(place, factor=own / scale)
    rank = max(place.shape[0] for name, place in found.items() if name.side == "A")
    mark = read_metadata(file).get(GROUP_MARK, "")
    return Module(folder, rank, scale, int(mark) if mark.isdecimal() else None, found)


def _changed(config: AdapterConfig, layers: int, found: Iterable[LoraName]) -> list[tuple[int, str]]:
    """The (layer, projection) that an adapter should hold tensors for."""
    if config.data.get("target_modules") is None:
        return sorted({(name.layer, name.projection) for name in found})
    every = (LoraName(layer, projection, "A") for layer in range(layers) for projection in PARTS)
    return [(name.layer, name.projection) for name in every if config.changes(name.module)]


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


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        return read_json(folder / "config.json", ConfigError)
    except FileNotFoundError:
        raise ConfigError(f"{folder} has no config.json. Download it beside the weights.") from None


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
