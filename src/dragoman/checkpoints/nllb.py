"""Loading and saving NLLB models in the published formats.

In memory a parameter has the name it has in the NLLB-MoE release. The dense release spells
a few names otherwise; both spellings, with or without the `model.` prefix that
transformers adds, are understood in any file.
"""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from dragoman.checkpoints.adapters import Adapter, changed_shape, open_lora
from dragoman.checkpoints.catalog import base_of
from dragoman.checkpoints.families import is_adapter
from dragoman.checkpoints.loading import (
    Place,
    Reader,
    check_dtype,
    compare,
    fill,
    find_tensors,
    shapes_of,
    skeleton,
)
from dragoman.checkpoints.weight_files import find_shards, replacing, write_shards
from dragoman.errors import CheckpointError, InvalidOption, KeyMismatch
from dragoman.files import write_json
from dragoman.models.config import DENSE, NllbConfig
from dragoman.models.nllb import Nllb

OUTPUT = "lm_head.weight"
SHARED = "shared.weight"
# Where the shared embedding may be stored; the first that is there is taken, others are its copies.
EMBEDDINGS = (SHARED, "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")


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
    folder = Path(folder)
    adapter = open_lora(folder, _weight_of) if is_adapter(folder) else None
    folder = folder if adapter is None else base_of(folder)
    config = NllbConfig.from_folder(folder)
    places = _plan(folder, skeleton(partial(Nllb, config)))
    if adapter is not None:
        places, config = _adapted(places, config, adapter)
    model = skeleton(partial(Nllb, config))
    fill(model, places, dtype, device, None if adapter is None else adapter.changes)
    return model.eval()


def save_nllb(
    model: Nllb,
    folder: str | Path,
    dtype: torch.dtype | None = None,
    max_shard_bytes: int = 5_000_000_000,
) -> None:
    """Write config.json and safetensors under the published names of the model's type.

    dtype: what to store the weights in (None: as they are). A checkpoint of more than
    `max_shard_bytes` becomes several files and an index. An older checkpoint in `folder`
    stays as it is until the new one is complete. Raises CheckpointError if it can't be written.
    """
    check_dtype(dtype)
    if max_shard_bytes < 1:
        raise InvalidOption(f"max_shard_bytes is {max_shard_bytes}; it must be at least 1")
    _check_whole(model)
    tensors = {published_name(name, model.config): p.detach() for name, p in model.named_parameters()}
    if not model.config.tie_word_embeddings:
        # transformers 5 unties these too, and would fill absent ones at random.
        copies = {published_name(name, model.config): model.shared.weight for name in EMBEDDINGS[1:]}
        tensors |= {name: weight.detach() for name, weight in copies.items()}
    with replacing(Path(folder)) as scratch:
        write_json(scratch / "config.json", model.config.to_dict(), sort_keys=True)
        write_shards(scratch, tensors, dtype, max_shard_bytes)


def moe_name(key: str) -> str:
    """The in-memory name of a parameter, which is NLLB-MoE's, from either published spelling."""
    return _respell(key.removeprefix("model."), _DENSE_TO_MOE)


def dense_name(name: str) -> str:
    """The dense release's spelling of an in-memory name, without prefix; undone by `moe_name`."""
    return _respell(name, _MOE_TO_DENSE)


def published_name(name: str, config: NllbConfig) -> str:
    """The name under which a model of this config stores the in-memory `name`."""
    if name == OUTPUT:
        return name
    if config.model_type == DENSE:
        return "model." + dense_name(name)
    # The MoE release is the bare base model. An output layer of its own is no part of that,
    # and beside one transformers finds the rest only under the prefix.
    return name if config.tie_word_embeddings else "model." + name


_DENSE_TO_MOE = {
    "encoder_attn": "cross_attention",
    "encoder_attn_layer_norm": "cross_attention_layer_norm",
    "final_layer_norm": "ff_layer_norm",
    "fc1": "ffn.fc1",
    "fc2": "ffn.fc2",
}
_MOE_TO_DENSE = {moe: dense for dense, moe in _DENSE_TO_MOE.items()}
_IN_LAYER = re.compile(r"((?:encoder|decoder)\.layers\.\d+\.)((?:ffn\.)?\w+)(\..+)")


def _respell(name: str, spelling: dict[str, str]) -> str:
    match = _IN_LAYER.fullmatch(name)
    if match is None:
        return name
    layer, part, rest = match.groups()
    return layer + spelling.get(part, part) + rest


def _is_ignored(name: str) -> bool:
    """Whether a stored tensor is one that is computed here, or a bias that is always zero."""
    computed = (".embed_positions.weights", ".embed_positions._float_tensor")
    return name == "final_logits_bias" or name.endswith(computed)


def _name_of(key: str) -> str | None:
    name = moe_name(key)
    return None if _is_ignored(name) else name


def _plan(folder: Path, model: Nllb) -> dict[str, Place]:
    """Where each parameter is stored; complete and checked."""
    expected = shapes_of(model)
    copies = EMBEDDINGS if OUTPUT in expected else (*EMBEDDINGS, OUTPUT)
    found = find_tensors(find_shards(folder), _name_of, folder)
    stored = [name for name in copies if name in found]
    expected |= dict.fromkeys(stored, expected[SHARED])
    optional = copies if stored else ()
    compare(folder, found, expected, optional, lambda name: published_name(name, model.config))
    _check_copies([found[name] for name in stored], model.config)
    shared = found.pop(stored[0])
    return {SHARED: shared} | {name: place for name, place in found.items() if name not in stored}


def _weight_of(key: str) -> str | None:
    """The parameter that an adapter's key in the base's spelling means; copies of the embedding are it."""
    name = moe_name(key)
    return SHARED if name in EMBEDDINGS else name


def _adapted(
    places: dict[str, Place], config: NllbConfig, adapter: Adapter
) -> tuple[dict[str, Place], NllbConfig]:
    """Places and config of a base with an adapter's whole weights in the stead of its own.

    KeyMismatch if the adapter belongs to another base.
    """
    whole = dict(adapter.whole)
    if config.tie_word_embeddings:
        whole.pop(OUTPUT, None)  # a copy of the embedding
    given = {name: changed_shape(change) for name, change in adapter.changes.items()}
    given |= {name: place.shape for name, place in whole.items()}
    strange = [name for name in given if name not in places]
    misshapen = {
        name: (shape, places[name].shape)
        for name, shape in given.items()
        # New tokens bring new rows.
        if name in places and shape != places[name].shape
        if not (name in whole and name in (SHARED, OUTPUT) and shape[1:] == places[name].shape[1:])
    }
    if strange or misshapen:
        raise KeyMismatch.in_folder(adapter.folder, [], strange, misshapen, "the base it names")
    rows = whole[SHARED].shape[0] if SHARED in whole else config.vocab_size
    return places | whole, replace(config, vocab_size=rows)


def _check_copies(places: list[Place], config: NllbConfig) -> None:
    """An untied model may store embeddings that differ; here encoder and decoder share one."""
    if config.tie_word_embeddings:
        return
    read = Reader()
    first, *others = (read(place) for place in places)
    for place, other in zip(places[1:], others, strict=True):
        if not torch.equal(first, other):
            raise CheckpointError(
                f"{place.key} in {place.file} differs from {places[0].key}. Only models whose encoder and "
                "decoder share one embedding can be loaded."
            )


def _check_whole(model: Nllb) -> None:
    """Quantised, offloaded or cut models have no published form."""
    published = {name: p.shape for name, p in skeleton(partial(Nllb, model.config)).named_parameters()}
    present = {name: p.shape for name, p in model.named_parameters() if not p.is_meta}
    odd = [name for name in published | present if published.get(name) != present.get(name)]
    if odd:
        raise CheckpointError(
            f"{len(odd)} parameters are not what the model's config describes, among them {odd[0]}. A model "
            "can't be saved once it was quantised, offloaded or cut; save it before that."
        )
