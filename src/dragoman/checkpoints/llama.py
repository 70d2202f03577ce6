"""Loading X-ALMA, ALMA and ALMA-R: combined, merged, or a base with adapters."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from dragoman.checkpoints.loading import assign, check_dtype
from dragoman.checkpoints.module_folders import (
    ADAPTER_CONFIG,
    ModelFolder,
    Module,
    Place,
    Reader,
    has_weights,
    open_adapter,
    open_model,
)
from dragoman.checkpoints.module_layout import PARTS, LoraName
from dragoman.errors import CheckpointError, ConfigError, InvalidOption
from dragoman.files import read_json
from dragoman.layers.creation import unfilled
from dragoman.layers.low_rank import AdaptedProjections
from dragoman.models.llama import ANY, Llama, LlamaLayer, LlamaStack
from dragoman.models.llama_config import LlamaConfig

Adapters = str | Path | Mapping[int, str | Path]


def load_xalma(
    folder: str | Path,
    groups: Iterable[int] | None = None,
    adapter: Adapters | None = None,
    dtype: torch.dtype | None = torch.float32,
    device: torch.device | str = "cpu",
    merged_group: int | None = None,
) -> Llama:
    """The model in `folder`, in eval mode, its weights in `dtype` (None: as stored) on `device`.

    The folder may hold
    - a combined checkpoint: of its modules only those of `groups` are read (None: all);
      `attach_` reads others later;
    - a base, with `adapter`: a PEFT adapter, or one for each group. The group of a single one
      is `groups`, or what its file or name (`…Group6`) says. An adapter whose group nobody
      knows, as ALMA's, is merged into the weights;
    - a PEFT adapter alone, whose config names a base that is a folder here;
    - merged weights, whose group is `merged_group`, or what the file or name says. If that is
      unknown, rows of every group are let through: their language is not checked. An adapter
      beside merged weights is in them already and not applied again.

    All names and shapes are compared with config.json before the first weight is read. Raises
    ConfigError, CheckpointError, KeyMismatch, or InvalidOption.
    """
    check_dtype(dtype)
    folder = Path(folder).expanduser()
    if adapter is None and (folder / ADAPTER_CONFIG).is_file() and not has_weights(folder):
        folder, adapter = _base_of(folder), folder
    found = open_model(folder)
    asked = None if groups is None else tuple(dict.fromkeys(groups))
    merged = _merged_group(found, merged_group, adapter is not None)
    modules, unknown = _modules(found, asked, adapter, merged)

    read = Reader()

    def load(place: Place) -> Tensor:
        tensor = read(place)
        return tensor.to(device=device, dtype=dtype or tensor.dtype)

    with unfilled():
        model = Llama(LlamaConfig.from_dict(found.config))
    for name, place in found.base.items():
        tensor = load(place)
        if unknown is not None and name in unknown.pairs:
            # Summed in float32 and rounded once; rows of every group are let through the sum.
            a, b = (read(side).to(device).float() for side in unknown.pairs[name])
            tensor = tensor.to(torch.float32, copy=True).addmm_(b, a, alpha=unknown.scale).to(tensor.dtype)
        assign(model, name, tensor)
    model.tie_weights()
    language = model.model.language
    for group, module in modules.items():
        attach_from_files(model.model, group, module, read)
        language.scales[group] = float(module.scale)
    language.merged = merged if unknown is None else ANY
    language.source = folder if found.is_combined else None
    return model.eval()


def attach_from_files(stack: LlamaStack, group: int, module: Module, read: Reader) -> None:
    """Read the tensors of a module into the stack, its shapes having been checked."""
    attach_tensors(stack, group, {name: read(place) for name, place in module.tensors.items()})


def attach_tensors(stack: LlamaStack, group: int, tensors: Mapping[LoraName, Tensor]) -> None:
    """Give each projection its part of the module, in the dtype and place of the layer's norms."""
    for name, a in tensors.items():
        if name.side == "B":
            continue
        b = tensors[LoraName(name.layer, name.projection, "B")]
        layer: LlamaLayer = stack.layers[name.layer]  # type: ignore[assignment]
        like = layer.input_layernorm.weight  # base weights may be quantised, norms are not
        part: AdaptedProjections = getattr(layer, PARTS[name.projection])
        pair = (side.detach().to(like.device, like.dtype) for side in (a, b))
        part.attach(name.projection.removesuffix("_proj"), group, *pair)


def guess_group(folder: Path) -> int | None:
    """The group that a folder's name ends in, as `X-ALMA-13B-Group6` does; also in the hub's cache."""
    folder = folder.absolute()
    # The cache keeps models--owner--name/snapshots/revision.
    name = folder.parents[1].name if folder.parent.name == "snapshots" else folder.name
    match = re.search(r"group[-_ ]?([1-8])$", name.removesuffix("-LoRA"), re.IGNORECASE)
    return int(match[1]) if match else None


def _merged_group(found: ModelFolder, given: int | None, has_adapter: bool) -> int | None:
    """The group in the weights themselves; ANY if they may hold one that nobody knows."""
    if found.is_combined or found.mark == "base" or has_adapter:
        if given is not None:
            kind = "a combined checkpoint" if found.is_combined else "a base"
            raise InvalidOption(
                f"merged_group is {given}, but {found.path} is used as {kind}: nothing is merged in it"
            )
        return None
    marked = int(found.mark) if found.mark and found.mark.isdecimal() else None
    if marked is not None and given not in (None, marked):
        raise InvalidOption(
            f"merged_group is {given}, but {found.path} says that group {marked} is merged in it"
        )
    return given or marked or guess_group(found.path) or ANY


def _modules(
    found: ModelFolder, asked: tuple[int, ...] | None, adapter: Adapters | None, merged: int | None
) -> tuple[dict[int, Module], Module | None]:
    """The modules to attach, by group, and one without a group."""
    if adapter is not None:
        return _adapters(found, asked, adapter)
    if found.is_combined:
        absent = [group for group in asked or () if group not in found.modules]
        if absent:
            there = ", ".join(map(str, sorted(found.modules)))
            raise CheckpointError(f"{found.path} holds no module of group {absent[0]}; groups there: {there}")
        return {
            group: found.modules[group] for group in (sorted(found.modules) if asked is None else asked)
        }, None
    if asked and asked != (merged,):
        raise InvalidOption(
            f"{found.path} holds plain weights and no modules, so groups can't be {list(asked)}. For a base, "
            "give the adapter; for merged weights, say what is merged by merged_group"
        )
    return {}, None


def _adapters(
    found: ModelFolder, asked: tuple[int, ...] | None, adapter: Adapters
) -> tuple[dict[int, Module], Module | None]:
    if found.is_combined:
        raise InvalidOption(
            f"{found.path} is a combined checkpoint; adapters go with its base alone. See attach_"
        )
    if found.mark not in (None, "base"):
        raise InvalidOption(
            f"{found.path} has a module merged into it already; give the base it was made from"
        )
    if isinstance(adapter, Mapping):
        if asked is not None and set(asked) != set(adapter):
            raise InvalidOption(
                f"groups are {list(asked)}, the adapters' are {list(adapter)}; leave groups out"
            )
        return {group: _open(found, path, group) for group, path in adapter.items()}, None
    if asked is not None and len(asked) != 1:
        raise InvalidOption(
            f"groups are {list(asked)}, but one adapter has one group; give adapters by group"
        )
    group = asked[0] if asked else None
    module = _open(found, adapter, group)
    group = group or module.group or guess_group(Path(adapter))
    return ({}, module) if group is None else ({group: module}, None)


def _open(found: ModelFolder, adapter: str | Path, group: int | None) -> Module:
    if Path(adapter).expanduser().resolve() == found.path.resolve():
        raise InvalidOption(
            f"{adapter} holds weights and an adapter. In the published repositories of a group the weights "
            "contain the adapter already: load it without. If these don't, move the adapter elsewhere"
        )
    module = open_adapter(adapter, found)
    if group is not None and module.group not in (None, group):
        raise CheckpointError(
            f"{adapter} says it is the module of group {module.group}, not of group {group}"
        )
    return module


def _base_of(adapter: Path) -> Path:
    """The base that an adapter's config names, if it is a folder."""
    try:
        name = read_json(adapter / ADAPTER_CONFIG, ConfigError)["base_model_name_or_path"]
    except (FileNotFoundError, ConfigError, KeyError):
        name = None
    if isinstance(name, str) and name:
        for folder in (adapter / name, Path(name).expanduser()):
            if folder.is_dir():
                return folder
    raise CheckpointError(
        f"{adapter} holds an adapter without its base, which it calls {name!r} and which is no folder here. "
        "Give the base's folder, and this one as the adapter"
    )
