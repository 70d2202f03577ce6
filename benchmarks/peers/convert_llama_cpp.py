"""Llama into a GGUF file of 4 bits, as llama.cpp's own `llama-quantize FILE Q4_0` makes it.

Run in llama.cpp's environment: `python -m benchmarks.peers.convert_llama_cpp FOLDER OUT.gguf`.
First a file in float16 beside OUT, tensor by tensor, then the library's quantiser: Q4_0 for all
matrices and the embedding, Q6_K for the output layer, float32 for the norms. The tokens are
called after their ids: the benchmark speaks in ids.
"""

import argparse
import json
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
from safetensors import safe_open

Q4_0 = 2  # LLAMA_FTYPE_MOSTLY_Q4_0
NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--threads", type=int, default=1, help="for the quantiser (default: 1)")
    args = parser.parse_args()
    half = args.out.with_suffix(".f16.gguf")
    try:
        write_half(args.folder, half)
        quantize(half, args.out, args.threads)
    finally:
        half.unlink(missing_ok=True)


def write_half(folder: Path, out: Path) -> None:
    """The model in float16, norms in float32; memory holds one tensor at a time."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    writer = gguf.GGUFWriter(out, "llama")
    describe(writer, config)
    with safe_open(folder / "model.safetensors", framework="numpy") as file:
        names = sorted(file.keys())
        for name in names:
            shape = file.get_slice(name).get_shape()
            dtype = np.dtype(np.float32 if len(shape) == 1 else np.float16)
            writer.add_tensor_info(gguf_name(name), shape, dtype, int(np.prod(shape)) * dtype.itemsize)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name in names:
            tensor = file.get_tensor(name)
            part = name.split(".")[-2]
            if part in heads:
                tensor = interleave(tensor, heads[part])
            kept = np.float32 if tensor.ndim == 1 else np.float16
            writer.write_tensor_data(np.ascontiguousarray(tensor, kept))
    writer.close()


def describe(writer: gguf.GGUFWriter, config: dict) -> None:
    """The shape, and a vocabulary whose 256 bytes and specials stand where Llama has them."""
    vocabulary = config["vocab_size"]
    writer.add_vocab_size(vocabulary)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    specials, pieces = ["<unk>", "<s>", "</s>"], [f"<0x{byte:02X}>" for byte in range(256)]
    names = [*specials, *pieces, *(f"t{i}" for i in range(259, vocabulary))]
    kinds = [2, 3, 3] + [6] * 256 + [1] * (vocabulary - 259)  # unknown, control, byte, normal
    writer.add_tokenizer_model("llama")
    writer.add_token_list(names)
    writer.add_token_scores([0.0] * vocabulary)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def gguf_name(name: str) -> str:
    """llama.cpp's name of a published tensor."""
    outer = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    if name in outer:
        return outer[name]
    _, _, index, *part, kind = name.split(".")
    return f"blk.{index}.{NAMES['.'.join(part)]}.{kind}"


def interleave(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows [heads * size, hidden] in llama.cpp's order: it turns neighbours, not halves, of a head."""
    rows, hidden = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, hidden).swapaxes(1, 2).reshape(rows, hidden)


def quantize(source: Path, out: Path, threads: int) -> None:
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = Q4_0, threads
    if llama_cpp.llama_model_quantize(str(source).encode(), str(out).encode(), params):
        raise SystemExit(f"llama.cpp could not quantise {source}")


if __name__ == "__main__":
    main()
