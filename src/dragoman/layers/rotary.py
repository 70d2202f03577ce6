"""Rotary positions (arXiv 2104.09864) and the ways to stretch them over longer texts.

Conventions are transformers' (5.23, `modeling_rope_utils.py`): the first half of a head's vector
holds the first coordinates of all pairs, the second half the second ones.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from dragoman.errors import ConfigError

# The kinds, and which fields matter to each.
KINDS: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "llama3": ("factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"),
    "yarn": (
        "factor",
        "original_max_position_embeddings",
        "beta_fast",
        "beta_slow",
        "attention_factor",
        "mscale",
        "mscale_all_dim",
        "truncate",
    ),
}
Rotation = tuple[Tensor, Tensor]
"""Cosines and sines, each [rows, 1, time, head_dim / 2]."""


@dataclass(frozen=True)
class RotaryOptions:
    """How positions turn into angles. The fields are those of a config's `rope_scaling`."""

    rope_type: str = "default"
    rope_theta: float = 10000.0
    factor: float = 1.0
    """How many times longer than trained on; all kinds but the default."""
    original_max_position_embeddings: int | None = None
    """llama3 and yarn: the length the model was first trained on; None means the config's own length."""
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    """yarn: cosines and sines are multiplied by it; None: it follows from `factor` and the mscales."""
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True

    def __post_init__(self) -> None:
        if self.rope_type not in KINDS:
            choices = ", ".join(map(repr, KINDS))
            raise ConfigError(
                f"rope_type is {self.rope_type!r} in the model's config; it must be one of {choices}"
            )
        for name in ("rope_theta", "factor"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise ConfigError(f"{name} is {value!r} in the model's config; it must be a number above 0")

    @classmethod
    def from_config(cls, data: Mapping[str, Any]) -> "RotaryOptions":
        """Read `rope_parameters` (transformers 5), or `rope_scaling` with `rope_theta` beside it (4)."""
        found = data.get("rope_scaling") or data.get("rope_parameters") or {}
        if not isinstance(found, Mapping):
            raise ConfigError(f"rope_scaling is {found!r} in the model's config; it must be an object")
        given = {"rope_theta": data.get("rope_theta"), "rope_type": found.get("type"), **found}
        original, longest = given.get("original_max_position_embeddings"), data.get("max_position_embeddings")
        if given.get("factor") is None and original and longest:
            given["factor"] = longest / original
        if given.get("partial_rotary_factor") not in (None, 1.0):
            raise ConfigError(
                "partial_rotary_factor is set in the model's config; Llama turns whole heads only"
            )
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in given.items() if name in known and value is not None})

    def to_config(self) -> dict[str, Any]:
        """`rope_theta` and `rope_scaling`, as every version of transformers reads them."""
        values = {name: getattr(self, name) for name in ("rope_type", *KINDS[self.rope_type])}
        scaling = {name: value for name, value in values.items() if value is not None}
        return {"rope_theta": self.rope_theta, "rope_scaling": scaling if len(scaling) > 1 else None}


class Rotary:
    """Angles of positions for one model. No module: there is nothing to store, move or convert."""

    def __init__(self, head_dim: int, options: RotaryOptions, max_positions: int) -> None:
        if head_dim % 2:
            raise ConfigError(
                f"head_dim is {head_dim} in the model's config; rotary positions need an even one"
            )
        self.head_dim, self.options, self.max_positions = head_dim, options, max_positions
        self.scale = _attention_factor(options, max_positions) if options.rope_type == "yarn" else 1.0
        self._frequencies: dict[torch.device, Tensor] = {}

    def __call__(self, positions: Tensor, dtype: torch.dtype) -> Rotation:
        """The rotation of `positions` [rows, time], computed in float32, given in `dtype`.

        The dynamic kind stretches each row by its own last position, where transformers
        takes the batch's: here a row's result does not depend on its neighbours.
        """
        # Autocast would take the product of positions and frequencies in half precision.
        with torch.autocast(positions.device.type, enabled=False):
            angles = positions[..., None].float() * self.frequencies(positions)
            cos, sin = angles.cos() * self.scale, angles.sin() * self.scale
        return cos[:, None].to(dtype), sin[:, None].to(dtype)

    def frequencies(self, positions: Tensor) -> Tensor:
        """Radians per position, [head_dim / 2], or [rows, 1, head_dim / 2] if they depend on the row."""
        device = positions.device
        if self.options.rope_type == "dynamic":
            length = (positions.amax(1) + 1).clamp(min=self.max_positions).float()
            return self._dynamic(length)[:, None]
        if torch.compiler.is_compiling():  # kept, it would be a tensor of that graph
            return self._static().to(device)
        if device not in self._frequencies:
            with torch.inference_mode(False):  # what is kept may be needed in training later
                self._frequencies[device] = self._static().to(device)
        return self._frequencies[device]

    def _plain(self) -> Tensor:
        steps = torch.arange(0, self.head_dim, 2, dtype=torch.float32, device="cpu")
        return 1.0 / (self.options.rope_theta ** (steps / self.head_dim))

    def _static(self) -> Tensor:
        options = self.options
        original = options.original_max_position_embeddings or self.max_positions
        if options.rope_type == "linear":
            return self._plain() / options.factor
        if options.rope_type == "llama3":
            return _llama3(self._plain(), options, original)
        if options.rope_type == "yarn":
            return _yarn(self._plain(), options, self.head_dim, original)
        return self._plain()

    def _dynamic(self, length: Tensor) -> Tensor:
        """NTK-aware: a larger base for longer texts. length: [rows] -> [rows, head_dim / 2]."""
        factor, dim = self.options.factor, self.head_dim
        stretch = factor * length / self.max_positions - (factor - 1)
        base = self.options.rope_theta * stretch ** (dim / (dim - 2))
        steps = torch.arange(0, dim, 2, dtype=torch.float32, device=length.device)
        return 1.0 / (base[:, None] ** (steps / dim))


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn the pairs of `x` [rows, heads, time, head_dim] by the angles of their positions."""
    cos, sin = rotation
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def _llama3(plain: Tensor, options: RotaryOptions, original: int) -> Tensor:
    """Llama 3.1: slow waves are stretched, fast ones kept, those between blended."""
    low, high = options.low_freq_factor, options.high_freq_factor
    turns = original * plain / (2 * math.pi)  # over the original length
    blend = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 - blend) * plain / options.factor + blend * plain


def _yarn(plain: Tensor, options: RotaryOptions, dim: int, original: int) -> Tensor:
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
    ramp = ((torch.arange(dim // 2, dtype=torch.float32, device="cpu") - low) / (high - low)).clamp(0, 1)
    return plain / options.factor * ramp + plain * (1 - ramp)


def _attention_factor(options: RotaryOptions, max_positions: int) -> float:
    """What makes up for the entropy that stretching takes from attention (YaRN, section 3.4)."""
    if options.attention_factor is not None:
        return options.attention_factor

    def scale(mscale: float) -> float:
        return 0.1 * mscale * math.log(options.factor) + 1.0 if options.factor > 1 else 1.0

    if options.mscale and options.mscale_all_dim:
        return scale(options.mscale) / scale(options.mscale_all_dim)
    return scale(1.0)
