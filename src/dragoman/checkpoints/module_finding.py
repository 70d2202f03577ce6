"""The language module of a group: where it is, and whether it fits a model."""

from collections.abc import Mapping
from pathlib import Path

from dragoman.checkpoints.families import ADAPTER_CONFIG
from dragoman.checkpoints.module_folders import Module, has_weights, open_adapter, open_model
from dragoman.checkpoints.module_layout import (
    PARTS,
    LoraName,
    base_shapes,
    lora_shapes,
    projection_sizes,
)
from dragoman.errors import CheckpointError, KeyMismatch, LanguageModuleError, Shape
from dragoman.models.llama_config import LlamaConfig


def find_module(source: str | Path | None, group: int, config: LlamaConfig) -> Module:
    """The module of `group`, none of it read yet, for a model of this shape.

    source: a combined checkpoint or an adapter's folder; None for a model that came with neither.
    Raises LanguageModuleError where that is so, CheckpointError if the module isn't there, and what
    `check_fit` does.
    """
    if source is None:
        raise LanguageModuleError(
            f"the model has no module of group {group}, as it did not come from a combined checkpoint; take "
            "one that did, such as haoranxu/X-ALMA, or that group's own"
        )
    module = _find(Path(source).expanduser(), group)
    check_fit(config, {name: place.shape for name, place in module.tensors.items()}, str(source), whole=False)
    return module


def _find(folder: Path, group: int) -> Module:
    if (folder / ADAPTER_CONFIG).is_file():
        module = open_adapter(folder)
        if module.group not in (None, group):
            raise CheckpointError(
                f"{folder} says it is the module of group {module.group}, not of group {group}"
            )
        return module
    if not has_weights(folder):
        raise CheckpointError(f"{folder} holds neither a combined checkpoint nor a PEFT adapter")
    model = open_model(folder)
    if group not in model.modules:
        there = ", ".join(map(str, sorted(model.modules))) or "none"
        raise CheckpointError(f"{folder} holds no module of group {group}; groups there: {there}")
    return model.modules[group]


def check_fit(config: LlamaConfig, found: Mapping[LoraName, Shape], where: str, whole: bool) -> None:
    """KeyMismatch unless the tensors of a module fit the model, LanguageModuleError if one is no matrix.

    whole: whether a projection that is changed must be so in all layers, as nothing says otherwise.
    """
    for name, shape in found.items():
        if len(shape) != 2 or 0 in shape:
            raise LanguageModuleError(
                f"{name.adapter} has the shape {list(shape)} in {where}; a module's tensors are matrices "
                "of a rank of at least 1"
            )
    layers = range(config.num_hidden_layers)
    pairs = dict.fromkeys((name.layer, name.projection) for name in found if name.layer in layers)
    if whole:
        present = {name.projection for name in found}
        pairs = dict.fromkeys((layer, name) for layer in layers for name in PARTS if name in present)
    first = next((shape[0] for name, shape in found.items() if name.side == "A"), 0)
    ranks = {name.module: shape[0] for name, shape in found.items() if name.side == "A" and not whole}
    sizes = projection_sizes(base_shapes(config))
    expected = lora_shapes(pairs, sizes, lambda module: ranks.get(module, first))
    missing = [name.adapter for name in expected if name not in found]
    unexpected = [name.adapter for name in found if name not in expected]
    misshapen = {
        name.adapter: (shape, expected[name])
        for name, shape in found.items()
        if name in expected and shape != expected[name]
    }
    if missing or unexpected or misshapen:
        raise KeyMismatch.in_folder(where, missing, unexpected, misshapen, "the model")
