"""A model's layers as the kernels' structures."""

import ctypes
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dragoman.kernels import structs
from dragoman.kernels.arrays import address
from dragoman.kernels.linear import Linear
from dragoman.kernels.packing import padded_inputs
from dragoman.kernels.structs import DOWN, GATE, KINDS, PROJECTIONS, UP, K, O, Q, V
from dragoman.models.config import NllbConfig, is_sparse_layer
from dragoman.models.llama_config import LlamaConfig
from dragoman.native.weights import Weights

ACTIVATIONS = {"relu": structs.RELU, "gelu": structs.GELU, "silu": structs.SILU, "swish": structs.SILU}
LAYER_NORM, ROOT_MEAN_SQUARE = 1, 2
EPS = 1e-5
"""Of NLLB's norms, which no config says."""
PLACES = {
    "self_attn.q_proj": Q,
    "self_attn.k_proj": K,
    "self_attn.v_proj": V,
    "self_attn.o_proj": O,
    "mlp.gate_proj": GATE,
    "mlp.up_proj": UP,
    "mlp.down_proj": DOWN,
}
"""A Llama layer's projections, by which language modules have products for them."""


class Builder:
    """Collects structures, and keeps alive what they point to."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.alive: list[Any] = []

    def linear(self, name: str) -> structs.Linear:
        return self.struct(self.weights.linear(name))

    def linears(self, names: Iterable[str]) -> Any:
        return self.array(structs.Linear, [self.linear(name) for name in names])

    def struct(self, linear: Linear) -> structs.Linear:
        self.alive.append(linear)
        return linear.struct()

    def layer_norm(self, name: str) -> structs.Norm:
        return structs.Norm(LAYER_NORM, EPS, self._vector(f"{name}.weight"), self._vector(f"{name}.bias"))

    def rms_norm(self, name: str, eps: float) -> structs.Norm:
        return structs.Norm(ROOT_MEAN_SQUARE, eps, self._vector(f"{name}.weight"), None)

    def stack(self, layers: Sequence[structs.Layer], **fields: Any) -> structs.Stack:
        experts = max((layer.experts for layer in layers), default=0)
        array = self.array(structs.Layer, layers)
        return structs.Stack(layers=len(layers), layer=array, max_experts=experts, **fields)

    def array(self, kind: Any, items: Sequence[Any]) -> Any:
        array = (kind * len(items))(*items)
        self.alive.append(array)
        return array

    def _vector(self, name: str) -> int:
        found = self.weights.vector(name)
        self.alive.append(found)
        return address(name, found, np.float32, *found.shape)


def nllb_stack(builder: Builder, config: NllbConfig, side: str) -> structs.Stack:
    """The layers of NLLB's encoder or decoder; side: "encoder" or "decoder"."""
    count, heads, inner, step = (
        getattr(config, f"{side}_{field}")
        for field in ("layers", "attention_heads", "ffn_dim", "sparse_step")
    )
    layers = []
    for index in range(count):
        name = f"{side}.layers.{index}"
        layer = structs.Layer(
            self_norm=builder.layer_norm(f"{name}.self_attn_layer_norm"),
            ffn_norm=builder.layer_norm(f"{name}.ff_layer_norm"),
            q=builder.linear(f"{name}.self_attn.q_proj"),
            k=builder.linear(f"{name}.self_attn.k_proj"),
            v=builder.linear(f"{name}.self_attn.v_proj"),
            o=builder.linear(f"{name}.self_attn.out_proj"),
        )
        if side == "decoder":
            layer.cross_norm = builder.layer_norm(f"{name}.cross_attention_layer_norm")
            layer.cross_q = builder.linear(f"{name}.cross_attention.q_proj")
            layer.cross_o = builder.linear(f"{name}.cross_attention.out_proj")
        if is_sparse_layer(index, step):
            _experts(builder, config, side, layer, name, inner)
        else:
            layer.gate, layer.down = builder.linear(f"{name}.ffn.fc1"), builder.linear(f"{name}.ffn.fc2")
        layers.append(layer)
    width = config.d_model // heads
    return builder.stack(
        layers,
        hidden=config.d_model,
        heads=heads,
        key_heads=heads,
        head_width=width,
        inner=inner,
        activation=ACTIVATIONS[config.activation_function],
        query_scale=width**-0.5,
        last=builder.layer_norm(f"{side}.layer_norm"),
    )


def _experts(
    builder: Builder,
    config: NllbConfig,
    side: str,
    layer: structs.Layer,
    name: str,
    inner: int,
) -> None:
    """Fill in the sparse feed-forward block of a layer."""
    options, coming = config.moe_options(side), builder.weights.experts(side)
    names = [f"{name}.ffn.experts.expert_{number}" for number in range(options.num_experts)]
    layer.experts = len(names)
    layer.router = builder.linear(f"{name}.ffn.router.classifier")
    # Rows that training masked are scaled at inference instead.
    layer.expert_scale = (1 - options.expert_output_masking) * (1 - options.final_output_masking)
    if coming is not None:
        layer.expert_first = builder.array(
            structs.Linear, [_absent(coming.precision, inner, config.d_model)] * len(names)
        )
        layer.expert_second = builder.array(
            structs.Linear, [_absent(coming.precision, config.d_model, inner)] * len(names)
        )
        return
    layer.expert_first = builder.linears(f"{each}.fc1" for each in names)
    layer.expert_second = builder.linears(f"{each}.fc2" for each in names)


def _absent(precision: str, outputs: int, inputs: int) -> structs.Linear:
    """A layer that is not in memory."""
    kind = KINDS[precision]
    return structs.Linear(kind, outputs, inputs, padded_inputs(kind, inputs))


def llama_stack(builder: Builder, config: LlamaConfig, modules: Mapping[int, int]) -> structs.Stack:
    """The layers of a Llama. modules: the number that each language group is to have."""
    layers, rank = [], 0
    for index in range(config.num_hidden_layers):
        name = f"model.layers.{index}"
        layer = structs.Layer(
            self_norm=builder.rms_norm(f"{name}.input_layernorm", config.rms_norm_eps),
            ffn_norm=builder.rms_norm(f"{name}.post_attention_layernorm", config.rms_norm_eps),
        )
        for projection in PLACES:
            field = projection.partition(".")[2].removesuffix("_proj")
            setattr(layer, field, builder.linear(f"{name}.{projection}"))
        if modules:
            adapters = _adapters(builder, name, modules)
            layer.adapters = ctypes.cast(adapters, ctypes.POINTER(structs.Adapter))
            rank = max(rank, *(adapter.a.outputs for adapter in adapters))
        layers.append(layer)
    return builder.stack(
        layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        key_heads=config.num_key_value_heads,
        head_width=config.head_dim,
        inner=config.intermediate_size,
        activation=ACTIVATIONS[config.hidden_act],
        gated=1,
        max_rank=rank,
        query_scale=config.head_dim**-0.5,
        last=builder.rms_norm("model.norm", config.rms_norm_eps),
    )


def _adapters(builder: Builder, layer: str, modules: Mapping[int, int]) -> Any:
    """What the language modules have for a layer, [modules * PROJECTIONS]."""
    array = builder.array(structs.Adapter, [structs.Adapter()] * (len(modules) * PROJECTIONS))
    for group, number in modules.items():
        for projection, place in PLACES.items():
            pair = builder.weights.module(f"{layer}.{projection}", group)
            if pair is not None:
                adapter = structs.Adapter(builder.struct(pair[0]), builder.struct(pair[1]))
                array[number * PROJECTIONS + place] = adapter
    return array
