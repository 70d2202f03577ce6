"""Loading X-ALMA, ALMA and ALMA-R: combined, merged, or a base with adapters."""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from dragoman.checkpoints.llama_files import Adapters, open_llama
from dragoman.checkpoints.loading import check_dtype, fill, skeleton
from dragoman.checkpoints.module_folders import Module
from dragoman.checkpoints.module_layout import PARTS, LoraName
from dragoman.checkpoints.places import Reader
from dragoman.checkpoints.torch_tensors import tensor_of
from dragoman.layers.lora import AdaptedProjections
from dragoman.models.llama import Llama, LlamaLayer, LlamaStack


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
    files = open_llama(folder, groups, adapter, merged_group)
    model = skeleton(partial(Llama, files.config))
    fill(model, files.places, dtype, device, files.changes)
    language, read = model.model.language, Reader()
    for group, module in files.modules.items():
        attach_from_files(model.model, group, module, read)
        language.scales[group] = float(module.scale)
    language.merged, language.source = files.merged, files.source
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
