"""Folders with a packed model: told from others, opened as maps of their files, checked byte by byte."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dragoman.checkpoints.module_layout import EMBEDDING, LoraName, parse_combined
from dragoman.checkpoints.numbers import Numbers, nbytes
from dragoman.checkpoints.packed_facts import ANEW, FIELD, packed_facts
from dragoman.checkpoints.packed_pieces import packed_piece
from dragoman.checkpoints.packed_shards import CHECKSUMS, LAYOUT, MARK, PARTS, checksum, checksum_of
from dragoman.checkpoints.part_forms import put_together, shape_of
from dragoman.checkpoints.weight_files import HEADER, Entry, find_packed, open_shard, read_metadata
from dragoman.errors import CheckpointError, ConfigError, KeyMismatch, Shape
from dragoman.kernels.packing import PRECISIONS
from dragoman.models.config import DENSE, MOE, NllbConfig, read_config
from dragoman.models.llama_config import LlamaConfig
from dragoman.models.shapes import llama_shapes, nllb_shapes
from dragoman.store.pieces import Piece

EXPERT = re.compile(r"(encoder|decoder)\.layers\.(\d+)\.ffn\.experts\.expert_(\d+)\.fc1")


@dataclass(frozen=True, eq=False)
class PackedModel(Mapping[str, Any]):
    """A packed model's parts by name, each made when it is first asked for, in the memory of the files.

    Its bytes are then compared with their checksums: CheckpointError if they differ.
    """

    folder: Path
    config: NllbConfig | LlamaConfig
    precision: str
    style: str | None
    """How an ALMA is asked."""
    merged: int | None
    """The group in the weights themselves, as `llama_files.LlamaFiles` has it."""
    scales: dict[int, float]
    """The language modules that are there, by group, and what their products are multiplied by."""
    described: dict[str, dict[str, Any]]
    """The parts' descriptions."""
    tensors: dict[str, Entry]
    checksums: dict[str, str]
    """The tensors'."""

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            described = self.described[name]
            arrays = {field: self._numbers(name, tensor) for field, tensor in described["arrays"].items()}
            for field, tensor in described["arrays"].items():
                if checksum(arrays[field].data) != self.checksums.get(tensor):
                    raise CheckpointError(
                        f"{self.folder}: {tensor} is damaged (its checksum differs). {ANEW}"
                    )
            self._made[name] = put_together(name, described.get("kind"), arrays, described)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.described)

    def __len__(self) -> int:
        return len(self.described)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied or pickled it is opened again, so that all processes share the same pages."""
        return open_packed, (self.folder,)

    def bytes(self, group: int | None = None) -> int:
        """The memory that a language module takes, or everything but the modules."""
        return self._bytes(name for name in self.described if _group(name) == group)

    def piece(self, names: Sequence[str]) -> Piece:
        """Some parts, in this order, to be read together."""
        return packed_piece({name: self.described[name] for name in names}, self.tensors, self.checksums)

    def experts(self, side: str) -> dict[tuple[int, int], tuple[str, str]]:
        """The two layers of each expert of the "encoder" or "decoder", by its layer and number."""
        found = {}
        for name in self.described:
            match = EXPERT.fullmatch(name)
            if match is not None and match[1] == side:
                found[int(match[2]), int(match[3])] = name, f"{name.removesuffix('fc1')}fc2"
        return found

    def expert_bytes(self) -> int:
        """What all experts take of `bytes`."""
        pairs = [pair for side in ("encoder", "decoder") for pair in self.experts(side).values()]
        return self._bytes(name for pair in pairs for name in pair)

    def module_shapes(self, group: int) -> dict[LoraName, Shape]:
        """The tensors of a language module."""
        found = {}
        for name, described in self.described.items():
            parsed = parse_combined(f"{name}.weight")
            if parsed is not None and parsed[1] == group:
                found[parsed[0]] = shape_of(described)
        return found

    @cached_property
    def _made(self) -> dict[str, Any]:
        return {}

    def _bytes(self, parts: Iterable[str]) -> int:
        tensors = {tensor for name in parts for tensor in self.described[name]["arrays"].values()}
        return sum(nbytes(self.tensors[name].shape, self.tensors[name].dtype) for name in tensors)

    def _numbers(self, part: str, tensor: str) -> Numbers:
        found = self.tensors.get(tensor)
        if found is None:
            raise CheckpointError(f"{self.folder} has no {tensor}, which belongs to {part}. {ANEW}")
        return found.read()


def open_packed(folder: Path) -> PackedModel:
    """The packed model in `folder`: sizes, headers and shapes looked at, no weight read yet.

    Raises ConfigError, CheckpointError, or KeyMismatch with every part that doesn't fit config.json.
    """
    facts = packed_facts(folder)
    if facts is None:
        raise CheckpointError(f"{folder} holds no packed model. {ANEW}")
    if facts.get("layout") != LAYOUT:
        raise _other_layout(folder, facts.get("layout"))
    config = _read_shape(folder)
    tensors: dict[str, Entry] = {}
    parts: dict[str, dict[str, Any]] = {}
    checksums: dict[str, str] = {}
    for file in find_packed(folder):
        parts |= _parts(file)
        checksums |= _json(file, CHECKSUMS)
        tensors |= open_shard(file, writable=False)
    try:
        scales = {int(group): float(scale) for group, scale in facts["modules"].items()}
        precision, style, merged = facts["precision"], facts["style"], facts["merged"]
        if precision not in PRECISIONS:
            raise ValueError(f"precision is {precision!r}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{folder / 'config.json'}: {FIELD} is incomplete ({error!r}). {ANEW}") from None
    _compare(folder, config, parts)
    groups = {group for name in parts if (group := _group(name)) is not None}
    if groups != scales.keys():
        raise CheckpointError(
            f"{folder} holds language modules of the groups {sorted(groups)}, and by its config.json of "
            f"{sorted(scales)}. {ANEW}"
        )
    return PackedModel(folder, config, precision, style, merged, scales, parts, tensors, checksums)


def verify(folder: Path, progress: Callable[[int, int], None] | None = None) -> int:
    """Compare all bytes of a packed model with their checksums: how many there are.

    progress: is told (bytes read, bytes in all). Raises what `open_packed` does, and CheckpointError if a
    tensor is damaged.
    """
    open_packed(folder)
    files = find_packed(folder)
    total, done = sum(file.stat().st_size for file in files), 0
    for file in files:
        checksums = _json(file, CHECKSUMS)
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(HEADER), "little")
            header = json.loads(opened.read(length))
            for name, wanted in checksums.items():
                start, stop = header.get(name, {}).get("data_offsets", (0, 0))
                opened.seek(HEADER + length + start)
                if checksum_of(opened, stop - start) != wanted:
                    raise CheckpointError(f"{file}: {name} is damaged (its checksum differs). {ANEW}")
                done += stop - start
                if progress is not None:
                    progress(done, total)
    if progress is not None:
        progress(total, total)
    return total


def _parts(file: Path) -> dict[str, dict[str, Any]]:
    layout = read_metadata(file).get(MARK)
    if layout != str(LAYOUT):
        raise _other_layout(file, layout)
    parts = _json(file, PARTS)
    for name, described in parts.items():
        arrays = described.get("arrays") if isinstance(described, dict) else None
        if not isinstance(arrays, dict) or not isinstance(described.get("shape"), list):
            raise CheckpointError(f"{file} describes {name} in a way that is not known. {ANEW}")
    return parts


def _json(file: Path, field: str) -> dict[str, Any]:
    try:
        found = json.loads(read_metadata(file)[field])
        if not isinstance(found, dict):
            raise TypeError(f"{field} is no object")
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"{file} is no part of a packed model ({error!r}). {ANEW}") from None
    return found


def _other_layout(where: Path, layout: object) -> CheckpointError:
    return CheckpointError(
        f"{where} is packed in layout {layout}, and this version of Dragoman reads layout {LAYOUT}. {ANEW}"
    )


def _read_shape(folder: Path) -> NllbConfig | LlamaConfig:
    config = read_config(folder)
    is_nllb = config.get("model_type") in (DENSE, MOE)
    return NllbConfig.from_dict(config) if is_nllb else LlamaConfig.from_dict(config)


def _compare(folder: Path, config: NllbConfig | LlamaConfig, parts: Mapping[str, Mapping[str, Any]]) -> None:
    """KeyMismatch unless the parts are those of a model of this config, language modules aside."""
    expected: dict[str, tuple[str, Shape]] = {}
    shapes = nllb_shapes(config) if isinstance(config, NllbConfig) else llama_shapes(config)
    table = "shared.weight" if isinstance(config, NllbConfig) else EMBEDDING
    expected["lm_head"] = "head", shapes[table]
    expected[table.removesuffix(".weight")] = "embedding", shapes[table]
    for name, shape in shapes.items():
        module = name.removesuffix(".weight")
        if len(shape) == 2:
            expected.setdefault(module, ("linear", shape))
    for name, shape in shapes.items():
        if len(shape) == 1 and name.rpartition(".")[0] not in expected:
            expected[name] = "vector", shape
    found = {name: (part.get("kind"), shape_of(part)) for name, part in parts.items() if _group(name) is None}
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    misshapen = {
        name: (found[name][1], expected[name][1])
        for name in found
        if name in expected and found[name] != expected[name]
    }
    if missing or unexpected or misshapen:
        raise KeyMismatch.in_folder(folder, missing, unexpected, misshapen, "its config.json")


def _group(name: str) -> int | None:
    """The language module that a part belongs to."""
    parsed = parse_combined(f"{name}.weight")
    return None if parsed is None else parsed[1]
