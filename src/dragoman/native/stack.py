"""A model's layers as the kernels' structures."""

import ctypes
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from dragoman.kernels import structs
from dragoman.kernels.arrays import Array, address, address_or_none
from dragoman.kernels.library import needed
from dragoman.kernels.structs import DOWN, GATE, PROJECTIONS, SPAN, UP, K, O, Q, V
from dragoman.layers.lora import AdaptedProjections
from dragoman.layers.moe import DenseMLP, SparseMLP
from dragoman.layers.norm import RMSNorm
from dragoman.layers.packed import PackedLinear
from dragoman.models.llama import LlamaLayer, LlamaStack
from dragoman.models.nllb import Decoder, DecoderLayer, Encoder, EncoderLayer

ACTIVATIONS = {"relu": structs.RELU, "gelu": structs.GELU, "silu": structs.SILU, "swish": structs.SILU}


class Builder:
    """Collects structures, and keeps alive what they point to."""

    def __init__(self) -> None:
        self.alive: list[Any] = []

    def linear(self, module: nn.Module) -> structs.Linear:
        """A linear layer; one that isn't packed yet (a router) is, in fp32, for the kernels alone."""
        if isinstance(module, nn.Linear):
            module = PackedLinear.of(module, "fp32")
        assert isinstance(module, PackedLinear), f"{type(module).__name__} can't run in the kernels"
        # The module's own memory, also where `.half()` or `.to()` give the module another.
        kernel = module.kernel()
        self.alive.append(kernel)
        return kernel.struct()

    def linears(self, modules: Iterable[nn.Module]) -> Any:
        found = [self.linear(module) for module in modules]
        return self._array(structs.Linear, found)

    def norm(self, module: nn.Module) -> structs.Norm:
        assert isinstance(module, nn.LayerNorm | RMSNorm)
        bias = module.bias if isinstance(module, nn.LayerNorm) else None
        kind = 1 if isinstance(module, nn.LayerNorm) else 2
        return structs.Norm(kind, module.eps, self.vector(module.weight), self.vector(bias))

    def vector(self, tensor: Tensor | None) -> int | None:
        """Where a float32 copy of `tensor` (itself, if it is one) lies."""
        if tensor is None:
            return None
        array = tensor.detach().float().contiguous().numpy()
        self.alive.append(array)
        return address("a norm's weights", array, np.float32, *array.shape)

    def stack(self, layers: Sequence[structs.Layer], **fields: Any) -> structs.Stack:
        experts = max((layer.experts for layer in layers), default=0)
        array = self._array(structs.Layer, layers)
        return structs.Stack(layers=len(layers), layer=array, max_experts=experts, **fields)

    def feed_forward(self, layer: structs.Layer, ffn: nn.Module) -> None:
        """Fill in a plain or sparse feed-forward block."""
        if isinstance(ffn, DenseMLP):
            layer.gate, layer.down = self.linear(ffn.fc1), self.linear(ffn.fc2)
            return
        assert isinstance(ffn, SparseMLP)
        experts = list(ffn.experts.values())
        layer.experts = len(experts)
        layer.router = self.linear(ffn.router.classifier)
        # Rows that training masked are scaled at inference instead.
        layer.expert_scale = (1 - ffn.options.expert_output_masking) * (1 - ffn.options.final_output_masking)
        layer.expert_first = self.linears(expert.fc1 for expert in experts)  # type: ignore[misc]
        layer.expert_second = self.linears(expert.fc2 for expert in experts)  # type: ignore[misc]

    def _array(self, kind: Any, items: Sequence[Any]) -> Any:
        array = (kind * len(items))(*items)
        self.alive.append(array)
        return array


def nllb_stack(builder: Builder, stack: Encoder | Decoder) -> structs.Stack:
    """The layers of NLLB's encoder or decoder."""
    layers = []
    inner = 0
    for module in stack.layers:
        assert isinstance(module, EncoderLayer | DecoderLayer)
        own = module.self_attn
        layer = structs.Layer(
            self_norm=builder.norm(module.self_attn_layer_norm),
            ffn_norm=builder.norm(module.ff_layer_norm),
            q=builder.linear(own.q_proj),
            k=builder.linear(own.k_proj),
            v=builder.linear(own.v_proj),
            o=builder.linear(own.out_proj),
        )
        if isinstance(module, DecoderLayer):
            layer.cross_norm = builder.norm(module.cross_attention_layer_norm)
            layer.cross_q = builder.linear(module.cross_attention.q_proj)
            layer.cross_o = builder.linear(module.cross_attention.out_proj)
        builder.feed_forward(layer, module.ffn)
        inner = max(inner, (layer.expert_first[0] if layer.experts else layer.gate).outputs)
        layers.append(layer)
    config = stack.shape
    heads = config.encoder_attention_heads if isinstance(stack, Encoder) else config.decoder_attention_heads
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
        last=builder.norm(stack.layer_norm),
    )


def llama_stack(builder: Builder, stack: LlamaStack) -> tuple[structs.Stack, dict[int, int]]:
    """The layers of a Llama, and which module number each attached language group has."""
    groups = {group: number for number, group in enumerate(sorted(stack.language.scales))}
    layers = []
    rank = 0
    for module in stack.layers:
        assert isinstance(module, LlamaLayer)
        own, mlp = module.self_attn, module.mlp
        layer = structs.Layer(
            self_norm=builder.norm(module.input_layernorm),
            ffn_norm=builder.norm(module.post_attention_layernorm),
            **{name: builder.linear(own.get_submodule(f"{name}_proj")) for name in "qkvo"},
            **{name: builder.linear(mlp.get_submodule(f"{name}_proj")) for name in ("gate", "up", "down")},
        )
        if groups:
            array = (structs.Adapter * (len(groups) * PROJECTIONS))()
            for group, number in groups.items():
                for parent, name, place in _places(own, mlp):
                    pair = parent.module_pair(name, group)
                    if pair is not None:
                        adapter = structs.Adapter(builder.linear(pair[0]), builder.linear(pair[1]))
                        array[number * PROJECTIONS + place] = adapter
                        rank = max(rank, adapter.a.outputs)
            builder.alive.append(array)
            layer.adapters = ctypes.cast(array, ctypes.POINTER(structs.Adapter))
        layers.append(layer)
    config = stack.shape
    made = builder.stack(
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
        last=builder.norm(stack.norm),
    )
    return made, groups


def _places(
    own: AdaptedProjections, mlp: AdaptedProjections
) -> Iterable[tuple[AdaptedProjections, str, int]]:
    yield from ((own, "q", Q), (own, "k", K), (own, "v", V), (own, "o", O))
    yield from ((mlp, "gate", GATE), (mlp, "up", UP), (mlp, "down", DOWN))


def forward(
    stack: structs.Stack,
    x: Array,
    self_spans: Any,
    spans: int,
    write: tuple[Any, Any, Any],
    cross: Any = None,
    rotation: tuple[Array, Array] | None = None,
    routes: tuple[Any, Any, Any, Any] | None = None,
) -> None:
    """Run `x`, float32 [rows, hidden], through the stack, in place.

    self_spans: structured array [rows, spans]; write: addresses, layer strides and value
    offsets of the rows' own keys; cross: structured array [rows]; rotation: cosines and sines
    [rows, head_width / 2]; routes: starts, stops, module numbers and scales.
    """
    rows = len(x)
    batch = structs.Batch(
        rows=rows,
        spans=spans,
        x=address("x", x, np.float32, rows, stack.hidden),
        self=address("spans", self_spans, SPAN, rows * spans),
        cross=address_or_none("cross spans", cross, SPAN, rows),
        write=address("where to write", write[0], np.uint64, rows),
        write_stride=address("strides", write[1], np.int64, rows),
        write_value=address("value offsets", write[2], np.int64, rows),
    )
    if rotation is not None:
        batch.cosine, batch.sine = (
            address("rotation", part, np.float32, rows, stack.head_width // 2) for part in rotation
        )
    if routes is not None:
        batch.routes = count = len(routes[0])
        batch.route_start, batch.route_stop, batch.route_module, batch.route_scale = (
            address("routes", part, dtype, count)
            for part, dtype in zip(routes, (np.int32, np.int32, np.int32, np.float32), strict=True)
        )
    needed().forward(stack, batch)
