"""The shape of a model, read from the `config.json` of its checkpoint."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dragoman.errors import ConfigError
from dragoman.files import read_json
from dragoman.layers.options import ACTIVATIONS, MoeOptions, SecondExpertPolicy

DENSE, MOE = "m2m_100", "nllb-moe"


@dataclass(frozen=True)
class NllbConfig:
    """Dense NLLB-200 (`model_type` m2m_100) and NLLB-MoE (nllb-moe), under the published field names.

    Defaults are those of transformers' NllbMoeConfig, but for layerdrop, which is 0 in every
    published checkpoint. A dense model is one whose sparse
    steps are 0, which is what m2m_100 sets.
    """

    model_type: str = MOE
    vocab_size: int = 128112
    d_model: int = 1024
    encoder_layers: int = 12
    decoder_layers: int = 12
    encoder_attention_heads: int = 16
    decoder_attention_heads: int = 16
    encoder_ffn_dim: int = 4096
    decoder_ffn_dim: int = 4096
    max_position_embeddings: int = 1024
    activation_function: str = "relu"
    scale_embedding: bool = True
    tie_word_embeddings: bool = True
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.0
    encoder_layerdrop: float = 0.0
    decoder_layerdrop: float = 0.0
    init_std: float = 0.02
    pad_token_id: int = 1
    bos_token_id: int = 0
    eos_token_id: int = 2
    decoder_start_token_id: int = 2
    encoder_sparse_step: int = 4
    decoder_sparse_step: int = 4
    num_experts: int = 128
    encoder_experts: int | None = None
    """In each sparse layer of the encoder; None is `num_experts`. Dragoman's own field, as is the next."""
    decoder_experts: int | None = None
    second_expert_policy: SecondExpertPolicy = "all"
    normalize_router_prob_before_dropping: bool = False
    batch_prioritized_routing: bool = False
    moe_eval_capacity_token_fraction: float = 1.0
    moe_token_dropout: float = 0.2
    moe_final_output_dropout: float = 0.0
    """FOM share; Dragoman's own field, 0 in every published checkpoint."""
    router_bias: bool = False
    router_dtype: str = "float32"
    router_ignore_padding_tokens: bool = False

    def __post_init__(self) -> None:
        if self.model_type == DENSE:
            object.__setattr__(self, "encoder_sparse_step", 0)
            object.__setattr__(self, "decoder_sparse_step", 0)
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                choices = ", ".join(map(repr, allowed))
                raise ConfigError(f"{name} is {value!r} in the model's config; it must be one of {choices}")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(
                    f"{name} is {value!r} in the model's config; it must be a whole number, at least {least}"
                )
        for name in ("encoder_experts", "decoder_experts"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ConfigError(
                    f"{name} is {value!r} in the model's config; it must be a whole number from 1"
                )
        for name in _SHARES:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise ConfigError(f"{name} is {value!r} in the model's config; it must be from 0 to 1")
        for name in ("encoder_attention_heads", "decoder_attention_heads"):
            if self.d_model % getattr(self, name):
                raise ConfigError(
                    f"d_model is {self.d_model} in the model's config, which {getattr(self, name)} heads "
                    f"({name}) can't share evenly"
                )
        if self.pad_token_id >= self.vocab_size:
            raise ConfigError(
                f"pad_token_id is {self.pad_token_id} in the model's config, beyond its vocabulary "
                f"of {self.vocab_size}"
            )
        for side in ("encoder", "decoder"):
            if getattr(self, f"{side}_sparse_step") and self.experts(side) < 2:
                name = "num_experts" if getattr(self, f"{side}_experts") is None else f"{side}_experts"
                raise ConfigError(f"{name} is {self.experts(side)}; top-2 routing needs at least 2")

    @property
    def is_sparse(self) -> bool:
        """Whether any layer has experts."""
        return bool(self.encoder_sparse_step or self.decoder_sparse_step)

    def experts(self, side: str) -> int:
        """How many experts each sparse layer of the "encoder" or "decoder" has."""
        own: int | None = getattr(self, f"{side}_experts")
        return self.num_experts if own is None else own

    def sparse_layers(self, side: str) -> tuple[int, ...]:
        """The numbers of the layers of the "encoder" or "decoder" that have experts."""
        count, step = getattr(self, f"{side}_layers"), getattr(self, f"{side}_sparse_step")
        return tuple(layer for layer in range(count) if is_sparse_layer(layer, step))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "NllbConfig":
        """Read the fields we know; the generation defaults and version stamps beside them are not ours."""
        if "model_type" not in data:
            raise ConfigError("config.json has no model_type; expected 'nllb-moe' or 'm2m_100'")
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in known and value is not None})

    @classmethod
    def from_folder(cls, folder: str | Path) -> "NllbConfig":
        """Read `config.json` in `folder`; ConfigError if there is none or it is not JSON."""
        return cls.from_dict(read_config(folder))

    def to_dict(self) -> dict[str, Any]:
        """The config as it is written to `config.json`."""
        names = {DENSE: "M2M100ForConditionalGeneration", MOE: "NllbMoeForConditionalGeneration"}
        stated = {name: value for name, value in asdict(self).items() if value is not None}
        return {"architectures": [names[self.model_type]], **stated}

    def moe_options(self, side: str | None = None) -> MoeOptions:
        """What the sparse layers of the "encoder" or "decoder" need to know; None: as published."""
        return MoeOptions(
            num_experts=self.num_experts if side is None else self.experts(side),
            second_expert_policy=self.second_expert_policy,
            normalize_before_dropping=self.normalize_router_prob_before_dropping,
            batch_prioritized=self.batch_prioritized_routing,
            eval_capacity_fraction=self.moe_eval_capacity_token_fraction,
            # The published flag says the opposite of its name: False means padding is NOT routed.
            route_padding=self.router_ignore_padding_tokens,
            router_bias=self.router_bias,
            router_dtype=self.router_dtype,
            expert_output_masking=self.moe_token_dropout,
            final_output_masking=self.moe_final_output_dropout,
        )


_CHOICES: dict[str, tuple[str, ...]] = {
    "model_type": (MOE, DENSE),
    "second_expert_policy": ("all", "sampling", "random"),
    "router_dtype": ("float32", "float16", "bfloat16"),
    "activation_function": ACTIVATIONS,
}
# Fields that count something, and the least there may be of it.
_LEAST = {
    "vocab_size": 1,
    "d_model": 4,  # sinusoidal positions need two frequencies
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 1,
    "decoder_attention_heads": 1,
    "encoder_ffn_dim": 1,
    "decoder_ffn_dim": 1,
    "encoder_sparse_step": 0,
    "decoder_sparse_step": 0,
    "num_experts": 1,
    "pad_token_id": 0,
}
_SHARES = (
    "dropout",
    "attention_dropout",
    "activation_dropout",
    "encoder_layerdrop",
    "decoder_layerdrop",
    "moe_token_dropout",
    "moe_final_output_dropout",
)


def read_config(folder: str | Path) -> dict[str, Any]:
    """The fields of `config.json` in `folder`; ConfigError if there is none or it is not JSON."""
    try:
        return read_json(Path(folder) / "config.json", ConfigError)
    except FileNotFoundError:
        raise ConfigError(f"{folder} is no model: it has no config.json") from None


def is_sparse_layer(index: int, step: int) -> bool:
    """Whether layer `index` (from 0) has experts: every `step`-th one, none if `step` is 0."""
    return step > 0 and (index + 1) % step == 0
