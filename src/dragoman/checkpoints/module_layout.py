"""X-ALMA's language modules in files: what their tensors are called, how large they are, whose they are.

A module is a LoRA of all seven projections of every layer. It exists in two spellings: beside
the base and the other groups in a combined checkpoint, and alone as a PEFT adapter.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from dragoman.errors import Shape
from dragoman.languages import all_languages
from dragoman.models.llama_config import LlamaConfig
from dragoman.models.shapes import llama_shapes

GROUPS = range(1, 9)
EMBEDDING, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"
PARTS = {
    "q_proj": "self_attn",
    "k_proj": "self_attn",
    "v_proj": "self_attn",
    "o_proj": "self_attn",
    "gate_proj": "mlp",
    "up_proj": "mlp",
    "down_proj": "mlp",
}
"""The projections with a LoRA, and the part of a layer each belongs to."""


@dataclass(frozen=True)
class LoraName:
    """One LoRA tensor: `side` A is [rank, in], B is [out, rank]; the weight gains scale * B @ A."""

    layer: int
    projection: str
    side: str

    @property
    def weight(self) -> str:
        """The name of the weight that the LoRA belongs to."""
        return f"model.layers.{self.layer}.{PARTS[self.projection]}.{self.projection}.weight"

    @property
    def module(self) -> str:
        """The name of the projection in the base."""
        return self.weight.removesuffix(".weight")

    @property
    def adapter(self) -> str:
        """The tensor's name in a PEFT adapter."""
        return f"base_model.model.{self.weight.removesuffix('weight')}lora_{self.side}.weight"

    def combined(self, group: int) -> str:
        """The tensor's name in a combined checkpoint."""
        return f"{self.weight.removesuffix('proj.weight')}lora_{self.side}.{group}.weight"


_COMBINED = re.compile(
    r"model\.layers\.([0-9]{1,4})\.(self_attn|mlp)\.([a-z]+)_lora_([AB])\.([0-9]{1,4})\.weight"
)
_ADAPTER = re.compile(
    r"base_model\.model\.model\.layers\.([0-9]{1,4})\.(self_attn|mlp)\.([a-z]+_proj)\.lora_([AB])(?:\.default)?\.weight"
)


def parse_combined(key: str) -> tuple[LoraName, int] | None:
    """The LoRA tensor and the group that a key of a combined checkpoint names; None if it names neither."""
    match = _COMBINED.fullmatch(key)
    if match is None or PARTS.get(f"{match[3]}_proj") != match[2]:
        return None
    return LoraName(int(match[1]), f"{match[3]}_proj", match[4]), int(match[5])


def parse_adapter(key: str) -> LoraName | None:
    """The LoRA tensor that a key of a PEFT adapter names; None if it names none."""
    match = _ADAPTER.fullmatch(key)
    if match is None or PARTS.get(match[3]) != match[2]:
        return None
    return LoraName(int(match[1]), match[3], match[4])


def lora_shapes(
    pairs: Iterable[tuple[int, str]], sizes: Mapping[str, Shape], rank: Callable[[str], int]
) -> dict[LoraName, Shape]:
    """The tensors of a module that changes these (layer, projection).

    sizes: (out, in) by projection; rank: that of a projection of the base by its name.
    """
    shapes: dict[LoraName, Shape] = {}
    for layer, projection in pairs:
        outputs, inputs = sizes[projection]
        name = LoraName(layer, projection, "A")
        shapes[name] = rank(name.module), inputs
        shapes[LoraName(layer, projection, "B")] = outputs, rank(name.module)
    return shapes


def base_shapes(config: LlamaConfig) -> dict[str, Shape]:
    """Every tensor of the base; the output layer also where it is a copy of the embedding."""
    shapes = llama_shapes(config)
    return {OUTPUT: shapes[EMBEDDING], **shapes}


def projection_sizes(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """(out, in) of each projection with a LoRA, from the shapes of the base."""
    return {name: shapes[LoraName(0, name, "A").weight] for name in PARTS}


def adapter_config(rank: int, scale: float, base_name: str) -> dict[str, object]:
    """The `adapter_config.json` of a module."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": plain(rank * scale),
        "lora_dropout": 0.05,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "target_modules": list(PARTS),
        "base_model_name_or_path": base_name,
    }


def plain(number: float) -> float | int:
    """The number as config files write it: 2, not 2.0, and 0.3, not what is left of it after a division."""
    number = float(f"{number:.12g}")
    return int(number) if number.is_integer() else number


def languages_of(group: int | None) -> tuple[str, ...]:
    """X-ALMA's codes of the languages of a group; none for a group it doesn't have."""
    return tuple(row.xalma for row in all_languages() if row.xalma and group and row.group == group)
