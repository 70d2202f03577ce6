"""The config of NLLB-MoE as transformers wants it, and as our own models do."""

from typing import Any

import transformers

from dragoman.checkpoints.compressed import FIELD
from dragoman.huggingface.compressed import METHOD, readable
from dragoman.models.config import NllbConfig


class NllbMoeConfig(transformers.NllbMoeConfig):
    """transformers' config of NLLB-MoE, field by field, and one field of our own.

    Two fields mean other things than one would guess. `router_ignore_padding_tokens=False`
    is the published setting and keeps padding away from the experts. `expert_capacity` has no
    effect: in training an expert takes twice its even share of a batch.
    `moe_final_output_dropout` masks the combined output of the experts of a token as
    `moe_token_dropout` masks that of each one.
    """

    moe_final_output_dropout: float = 0.0

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """The config of a folder; weights in 8 bits that are known here are restored while they are read."""
        return super().from_dict(readable(config_dict), **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """All fields but how the weights that it came with were stored: they are saved in floats."""
        return _in_floats(super().to_dict())

    def to_diff_dict(self) -> dict[str, Any]:
        """Those of them that aren't transformers' defaults."""
        return _in_floats(super().to_diff_dict())


def _in_floats(fields: dict[str, Any]) -> dict[str, Any]:
    if dict(fields.get(FIELD) or {}).get("quant_method") == METHOD:
        del fields[FIELD]
    return fields


def plain_config(config: transformers.PreTrainedConfig) -> NllbConfig:
    """The part of a transformers config that shapes the model.

    Raises ConfigError if it describes no model that we know.
    """
    data: dict[str, Any] = config.to_dict()
    return NllbConfig.from_dict(data)
