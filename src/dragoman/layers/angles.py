"""Angles of positions in NumPy: what rotary and sinusoidal positions are computed from.

Rotary positions are those of arXiv 2104.09864, with transformers' conventions for the ways to stretch
them over longer texts (5.23, `modeling_rope_utils.py`); sinusoidal ones are fairseq's.
"""

import math
from typing import Any

import numpy as np

from dragoman.errors import ConfigError
from dragoman.layers.options import RotaryOptions

OFFSET, PADDING_ROW = 2, 1
"""Position p of a sentence uses row p + 2 of the sinusoidal table (fairseq's padding index 1, plus one);
row 1 belongs to padding and is zero."""


def waves(hidden: int) -> Any:
    """Radians per row of the sinusoidal table, float32 [hidden / 2]."""
    half = hidden // 2
    return np.exp(np.arange(half) * -(math.log(10000) / (half - 1))).astype(np.float32)


def sinusoids(rows: Any, hidden: int) -> Any:
    """The rows of fairseq's table, [...] -> [..., hidden] in float32: sines, then cosines."""
    half = hidden // 2
    angle = np.asarray(rows)[..., None].astype(np.float32) * waves(hidden)
    # In double precision, rounded once: the last bits of sines in single precision differ between processors.
    wide = angle.astype(np.float64)
    vectors = np.zeros((*angle.shape[:-1], hidden), np.float32)
    vectors[..., :half], vectors[..., half : 2 * half] = np.sin(wide), np.cos(wide)
    vectors[np.asarray(rows) == PADDING_ROW] = 0
    return vectors


def frequencies(head_dim: int, options: RotaryOptions, longest: int) -> Any:
    """Radians per position, float32 [head_dim / 2]; of the dynamic kind those of texts up to `longest`.

    longest: how many positions the model was made for. ConfigError if a head can't be turned in pairs.
    """
    if head_dim % 2:
        raise ConfigError(f"head_dim is {head_dim} in the model's config; rotary positions need an even one")
    steps = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    plain = (np.float32(1) / np.power(np.float32(options.rope_theta), steps)).astype(np.float32)
    original = options.original_max_position_embeddings or longest
    if options.rope_type == "linear":
        plain = plain / np.float32(options.factor)
    elif options.rope_type == "llama3":
        plain = _llama3(plain, options, original)
    elif options.rope_type == "yarn":
        plain = _yarn(plain, options, head_dim, original)
    return plain.astype(np.float32)


def attention_factor(options: RotaryOptions) -> float:
    """What cosines and sines are multiplied by, to make up for the entropy that stretching takes from
    attention (YaRN, section 3.4); 1 for the other kinds."""
    if options.rope_type != "yarn":
        return 1.0
    if options.attention_factor is not None:
        return options.attention_factor

    def scale(mscale: float) -> float:
        return 0.1 * mscale * math.log(options.factor) + 1.0 if options.factor > 1 else 1.0

    if options.mscale and options.mscale_all_dim:
        return scale(options.mscale) / scale(options.mscale_all_dim)
    return scale(1.0)


def _llama3(plain: Any, options: RotaryOptions, original: int) -> Any:
    """Llama 3.1: slow waves are stretched, fast ones kept, those between blended."""
    low, high = options.low_freq_factor, options.high_freq_factor
    turns = original * plain / (2 * math.pi)  # over the original length
    blend = ((turns - low) / (high - low)).clip(0, 1)
    return (1 - blend) * plain / options.factor + blend * plain


def _yarn(plain: Any, options: RotaryOptions, dim: int, original: int) -> Any:
    """YaRN (arXiv 2309.00071, section 3.2): the same idea with a ramp over the dimensions."""

    def dimension(turns: float) -> float:
        """The dimension that makes so many turns over the original length."""
        return dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(options.rope_theta))

    low, high = dimension(options.beta_fast), dimension(options.beta_slow)
    if options.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    if low == high:
        high += 0.001
    ramp = ((np.arange(dim // 2, dtype=np.float32) - np.float32(low)) / np.float32(high - low)).clip(0, 1)
    return plain / options.factor * ramp + plain * (1 - ramp)
