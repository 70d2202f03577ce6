"""Loading and saving NLLB models in the published formats.

In memory a parameter has the name it has in the NLLB-MoE release. The dense release spells
a few names otherwise; both spellings, with or without the `model.` prefix that
transformers adds, are understood in any file.
"""

import re
from functools import partial
from pathlib import Path

import torch

from dragoman.checkpoints.compressed import FIELD, SCALE, WHOLE, quantised, quantization_config
from dragoman.checkpoints.loading import check_dtype, fill, pending, skeleton
from dragoman.checkpoints.nllb_files import EMBEDDINGS, open_nllb, published_name
from dragoman.checkpoints.packing import ROUTER
from dragoman.checkpoints.torch_tensors import numbers_of
from dragoman.checkpoints.weight_files import Pending, replacing, write_shards
from dragoman.errors import CheckpointError, InvalidOption
from dragoman.files import write_json
from dragoman.models.nllb import Nllb
from dragoman.models.shapes import nllb_shapes


def load_nllb(
    folder: str | Path,
    dtype: torch.dtype | None = torch.float32,
    device: torch.device | str = "cpu",
) -> Nllb:
    """The model in `folder`, in eval mode, its weights in `dtype` (None: as stored) on `device`.

    All names and shapes are compared with config.json before the first weight is read.
    Weights that need no conversion stay in the file until they are used, so the file may be
    replaced or deleted, but not written into, while the model lives.
    Raises ConfigError, CheckpointError, or KeyMismatch with every tensor that doesn't fit.
    """
    check_dtype(dtype)
    files = open_nllb(folder)
    model = skeleton(partial(Nllb, files.config))
    fill(model, files.places, dtype, device, files.changes)
    return model.eval()


def save_nllb(
    model: Nllb,
    folder: str | Path,
    dtype: torch.dtype | None = None,
    max_shard_bytes: int = 5_000_000_000,
) -> None:
    """Write config.json and safetensors under the published names of the model's type.

    dtype: what to store the weights in (None: as they are). torch.int8: matrices in 8 bits with a scale a
    row, as `checkpoints.compressed` has it, routers and vectors in float32. A checkpoint of more than
    `max_shard_bytes` becomes several files and an index. An older checkpoint in `folder`
    stays as it is until the new one is complete. Raises CheckpointError if it can't be written.
    """
    in_bytes = dtype == torch.int8
    if not in_bytes:
        check_dtype(dtype)
    if max_shard_bytes < 1:
        raise InvalidOption(f"max_shard_bytes is {max_shard_bytes}; it must be at least 1")
    _check_whole(model)
    tensors: dict[str, torch.Tensor] = {
        published_name(name, model.config): parameter for name, parameter in model.named_parameters()
    }
    if not model.config.tie_word_embeddings:
        # transformers 5 unties these too, and would fill absent ones at random.
        copies = {published_name(name, model.config): model.shared.weight for name in EMBEDDINGS[1:]}
        tensors |= copies
    config = model.config.to_dict()
    waiting: dict[str, Pending] = {}
    for name, tensor in tensors.items():
        waiting |= _in_bytes(name, tensor) if in_bytes else {name: pending(tensor, dtype)}
    if in_bytes:
        config[FIELD] = quantization_config([f"re:.*{re.escape(ROUTER)}"])
    with replacing(Path(folder)) as scratch:
        write_json(scratch / "config.json", config, sort_keys=True)
        write_shards(scratch, waiting, None, max_shard_bytes)


def _in_bytes(name: str, tensor: torch.Tensor) -> dict[str, Pending]:
    """A matrix in 8 bits and its scales, anything else in float32; nothing is converted before its turn."""
    if tensor.dim() != 2 or name.removesuffix(".weight").endswith(ROUTER):
        return {name: pending(tensor, torch.float32)}
    rows, columns = tensor.shape
    return {
        name: Pending((rows, columns), WHOLE, lambda: quantised(numbers_of(tensor))[0]),
        name + SCALE: Pending((rows, 1), "F32", lambda: quantised(numbers_of(tensor))[1]),
    }


def _check_whole(model: Nllb) -> None:
    """Quantised, offloaded or cut models have no published form."""
    published = nllb_shapes(model.config)
    present = {name: tuple(p.shape) for name, p in model.named_parameters() if not p.is_meta}
    odd = [name for name in published | present if published.get(name) != present.get(name)]
    if odd:
        raise CheckpointError(
            f"{len(odd)} parameters are not what the model's config describes, among them {odd[0]}. A model "
            "can't be saved once it was quantised, offloaded or cut; save it before that."
        )
