"""X-ALMA's language modules in files: what their tensors are called, how large they are, whose they are.

A module is a LoRA of all seven projections of every layer. It exists in two spellings: beside
the base and the other groups in a combined checkpoint, and alone as a PEFT adapter.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dragoman.errors import CheckpointError, ConfigError, Shape
from dragoman.languages import all_languages

COMBINED, LLAMA = "xalma", "llama"
"""The model types of a combined checkpoint, and of a base or merged one."""
GROUPS = range(1, 9)
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


def lora_shapes(layers: int, sizes: Mapping[str, Shape], rank: int) -> dict[LoraName, Shape]:
    """The tensors of a module, by group of layer, for projections of `sizes` {name: (out, in)}."""
    shapes: dict[LoraName, Shape] = {}
    for layer in range(layers):
        for projection, (outputs, inputs) in sizes.items():
            shapes[LoraName(layer, projection, "A")] = rank, inputs
            shapes[LoraName(layer, projection, "B")] = outputs, rank
    return shapes


@dataclass(frozen=True)
class Layout:
    """What a Llama `config.json` says about the shapes of the tensors."""

    layers: int
    hidden: int
    ffn: int
    queries: int
    """Width of all query heads together."""
    keys: int
    """Width of all key heads together."""
    vocabulary: int
    tied: bool
    attention_bias: bool
    mlp_bias: bool

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Layout":
        """Read it; ConfigError if the config is no Llama's or X-ALMA's."""
        model_type = config.get("model_type")
        if model_type not in (COMBINED, LLAMA):
            raise ConfigError(
                f"model_type is {model_type!r} in the model's config; language modules fit {LLAMA!r} "
                f"(a base) and {COMBINED!r} (base and modules combined)"
            )
        hidden, heads = _whole(config, "hidden_size"), _whole(config, "num_attention_heads")
        head = _whole(config, "head_dim", hidden // heads)
        return cls(
            layers=_whole(config, "num_hidden_layers"),
            hidden=hidden,
            ffn=_whole(config, "intermediate_size"),
            queries=heads * head,
            keys=_whole(config, "num_key_value_heads", heads) * head,
            vocabulary=_whole(config, "vocab_size"),
            tied=bool(config.get("tie_word_embeddings")),
            attention_bias=bool(config.get("attention_bias")),
            mlp_bias=bool(config.get("mlp_bias")),
        )

    @property
    def sizes(self) -> dict[str, Shape]:
        """(out, in) of each projection with a LoRA."""
        return {
            "q_proj": (self.queries, self.hidden),
            "k_proj": (self.keys, self.hidden),
            "v_proj": (self.keys, self.hidden),
            "o_proj": (self.hidden, self.queries),
            "gate_proj": (self.ffn, self.hidden),
            "up_proj": (self.ffn, self.hidden),
            "down_proj": (self.hidden, self.ffn),
        }

    def base_shapes(self) -> dict[str, Shape]:
        """Every tensor of the base; the output layer also where it is a copy of the embedding."""
        shapes: dict[str, Shape] = {
            "model.embed_tokens.weight": (self.vocabulary, self.hidden),
            "model.norm.weight": (self.hidden,),
            "lm_head.weight": (self.vocabulary, self.hidden),
        }
        for layer in range(self.layers):
            for norm in ("input_layernorm", "post_attention_layernorm"):
                shapes[f"model.layers.{layer}.{norm}.weight"] = (self.hidden,)
            for projection, size in self.sizes.items():
                name = LoraName(layer, projection, "A").weight
                shapes[name] = size
                if self.attention_bias if PARTS[projection] == "self_attn" else self.mlp_bias:
                    shapes[name.removesuffix("weight") + "bias"] = size[:1]
        return shapes


@dataclass(frozen=True)
class AdapterConfig:
    """What counts in a PEFT `adapter_config.json`."""

    rank: int
    scale: float
    projections: tuple[str, ...] | None
    """Those it was made for; None if it says so by a pattern."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: object) -> "AdapterConfig":
        """Read it; CheckpointError if the adapter does more than add scale * B @ A to weights."""
        if data.get("peft_type") != "LORA":
            raise CheckpointError(
                f"{where} is an adapter of type {data.get('peft_type')!r}; only LORA can become a module"
            )
        for field, harmless in _HARMLESS.items():
            value = data.get(field)
            if value and value not in harmless:
                raise CheckpointError(
                    f"{where} has {field} = {value!r}: it does more than add scale * B @ A to weights, so it "
                    "can't be a language module. Train or export it as plain LoRA."
                )
        rank, alpha = _whole(data, "r"), _number(data, "lora_alpha")
        scale = alpha / (rank**0.5 if data.get("use_rslora") else rank)
        targets = data.get("target_modules")
        if isinstance(targets, list) and targets and all(target in PARTS for target in targets):
            return cls(rank, scale, tuple(name for name in PARTS if name in targets))
        return cls(rank, scale, None)


# Settings of PEFT that change what an adapter computes, and the values besides "off" that don't.
_HARMLESS: dict[str, tuple[object, ...]] = {
    "bias": ("none",),
    "init_lora_weights": (True, "gaussian", "orthogonal", "eva"),  # others change the base too
    **dict.fromkeys(("use_dora", "use_qalora", "use_bdlora", "lora_bias", "fan_in_fan_out"), ()),
    **dict.fromkeys(("rank_pattern", "alpha_pattern", "modules_to_save", "layer_replication"), ()),
    **dict.fromkeys(("target_parameters", "trainable_token_indices", "alora_invocation_tokens"), ()),
    **dict.fromkeys(("arrow_config", "kasa_config", "monteclora_config", "velora_config"), ()),
}


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


def lora_settings(config: Mapping[str, Any]) -> tuple[int, float]:
    """Rank and scale of the modules in a combined checkpoint."""
    # The standalone X-ALMA code has these two numbers built in, so a config may lack them.
    return _whole(config, "lora_size", 512), _number(config, "lora_alpha", 2)


def _whole(config: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = config.get(name)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name} is {value!r} in the config; it must be a whole number, at least 1")
    return value


def _number(config: Mapping[str, Any], name: str, default: float | None = None) -> float:
    value = config.get(name)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ConfigError(f"{name} is {value!r} in the config; it must be a number above 0")
    return value
