"""Checkpoints with matrices in 8 bits and a scale a row, read by transformers as the floats they stand for.

The config face renames what `checkpoints.compressed` knows to the method below, whose quantizer restores each
weight when its turn comes. A model that was read so is a plain one: it trains, and is saved in floats.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from transformers.core_model_loading import ConversionOps
from transformers.quantizers import HfQuantizer, register_quantization_config, register_quantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from dragoman.checkpoints.compressed import FIELD, SCALE, problem_of

METHOD = "dragoman-rows"
WEIGHT = "weight"


def readable(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json whose `quantization_config`, if it is a known one, names the method of this file.

    Any other is transformers' affair.
    """
    found = config.get(FIELD)
    known = found is not None and problem_of(found) is None
    return {**config, FIELD: {"quant_method": METHOD}} if known else dict(config)


@register_quantization_config(METHOD)
class RowsConfig(QuantizationConfigMixin):
    """Says that weights are restored while they are read."""

    def __init__(self, quant_method: str = METHOD, dequantize: bool = True) -> None:
        self.quant_method = quant_method  # type: ignore[assignment]
        self.dequantize = dequantize


class Restore(ConversionOps):
    """Makes one weight of itself and its scales; what has none stays, in the type that the model wants."""

    def __init__(self, hf_quantizer: HfQuantizer) -> None:
        self.hf_quantizer = hf_quantizer  # by which transformers tells what reads its own types

    def convert(  # type: ignore[override]
        self,
        input_dict: dict[str, Any],
        source_patterns: list[str],
        target_patterns: list[str],
        full_layer_name: str,
        model: nn.Module,
        config: Any = None,
        missing_keys: Any = None,
    ) -> dict[str, Tensor]:
        found = {name: each[0] if isinstance(each, list) else each for name, each in input_dict.items()}
        weight, scale = found[WEIGHT], found.get(WEIGHT + SCALE)
        wanted = model.get_parameter(full_layer_name)
        if scale is not None:
            weight = weight.to(scale.dtype) * scale.reshape(-1, 1)
        return {full_layer_name: weight.to(wanted.dtype)}


@register_quantizer(METHOD)
class RowsQuantizer(HfQuantizer):
    """Reads weights as floats; quantises nothing."""

    requires_calibration = False
    serialized_names = {WEIGHT: [WEIGHT, WEIGHT + SCALE]}  # noqa: RUF012

    def get_load_operations(self) -> dict[str, type[ConversionOps]]:
        return {"dequantize": Restore}

    def _process_model_after_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        """Forget how weights were restored: transformers up to 5.23 would undo it when it saves them."""
        undone = getattr(model, "_weight_conversions", None) or []
        model._weight_conversions = [each for each in undone if not _restores(each)]
        return model

    def is_serializable(self) -> bool:
        return True

    @property
    def is_trainable(self) -> bool:
        return True


def _restores(conversion: Any) -> bool:
    return any(isinstance(operation, Restore) for operation in getattr(conversion, "operations", ()))
