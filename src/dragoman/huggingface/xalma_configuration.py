"""The config of X-ALMA as transformers wants it, and as our own models do."""

import os
from pathlib import Path
from typing import Any, ClassVar

import transformers

from dragoman.checkpoints.families import guess_group
from dragoman.errors import ConfigError
from dragoman.models.language_modules import ANY
from dragoman.models.llama_config import LlamaConfig
from dragoman.models.xalma import GROUPS


class XALMAConfig(transformers.LlamaConfig):
    """A Llama's config, and what the language modules need. Defaults are the authors'.

    Read from the folder of a plain Llama, it describes one whose weights have a module merged
    into them: without modules of its own, and written as a Llama's again.
    """

    model_type = "xalma"
    # Llama's plans split the projections over devices, and know nothing of the modules beside them.
    base_model_tp_plan: ClassVar[dict[str, Any] | None] = None  # type: ignore[assignment]
    base_model_pp_plan: ClassVar[dict[str, Any] | None] = None  # type: ignore[assignment]

    lora_size: int = 512
    """Rank of the modules."""
    lora_alpha: int | float = 2
    """What their products are multiplied by: the multiplier itself, not alpha / rank as in PEFT."""
    lora_groups: list[int] | None = None
    """The groups to have modules of; None means all eight. Others in the checkpoint are not loaded."""
    merged_group: int | None = None
    """The group that the weights themselves contain; -1 if that is unknown: then all are let through."""

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        groups = self.groups
        if any(group < 1 for group in groups) or len(set(groups)) < len(groups):
            raise ConfigError(
                f"lora_groups is {self.lora_groups}; it must be different numbers from 1 on, or None"
            )
        if groups and self.merged_group is not None:
            raise ConfigError(
                f"merged_group is {self.merged_group}, but there are modules of the groups {list(groups)} "
                "too; rows would get a module on top of merged weights. Set lora_groups to [], or leave "
                "merged_group out"
            )

    @property
    def groups(self) -> tuple[int, ...]:
        """The groups to have modules of."""
        return tuple(GROUPS) if self.lora_groups is None else tuple(self.lora_groups)

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """As in transformers; the config of a plain Llama comes back as one of merged weights."""
        data, rest = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        if data.get("model_type") == "llama":
            guessed = guess_group(Path(pretrained_model_name_or_path)) or ANY
            data = {**data, "model_type": "xalma", "lora_groups": []}
            data["merged_group"] = data.get("merged_group") or guessed
        return data, rest

    def to_diff_dict(self) -> dict[str, Any]:
        """What is written to `config.json`: without modules any Llama can load it, so it says Llama."""
        data = super().to_diff_dict()
        if not self.groups:
            data["model_type"] = "llama"
            names = data.get("architectures") or []
            data["architectures"] = [name.replace("XALMA", "Llama") for name in names]
            for name in ("lora_size", "lora_alpha", "lora_groups"):
                data.pop(name, None)
        return data


def plain_llama_config(config: transformers.LlamaConfig) -> LlamaConfig:
    """The part of a transformers config that shapes the model.

    Raises ConfigError if it describes no model that we know.
    """
    data: dict[str, Any] = config.to_dict()
    return LlamaConfig.from_dict(data)
