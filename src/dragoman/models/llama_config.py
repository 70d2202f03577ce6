"""The shape of a Llama or X-ALMA model, read from the `config.json` of its checkpoint."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from dragoman.errors import ConfigError
from dragoman.layers.options import ACTIVATIONS, RotaryOptions
from dragoman.models.config import read_config

LLAMA, XALMA = "llama", "xalma"


@dataclass(frozen=True)
class LlamaConfig:
    """Llama (`model_type` llama) and X-ALMA (xalma: with language modules), under the published names.

    Defaults are those of transformers' LlamaConfig.
    """

    model_type: str = LLAMA
    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int = 0
    """Key heads, each shared by as many query heads; 0 means one for each."""
    head_dim: int = 0
    """0 means hidden_size / num_attention_heads."""
    hidden_act: str = "silu"
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-6
    rope: RotaryOptions = field(default_factory=RotaryOptions)
    attention_bias: bool = False
    attention_dropout: float = 0.0
    mlp_bias: bool = False
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02
    pad_token_id: int | None = None
    bos_token_id: int | None = 1
    eos_token_id: int | tuple[int, ...] = 2
    lora_size: int = 512
    """Rank of the language modules."""
    lora_alpha: float = 2.0
    """What their products are multiplied by: the multiplier itself, not alpha / rank."""

    def __post_init__(self) -> None:
        if self.model_type not in (LLAMA, XALMA):
            raise ConfigError(
                f"model_type is {self.model_type!r} in the model's config; it must be {LLAMA!r} or {XALMA!r}"
            )
        if self.hidden_act not in ACTIVATIONS:
            choices = ", ".join(map(repr, ACTIVATIONS))
            raise ConfigError(
                f"hidden_act is {self.hidden_act!r} in the model's config; it must be one of {choices}"
            )
        for name in _COUNTS:
            value, least = getattr(self, name), int(name not in ("num_key_value_heads", "head_dim"))
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(
                    f"{name} is {value!r} in the model's config; it must be a whole number, at least {least}"
                )
        for name in ("rms_norm_eps", "lora_alpha"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
                raise ConfigError(f"{name} is {value!r} in the model's config; it must be a number above 0")
        if not self.head_dim and self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"hidden_size is {self.hidden_size} in the model's config, which {self.num_attention_heads} "
                "heads (num_attention_heads) can't share evenly"
            )
        if not self.num_key_value_heads:
            object.__setattr__(self, "num_key_value_heads", self.num_attention_heads)
        if not self.head_dim:
            object.__setattr__(self, "head_dim", self.hidden_size // self.num_attention_heads)
        if self.num_attention_heads % self.num_key_value_heads:
            raise ConfigError(
                f"num_attention_heads is {self.num_attention_heads} in the model's config, which "
                f"num_key_value_heads ({self.num_key_value_heads}) doesn't divide"
            )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "LlamaConfig":
        """Read the fields we know; the generation defaults and version stamps beside them are not ours."""
        if "model_type" not in data:
            raise ConfigError(f"config.json has no model_type; expected {LLAMA!r} or {XALMA!r}")
        known = {item.name for item in fields(cls)} - {"rope"}
        given = {name: value for name, value in data.items() if name in known and value is not None}
        if isinstance(given.get("eos_token_id"), list):
            given["eos_token_id"] = tuple(given["eos_token_id"])
        return cls(rope=RotaryOptions.from_config(data), **given)

    @classmethod
    def from_folder(cls, folder: str | Path) -> "LlamaConfig":
        """Read `config.json` in `folder`; ConfigError if there is none or it is not JSON."""
        return cls.from_dict(read_config(folder))

    def to_dict(self) -> dict[str, Any]:
        """The config as it is written to `config.json`."""
        data = asdict(self)
        del data["rope"]
        if self.model_type == LLAMA:
            del data["lora_size"], data["lora_alpha"]
        if isinstance(self.eos_token_id, tuple):
            data["eos_token_id"] = list(self.eos_token_id)
        name = {LLAMA: "LlamaForCausalLM", XALMA: "XALMAForCausalLM"}[self.model_type]
        return {"architectures": [name], **data, **self.rope.to_config()}


_COUNTS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "lora_size",
)
