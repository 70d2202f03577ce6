"""Dense NLLB (model_type m2m_100) into a CTranslate2 folder, without torch or transformers.

Run in CTranslate2's environment: `python -m benchmarks.peers.convert_ctranslate2 FOLDER OUT int8`.
The same as its `M2M100Loader` does, but for the tokens, which are called after their ids where
the checkpoint has no tokenizer.
"""

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ctranslate2.specs import common_spec, transformer_spec
from safetensors import safe_open

Read = Callable[[str], np.ndarray]
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("quantization", choices=("int8", "float32"))
    args = parser.parse_args()
    config = json.loads((args.folder / "config.json").read_text(encoding="utf-8"))
    with safe_open(args.folder / "model.safetensors", framework="numpy") as file:
        spec = convert(config, lambda name: file.get_tensor(f"model.{name}"))
    names = [*SPECIALS, *(f"t{i}" for i in range(len(SPECIALS), config["vocab_size"]))]
    spec.register_source_vocabulary(names)
    spec.register_target_vocabulary(names)
    spec.config.decoder_start_token = "</s>"
    spec.validate()
    spec.optimize(quantization=args.quantization)
    args.out.mkdir(parents=True, exist_ok=True)
    spec.save(str(args.out))


def convert(config: dict, read: Read) -> transformer_spec.TransformerSpec:
    """The model's description with its weights."""
    spec = transformer_spec.TransformerSpec.from_config(
        (config["encoder_layers"], config["decoder_layers"]),
        config["encoder_attention_heads"],
        pre_norm=True,
        activation=common_spec.Activation.RELU,
    )
    shared = read("shared.weight")
    positions = sinusoids(config["max_position_embeddings"], config["d_model"])
    for side in ("encoder", "decoder"):
        part = getattr(spec, side)
        part.scale_embeddings = math.sqrt(config["d_model"])
        part.position_encodings.encodings = positions
        (part.embeddings[0] if side == "encoder" else part.embeddings).weight = shared
        set_norm(part.layer_norm, read, f"{side}.layer_norm")
        for index, layer in enumerate(part.layer):
            set_layer(layer, read, f"{side}.layers.{index}", side == "decoder")
    spec.decoder.projection.weight = shared
    return spec


def set_layer(layer: Any, read: Read, name: str, decoder: bool) -> None:
    own = layer.self_attention
    set_fused(own.linear[0], read, [f"{name}.self_attn.{part}_proj" for part in "qkv"])
    set_linear(own.linear[1], read, f"{name}.self_attn.out_proj")
    set_norm(own.layer_norm, read, f"{name}.self_attn_layer_norm")
    if decoder:
        cross = layer.attention
        set_fused(cross.linear[0], read, [f"{name}.encoder_attn.q_proj"])
        set_fused(cross.linear[1], read, [f"{name}.encoder_attn.{part}_proj" for part in "kv"])
        set_linear(cross.linear[2], read, f"{name}.encoder_attn.out_proj")
        set_norm(cross.layer_norm, read, f"{name}.encoder_attn_layer_norm")
    set_linear(layer.ffn.linear_0, read, f"{name}.fc1")
    set_linear(layer.ffn.linear_1, read, f"{name}.fc2")
    set_norm(layer.ffn.layer_norm, read, f"{name}.final_layer_norm")


def set_linear(spec: common_spec.LinearSpec, read: Read, name: str) -> None:
    set_fused(spec, read, [name])


def set_fused(spec: common_spec.LinearSpec, read: Read, names: list[str]) -> None:
    spec.weight = np.concatenate([read(f"{name}.weight") for name in names])
    spec.bias = np.concatenate([read(f"{name}.bias") for name in names])


def set_norm(spec: common_spec.LayerNormSpec, read: Read, name: str) -> None:
    spec.gamma, spec.beta = read(f"{name}.weight"), read(f"{name}.bias")


def sinusoids(count: int, width: int) -> np.ndarray:
    """fairseq's positions [count, width]: sines, then cosines; the first token's is number 2."""
    half = width // 2
    frequencies = np.exp(np.arange(half, dtype=np.float32) * -(math.log(10000) / (half - 1)))
    angles = (np.arange(count, dtype=np.float32) + 2)[:, None] * frequencies[None]
    return np.concatenate([np.sin(angles), np.cos(angles)], 1)


if __name__ == "__main__":
    main()
