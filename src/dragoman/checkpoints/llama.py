"""Loading X-ALMA, ALMA and ALMA-R: combined, merged, or a base with adapters."""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from dragoman.checkpoints.catalog import base_of
from dragoman.checkpoints.families import guess_group, is_adapter
from dragoman.checkpoints.loading import check_dtype, fill, skeleton
from dragoman.checkpoints.module_folders import ModelFolder, Module, open_adapter, open_model
from dragoman.checkpoints.module_layout import PARTS, LoraName
from dragoman.checkpoints.places import Reader
from dragoman.checkpoints.torch_tensors import tensor_of
from dragoman.errors import CheckpointError, InvalidOption
from dragoman.layers.lora import AdaptedProjections
from dragoman.models.language_modules import ANY
from dragoman.models.llama import Llama, LlamaLayer, LlamaStack

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
    - a PEFT adapter alone, whose config names its base;
    - merged weights, whose group is `merged_group`, or what the file or name says. If that is
      unknown, rows of every group are let through: their language is not checked. An adapter
      beside merged weights is in them already and not applied again.

    All names and shapes are compared with config.json before the first weight is read. Raises
    ConfigError, CheckpointError, KeyMismatch, or InvalidOption.
    """
    check_dtype(dtype)
    folder = Path(folder).expanduser()
    if adapter is None and is_adapter(folder):
        folder, adapter = base_of(folder), folder
    found = open_model(folder)
    asked = None if groups is None else tuple(dict.fromkeys(groups))
    merged = _merged_group(found, merged_group, adapter is not None)
    modules, unknown = _modules(found, asked, adapter, merged)

    model = skeleton(partial(Llama, found.shape))
    fill(model, found.base, dtype, device, None if unknown is None else unknown.changes)
    language, read = model.model.language, Reader()
    for group, module in modules.items():
        attach_from_files(model.model, group, module, read)
        language.scales[group] = float(module.scale)
    # What a module without a group is merged into lets rows of every group through.
    language.merged = merged if unknown is None else ANY
    language.source = folder if found.is_combined else None
    return model.eval()


def attach_from_files(stack: LlamaStack, group: int, module: Module, read: Reader) -> None:
    """Read the tensors of a module into the stack, its shapes having been checked."""
    attach_tensors(stack, group, {name: tensor_of(read(place)) for name, place in module.tensors.items()})


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
