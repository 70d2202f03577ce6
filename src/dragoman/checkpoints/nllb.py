"""Loading and saving NLLB models in the published formats.

In memory a parameter has the name it has in the NLLB-MoE release. The dense release spells
a few names otherwise; both spellings, with or without the `model.` prefix that
transformers adds, are understood in any file.
"""

import re
from pathlib import Path

import torch

from dragoman.checkpoints.loading import assign, check_dtype
from dragoman.checkpoints.weight_files import find_shards, open_shard, replacing, write_shards
from dragoman.errors import CheckpointError, InvalidOption, KeyMismatch, Shape
from dragoman.files import write_json
from dragoman.layers.creation import unfilled
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
    model = _skeleton(NllbConfig.from_folder(folder))
    for path, wanted in _plan(folder, model).items():
        stored = open_shard(path)
        for key, name in wanted.items():
            tensor = stored[key].read()
            assign(model, name, tensor.to(device=device, dtype=dtype or tensor.dtype))
    model.tie_weights()
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


def _skeleton(config: NllbConfig) -> Nllb:
    """The model without memory for its weights, which would only be filled to be thrown away."""
    with unfilled():
        return Nllb(config)


def _plan(folder: Path, model: Nllb) -> dict[Path, dict[str, str]]:
    """Which tensor becomes which parameter, {file: {stored key: parameter name}}; complete and checked."""
    expected = {name: tuple(p.shape) for name, p in model.named_parameters()}
    copies = EMBEDDINGS if OUTPUT in expected else (*EMBEDDINGS, OUTPUT)
    expected |= dict.fromkeys(copies, expected[SHARED])
    found, unexpected, misshapen = _compare(folder, expected)

    embeddings = [name for name in copies if name in found]
    missing = [name for name in expected if name not in found and name not in copies]
    if not embeddings:
        missing.insert(0, SHARED)
    if missing or unexpected or misshapen:
        names = [published_name(name, model.config) for name in missing]
        raise KeyMismatch.in_folder(folder, names, unexpected, misshapen)
    _check_copies([found[name] for name in embeddings], model.config)

    plan: dict[Path, dict[str, str]] = {}
    for name, (path, key) in found.items():
        if name not in embeddings[1:]:
            plan.setdefault(path, {})[key] = SHARED if name in embeddings else name
    return plan


Place = tuple[Path, str]
"""Where a tensor is stored: the file and its key there."""


def _compare(
    folder: Path, expected: dict[str, Shape]
) -> tuple[dict[str, Place], list[str], dict[str, tuple[Shape, Shape]]]:
    """The places of all tensors we expect, the keys we don't, and those with (stored, expected) shapes."""
    found: dict[str, Place] = {}
    unexpected: list[str] = []
    misshapen: dict[str, tuple[Shape, Shape]] = {}
    for path in find_shards(folder):
        for key, stored in open_shard(path).items():
            name = moe_name(key)
            if _is_ignored(name):
                continue
            if name not in expected:
                unexpected.append(key)
                continue
            if name in found:
                other, twin = found[name]
                raise CheckpointError(
                    f"{folder} holds {name} twice: as {twin} in {other.name} and as {key} in {path.name}. "
                    "Leave only the files of one model there."
                )
            found[name] = path, key
            if stored.shape != expected[name]:
                misshapen[key] = stored.shape, expected[name]
            elif not stored.is_plain:
                raise CheckpointError(
                    f"{path} stores {key} as {stored.dtype}, so it is quantised. Get the model in float32, "
                    "float16 or bfloat16; it can be quantised after loading."
                )
    return found, unexpected, misshapen


def _check_copies(places: list[Place], config: NllbConfig) -> None:
    """An untied model may store embeddings that differ; here encoder and decoder share one."""
    if config.tie_word_embeddings:
        return
    first, *others = (open_shard(path)[key].read() for path, key in places)
    for (path, key), other in zip(places[1:], others, strict=True):
        if not torch.equal(first, other):
            raise CheckpointError(
                f"{key} in {path} differs from {places[0][1]}. Only models whose encoder and decoder share "
                "one embedding can be loaded."
            )


def _check_whole(model: Nllb) -> None:
    """Quantised, offloaded or cut models have no published form."""
    published = {name: p.shape for name, p in _skeleton(model.config).named_parameters()}
    present = {name: p.shape for name, p in model.named_parameters() if not p.is_meta}
    odd = [name for name in published | present if published.get(name) != present.get(name)]
    if odd:
        raise CheckpointError(
            f"{len(odd)} parameters are not what the model's config describes, among them {odd[0]}. A model "
            "can't be saved once it was quantised, offloaded or cut; save it before that."
        )
