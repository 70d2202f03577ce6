"""NLLB in files: what its tensors are called, where each one is, and what an adapter changes of them."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dragoman.checkpoints.adapters import Adapter, changed_shape, open_lora
from dragoman.checkpoints.catalog import base_of
from dragoman.checkpoints.families import is_adapter
from dragoman.checkpoints.packed_facts import refuse_packed
from dragoman.checkpoints.places import Change, Place, Reader, compare, find_tensors
from dragoman.checkpoints.weight_files import find_shards
from dragoman.errors import CheckpointError, KeyMismatch
from dragoman.models.config import DENSE, NllbConfig
from dragoman.models.shapes import nllb_shapes

OUTPUT = "lm_head.weight"
SHARED = "shared.weight"
# Where the shared embedding may be stored; the first that is there is taken, others are its copies.
EMBEDDINGS = (SHARED, "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")


@dataclass(frozen=True)
class NllbFiles:
    """A checkpoint of which everything is known but its numbers."""

    config: NllbConfig
    places: dict[str, Place]
    """By in-memory name, each once."""
    changes: dict[str, Change]
    """What an adapter adds to weights, by their names."""


def open_nllb(folder: str | Path) -> NllbFiles:
    """The model in `folder`, or an adapter with its base: all names and shapes compared with config.json.

    Raises ConfigError, CheckpointError, or KeyMismatch with every tensor that doesn't fit.
    """
    folder = Path(folder)
    adapter = open_lora(folder, _weight_of) if is_adapter(folder) else None
    folder = folder if adapter is None else base_of(folder)
    refuse_packed(folder)
    config = NllbConfig.from_folder(folder)
    places = _plan(folder, config)
    if adapter is None:
        return NllbFiles(config, places, {})
    places, config = _adapted(places, config, adapter)
    return NllbFiles(config, places, dict(adapter.changes))


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


def _plan(folder: Path, config: NllbConfig) -> dict[str, Place]:
    """Where each parameter is stored; complete and checked."""
    expected = dict(nllb_shapes(config))
    copies = EMBEDDINGS if OUTPUT in expected else (*EMBEDDINGS, OUTPUT)
    found = find_tensors(find_shards(folder), _name_of, folder)
    stored = [name for name in copies if name in found]
    expected |= dict.fromkeys(stored, expected[SHARED])
    optional = copies if stored else ()
    compare(folder, found, expected, optional, lambda name: published_name(name, config))
    _check_copies([found[name] for name in stored], config)
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
        if not np.array_equal(first.float32(), other.float32()):
            raise CheckpointError(
                f"{place.key} in {place.file} differs from {places[0].key}. Only models whose encoder and "
                "decoder share one embedding can be loaded."
            )
