"""The parameters that a config describes, by name and shape, without building the model."""

from collections.abc import Iterator
from functools import lru_cache

from dragoman.errors import Shape
from dragoman.models.config import NllbConfig, is_sparse_layer
from dragoman.models.llama_config import LlamaConfig

Named = tuple[str, Shape]


@lru_cache(maxsize=8)
def nllb_shapes(config: NllbConfig) -> dict[str, Shape]:
    """Those of NLLB under their in-memory names; not to be changed. Tied embeddings count once."""
    table = (config.vocab_size, config.d_model)
    found: dict[str, Shape] = {"shared.weight": table}
    sides = (
        ("encoder", config.encoder_layers, config.encoder_ffn_dim, config.encoder_sparse_step),
        ("decoder", config.decoder_layers, config.decoder_ffn_dim, config.decoder_sparse_step),
    )
    for side, layers, inner, step in sides:
        for index in range(layers):
            sparse = is_sparse_layer(index, step)
            layer = _nllb_layer(config, side, inner, sparse)
            found |= {f"{side}.layers.{index}.{name}": shape for name, shape in layer}
        found |= dict(_norm(f"{side}.layer_norm", config.d_model))
    return found if config.tie_word_embeddings else found | {"lm_head.weight": table}


@lru_cache(maxsize=8)
def llama_shapes(config: LlamaConfig) -> dict[str, Shape]:
    """Those of a Llama without language modules; not to be changed. Tied embeddings count once."""
    hidden, inner, table = config.hidden_size, config.intermediate_size, "model.embed_tokens.weight"
    queries, keys = (
        heads * config.head_dim for heads in (config.num_attention_heads, config.num_key_value_heads)
    )
    sizes = {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    found: dict[str, Shape] = {table: (config.vocab_size, hidden)}
    for index in range(config.num_hidden_layers):
        for name, size in sizes.items():
            has_bias = config.attention_bias if name.startswith("self_attn") else config.mlp_bias
            found |= dict(_linear(f"model.layers.{index}.{name}", *size, bias=has_bias))
        for name in ("input_layernorm", "post_attention_layernorm"):
            found[f"model.layers.{index}.{name}.weight"] = (hidden,)
    found["model.norm.weight"] = (hidden,)
    return found if config.tie_word_embeddings else found | {"lm_head.weight": found[table]}


def _nllb_layer(config: NllbConfig, side: str, inner: int, sparse: bool) -> Iterator[Named]:
    hidden, experts = config.d_model, config.experts(side)
    for attention in ("self_attn", "cross_attention") if side == "decoder" else ("self_attn",):
        for projection in ("k_proj", "v_proj", "q_proj", "out_proj"):
            yield from _linear(f"{attention}.{projection}", hidden, hidden)
        yield from _norm(f"{attention}_layer_norm", hidden)
    blocks = ["ffn"]
    if sparse:
        yield from _linear("ffn.router.classifier", experts, hidden, bias=config.router_bias)
        blocks = [f"ffn.experts.expert_{expert}" for expert in range(experts)]
    for block in blocks:
        yield from _linear(f"{block}.fc1", inner, hidden)
        yield from _linear(f"{block}.fc2", hidden, inner)
    yield from _norm("ff_layer_norm", hidden)


def _linear(name: str, outputs: int, inputs: int, bias: bool = True) -> Iterator[Named]:
    yield f"{name}.weight", (outputs, inputs)
    if bias:
        yield f"{name}.bias", (outputs,)


def _norm(name: str, size: int) -> Iterator[Named]:
    yield f"{name}.weight", (size,)
    yield f"{name}.bias", (size,)
