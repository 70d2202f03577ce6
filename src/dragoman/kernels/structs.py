"""The structures of csrc/structs.h, field by field."""

import ctypes
from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_void_p

import numpy as np

NONE, FLOAT, HALF, BYTE, NIBBLE, BRAIN, FINE = range(7)
KINDS = {"fp32": FLOAT, "fp16": HALF, "int8": BYTE, "int4": NIBBLE}
PANEL, GROUP = 64, 32
"""Outputs that lie side by side; inputs that share a 4-bit scale."""
RECORD = 2 * PANEL + PANEL * GROUP // 2
"""Bytes of a 4-bit group: scales and nibbles."""
RELU, GELU, SILU = 1, 2, 3
Q, K, V, O, GATE, UP, DOWN, PROJECTIONS = range(8)  # noqa: E741 (the projection's usual name)


class Matrix(Structure):
    _fields_ = (
        ("data", c_void_p),
        ("stride", c_int64),
        ("kind", c_int32),
        ("rows", c_int32),
        ("columns", c_int32),
        ("rest", c_void_p),
        ("scale", c_void_p),
    )


class Linear(Structure):
    _fields_ = (
        ("kind", c_int32),
        ("outputs", c_int32),
        ("inputs", c_int32),
        ("padded", c_int32),
        ("data", c_void_p),
        ("scale", c_void_p),
        ("bias", c_void_p),
    )


class Norm(Structure):
    _fields_ = (("kind", c_int32), ("eps", c_float), ("weight", c_void_p), ("bias", c_void_p))


class Adapter(Structure):
    _fields_ = (("a", Linear), ("b", Linear))


class Layer(Structure):
    _fields_ = (
        ("self_norm", Norm),
        ("cross_norm", Norm),
        ("ffn_norm", Norm),
        ("q", Linear),
        ("k", Linear),
        ("v", Linear),
        ("o", Linear),
        ("cross_q", Linear),
        ("cross_o", Linear),
        ("gate", Linear),
        ("up", Linear),
        ("down", Linear),
        ("router", Linear),
        ("experts", c_int32),
        ("expert_scale", c_float),
        ("expert_first", POINTER(Linear)),
        ("expert_second", POINTER(Linear)),
        ("adapters", POINTER(Adapter)),
    )


class Stack(Structure):
    _fields_ = (
        ("layers", c_int32),
        ("hidden", c_int32),
        ("heads", c_int32),
        ("key_heads", c_int32),
        ("head_width", c_int32),
        ("inner", c_int32),
        ("activation", c_int32),
        ("gated", c_int32),
        ("max_experts", c_int32),
        ("max_rank", c_int32),
        ("query_scale", c_float),
        ("layer", POINTER(Layer)),
        ("last", Norm),
    )


class Span(Structure):
    _fields_ = (
        ("key", c_void_p),
        ("layer_stride", c_int64),
        ("value_offset", c_int64),
        ("slot", c_void_p),
        ("count", c_int32),
        ("step", c_int32),
    )


class Batch(Structure):
    _fields_ = (
        ("rows", c_int32),
        ("spans", c_int32),
        ("x", c_void_p),
        ("self", c_void_p),
        ("cross", c_void_p),
        ("write", c_void_p),
        ("write_stride", c_void_p),
        ("write_value", c_void_p),
        ("cosine", c_void_p),
        ("sine", c_void_p),
        ("routes", c_int32),
        ("route_start", c_void_p),
        ("route_stop", c_void_p),
        ("route_module", c_void_p),
        ("route_scale", c_void_p),
    )


class Pass(Structure):
    _fields_ = (
        ("layer", c_int32),
        ("waits", c_int32),
        ("hits", c_int32),
        ("hit", c_void_p),
        ("visits", c_void_p),
        ("chosen", c_void_p),
        ("share", c_void_p),
    )


class Head(Structure):
    _fields_ = (
        ("w", Linear),
        ("exact", Matrix),
        ("token", c_void_p),
        ("gap", c_float),
        ("norm", c_float),
    )


SHARED = (Linear, Norm, Adapter, Layer, Stack, Span, Batch, Head, Matrix, Pass)
"""In the order of `size` in csrc/dispatch.c."""

SPAN = np.dtype(
    [
        ("key", "u8"),
        ("layer_stride", "i8"),
        ("value_offset", "i8"),
        ("slot", "u8"),
        ("count", "i4"),
        ("step", "i4"),
    ]
)
"""`Span` as NumPy's structured type."""

assert ctypes.sizeof(Span) == SPAN.itemsize == 40
