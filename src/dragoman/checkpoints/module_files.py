"""Taking X-ALMA checkpoints apart and putting them together, file to file.

Tensors stream from the old files to the new one by one, so a checkpoint may be far larger
than memory. Nothing is written unless all names and shapes fit, and an output appears whole
or not at all.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dragoman.checkpoints.families import ADAPTER_CONFIG, is_adapter
from dragoman.checkpoints.module_folders import (
    ModelFolder,
    Module,
    open_adapter,
    open_model,
)
from dragoman.checkpoints.module_layout import (
    GROUPS,
    adapter_config,
    languages_of,
    plain,
)
from dragoman.checkpoints.module_saving import Saving, free_output, save_adapter, save_model
from dragoman.checkpoints.numbers import LONG_NAMES, Numbers
from dragoman.checkpoints.places import Change, Place, Reader
from dragoman.checkpoints.weight_files import Pending
from dragoman.errors import CheckpointError, InvalidOption
from dragoman.models.llama_config import LLAMA, XALMA

PRETRAINED = "haoranxu/X-ALMA-13B-Pretrain"
BASE, UNKNOWN = "base", "unknown"


@dataclass(frozen=True)
class Part:
    """A base or a module in a `Listing`."""

    group: int | None
    languages: tuple[str, ...]
    bytes: int
    dtype: str


@dataclass(frozen=True)
class Listing:
    """What a folder holds."""

    folder: str
    kind: str
    """combined, base, merged, adapter, or llama: a base or merged model whose files don't say which."""
    layers: int
    rank: int | None
    scale: float | None
    base: Part | None
    modules: tuple[Part, ...]
    beside_adapter: bool
    """Whether an adapter lies beside the weights, as in the published repositories of merged groups."""


def describe(folder: str | Path) -> Listing:
    """What `folder` holds, from the headers of its files. Raises as `open_model` and `open_adapter` do."""
    folder = Path(folder).expanduser()
    beside = (folder / ADAPTER_CONFIG).is_file()
    if is_adapter(folder):
        module = open_adapter(folder)
        layers = 1 + max(name.layer for name in module.tensors)
        return Listing(
            str(folder), "adapter", layers, module.rank, plain(module.scale), None, (_part(module),), False
        )
    model = open_model(folder)
    modules = [model.modules[group] for group in sorted(model.modules)]
    rank, scale = (modules[0].rank, plain(modules[0].scale)) if modules else (None, None)
    group = int(model.mark) if model.mark and model.mark.isdecimal() else None
    base = Part(group, languages_of(group), *_size(model.base.values()))
    parts = tuple(map(_part, modules))
    return Listing(str(folder), _kind(model), model.shape.num_hidden_layers, rank, scale, base, parts, beside)


def extract_module(
    folder: str | Path,
    group: int,
    output: str | Path,
    base_name: str = PRETRAINED,
    saving: Saving | None = None,
) -> None:
    """Write the module of `group` in a combined checkpoint as a PEFT adapter for the model `base_name`.

    Raises what `open_model` does, InvalidOption for a group that isn't there, CheckpointError
    if the output can't be written.
    """
    saving = saving or Saving()
    output = free_output(output, [folder], saving, adapter=True)
    module = _module(open_model(folder), group)
    read = Reader()
    tensors = {name.adapter: _copy(place, read, saving) for name, place in module.tensors.items()}
    save_adapter(output, adapter_config(module.rank, module.scale, base_name), tensors, str(group), saving)


def extract_base(folder: str | Path, output: str | Path, saving: Saving | None = None) -> None:
    """Write the base of a combined checkpoint as a plain Llama. Raises as `extract_module` does."""
    saving = saving or Saving()
    output = free_output(output, [folder], saving)
    model = open_model(folder)
    if not model.is_combined:
        raise InvalidOption(f"{folder} is no combined checkpoint; it holds no module to take away")
    read = Reader()
    tensors = {name: _copy(place, read, saving) for name, place in model.base.items()}
    save_model(output, model.path, _llama_config(model), tensors, BASE, saving)


def merge(
    folder: str | Path,
    output: str | Path,
    group: int | None = None,
    adapter: str | Path | None = None,
    saving: Saving | None = None,
) -> None:
    """Write a plain Llama whose weights are W + scale * B @ A, computed in float32.

    The module is `group` of the combined checkpoint in `folder`, or the PEFT `adapter` for the
    base in `folder`. Raises as `extract_module` does, and InvalidOption if it is not one of the two.
    """
    saving = saving or Saving()
    if (group is None) == (adapter is None):
        raise InvalidOption(
            "give either the group of a combined checkpoint or the adapter for a base to merge"
        )
    output = free_output(output, [folder, *([adapter] if adapter else [])], saving)
    model = open_model(folder)
    if adapter is not None:
        _check_bare(model)
        if Path(adapter).expanduser().resolve() == model.path.resolve():
            raise InvalidOption(
                f"{folder} holds weights and an adapter. In the published repositories of a group the "
                "weights contain the adapter already. If these don't, move the adapter to a folder of its own"
            )
        module = open_adapter(adapter, model)
    else:
        assert group is not None
        module = _module(model, group)
    read = Reader()
    tensors = {}
    for name, place in model.base.items():
        tensors[name] = _copy(place, read, saving)
        if name in module.changes:
            merged = partial(_merged, read, place, module.changes[name])
            tensors[name] = Pending(place.shape, tensors[name].dtype, merged)
    mark = str(module.group or UNKNOWN)
    save_model(output, model.path, _llama_config(model), tensors, mark, saving)


def combine(
    base: str | Path, modules: Mapping[int, str | Path], output: str | Path, saving: Saving | None = None
) -> None:
    """Write a combined checkpoint of a base and PEFT adapters by group.

    The base's tensors come first, then group after group, so that one group lies in few shards.
    Raises as `extract_module` does, and CheckpointError if the adapters differ in rank or scale.
    """
    saving = saving or Saving()
    for group in modules:
        if group not in GROUPS:
            raise InvalidOption(f"{group} is no group of X-ALMA; they are {GROUPS[0]} to {GROUPS[-1]}")
    if not modules:
        raise InvalidOption("combining takes at least one module")
    output = free_output(output, [base, *modules.values()], saving)
    model = open_model(base)
    _check_bare(model)
    opened = {group: open_adapter(modules[group], model) for group in sorted(modules)}
    _check_alike(opened, model.shape.num_hidden_layers)

    read = Reader()
    tensors = {name: _copy(place, read, saving) for name, place in model.base.items()}
    for group, module in opened.items():
        tensors |= {
            name.combined(group): _copy(place, read, saving) for name, place in module.tensors.items()
        }
    first = next(iter(opened.values()))
    config = model.config | {
        "model_type": XALMA,
        "architectures": ["XALMAForCausalLM"],
        "lora_size": first.rank,
        "lora_alpha": plain(first.scale),
    }
    save_model(output, model.path, config, tensors, None, saving)


def _kind(model: ModelFolder) -> str:
    if model.is_combined:
        return "combined"
    if model.mark is None:
        return "llama"
    return "base" if model.mark == BASE else "merged"


def _part(module: Module) -> Part:
    return Part(module.group, languages_of(module.group), *_size(module.tensors.values()))


def _size(places: Iterable[Place]) -> tuple[int, str]:
    """Bytes in all, and the dtypes."""
    places = list(places)
    dtypes = sorted({LONG_NAMES[place.dtype] for place in places})
    return sum(place.nbytes for place in places), ", ".join(dtypes)


def _module(model: ModelFolder, group: int) -> Module:
    if group not in model.modules:
        if not model.modules:
            raise InvalidOption(
                f"{model.path} holds no modules beside its weights; give a combined checkpoint"
            )
        there = ", ".join(map(str, sorted(model.modules)))
        raise InvalidOption(f"{model.path} holds no module of group {group}; it has those of {there}")
    return model.modules[group]


def _check_bare(model: ModelFolder) -> None:
    """A module belongs on the bare base: on a merged model it would give plausible nonsense."""
    if model.is_combined:
        raise InvalidOption(f"{model.path} is a combined checkpoint; adapters go with its base alone")
    if _kind(model) == "merged":
        raise InvalidOption(
            f"{model.path} has a module merged into it already; give the base it was made from"
        )


def _check_alike(modules: Mapping[int, Module], layers: int) -> None:
    """A combined checkpoint has one rank, one scale, and all projections."""
    (first, model), *others = modules.items()
    for group, module in modules.items():
        absent = module.lacks(layers)
        if absent:
            raise CheckpointError(
                f"the adapter for group {group} in {module.source} leaves out {', '.join(absent)}; a "
                "combined checkpoint needs all seven projections of all layers. It can be merged instead."
            )
        if not module.has_one_rank:
            raise CheckpointError(
                f"the adapter for group {group} in {module.source} has several ranks or scales; a combined "
                "checkpoint has one. It can be merged instead."
            )
        if module.group not in (None, group):
            raise CheckpointError(
                f"{module.source} says it is the module of group {module.group}, not of group {group}. "
                "Check which folder belongs to which group."
            )
    for group, module in others:
        for what, is_, want in (
            ("rank", module.rank, model.rank),
            ("scale", plain(module.scale), plain(model.scale)),
        ):
            if is_ != want:
                raise CheckpointError(
                    f"the adapter for group {group} in {module.source} has {what} {is_}, the one for group "
                    f"{first} in {model.source} has {want}; a combined checkpoint has one {what} for all."
                )


def _copy(place: Place, read: Reader, saving: Saving) -> Pending:
    return Pending(place.shape, saving.stored or place.dtype, partial(read, place))


def _merged(read: Reader, weight: Place, change: Change) -> Numbers:
    return change.applied(read(weight), read, "F32")


def _llama_config(model: ModelFolder) -> dict[str, Any]:
    config = {name: value for name, value in model.config.items() if name not in ("lora_size", "lora_alpha")}
    return config | {"model_type": LLAMA, "architectures": ["LlamaForCausalLM"]}
