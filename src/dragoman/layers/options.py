"""How layers work, as a model's config says it. Without PyTorch: who reads a config may not have it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from dragoman.errors import ConfigError

ACTIVATIONS = ("relu", "gelu", "silu", "swish")
"""Of feed-forward blocks; swish is another name of silu."""
SecondExpertPolicy = Literal["all", "sampling", "random"]


@dataclass(frozen=True)
class MoeOptions:
    """How a sparse layer routes. The fields are those of the published config."""

    num_experts: int
    second_expert_policy: SecondExpertPolicy = "all"
    normalize_before_dropping: bool = False
    batch_prioritized: bool = False
    eval_capacity_fraction: float = 1.0
    route_padding: bool = False
    router_bias: bool = False
    router_dtype: str = "float32"
    """What routers multiply in, as a config spells it."""
    expert_output_masking: float = 0.0
    """EOM: share of (expert, token) rows zeroed in training; at inference rows are scaled by 1 - share."""
    final_output_masking: float = 0.0
    """FOM: the same on the combined output of a token."""


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
"""The kinds of rotary positions, and which fields matter to each."""


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
