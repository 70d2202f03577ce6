"""Weights stored in 8 bits with a scale a row, as compressed-tensors does; read as the floats they stand for.

Its format "int-quantized" with the strategy "channel": `X.weight` is int8 [rows, columns], `X.weight_scale`
beside it a float [rows, 1], and a weight is their product. `quantization_config` in config.json says so, by
which whoever doesn't know it refuses the files instead of taking whole numbers for weights.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dragoman.checkpoints.numbers import LONG_NAMES, Numbers
from dragoman.errors import CheckpointError, ConfigError, Shape
from dragoman.models.config import read_config

FIELD = "quantization_config"
"""Of config.json."""
METHOD, FORMAT = "compressed-tensors", "int-quantized"
WHOLE = "I8"
"""What stored weights are, as files call it."""
SCALE = "_scale"
"""What the key of a weight's scales ends in, behind the weight's own."""
MOST = 127
"""The largest whole number; -128 is not used, so that both signs reach as far."""
_WEIGHTS = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False}
"""What has to be said of weights, in the words of the format."""
_DEFAULTS = {"type": "int", "symmetric": True, "dynamic": False}
"""What is meant where nothing is said."""
_ABSENT = ("input_activations", "output_activations")
_FLOATS = "Get the model in float32, float16 or bfloat16; it can be quantised after loading."


def quantization_config(kept: Iterable[str] = ()) -> dict[str, Any]:
    """What config.json says of a model whose matrices are stored so, all but those of the modules `kept`.

    Names, or patterns of them behind "re:".
    """
    group = {"targets": ["Linear", "Embedding"], "weights": dict(_WEIGHTS), **dict.fromkeys(_ABSENT)}
    return {
        "quant_method": METHOD,
        "format": FORMAT,
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": list(kept),
    }


def is_compressed(folder: Path) -> bool:
    """Whether config.json in `folder` says that weights are stored so; False if there is none.

    ConfigError if it says that they are quantised in any other way.
    """
    if not (folder / "config.json").is_file():
        return False
    found = read_config(folder).get(FIELD)
    if found is None:
        return False
    problem = problem_of(found)
    if problem is not None:
        raise ConfigError(
            f"{folder / 'config.json'}: {FIELD} says that the weights are quantised, {problem}. What can be "
            f"read is {METHOD}'s format {FORMAT!r} with 8 bits and a scale a row. {_FLOATS}"
        )
    return True


def problem_of(found: Any) -> str | None:
    """What of a `quantization_config` is not known here; None if all is."""
    if not isinstance(found, Mapping):
        return f"as {found!r}"
    for name, wanted in (("quant_method", METHOD), ("format", FORMAT)):
        if found.get(name) != wanted:
            return f"by {name} {found.get(name)!r}"
    groups = found.get("config_groups")
    if not isinstance(groups, Mapping) or not groups:
        return "without any config_groups"
    for name, group in groups.items():
        if not isinstance(group, Mapping) or not isinstance(group.get("weights"), Mapping):
            return f"and {name} doesn't say how weights are"
        if group.get("format", FORMAT) not in (FORMAT, None):
            return f"{name} by format {group['format']!r}"
        if any(group.get(other) for other in _ABSENT):
            return f"and {name} quantises activations, too"
        weights = {**_DEFAULTS, **group["weights"]}
        for field, value in _WEIGHTS.items():
            if weights.get(field) != value:
                return f"{name} with {field} {weights.get(field)!r}"
    return None


def quantised(weight: Numbers) -> tuple[Numbers, Numbers]:
    """A matrix [rows, columns] as int8 and its scales, float32 [rows, 1].

    The largest magnitude of a row becomes 127, so nothing is further off than half of the row's scale.
    CheckpointError if a number is NaN or infinite.
    """
    values = weight.float32()
    most = np.abs(values).max(axis=1, keepdims=True, initial=0)
    if not np.isfinite(most).all():
        raise CheckpointError("a weight that is to be stored in 8 bits holds NaN or infinite numbers")
    scale = most / np.float32(MOST)
    # Of tiny numbers the scale may be nothing; theirs is any.
    scale[scale == 0] = 1
    whole = np.rint(values / scale)
    np.clip(whole, -MOST, MOST, out=whole)
    return Numbers(whole.astype(np.int8), WHOLE), Numbers(scale, "F32")


def restored(whole: Numbers, scale: Numbers) -> Numbers:
    """The weights that stored ones stand for, in the type of their scales."""
    product = np.multiply(whole.data, scale.float32().reshape(-1, 1), dtype=np.float32)
    return Numbers(product, "F32").to(scale.dtype)


def check_scale(key: str, shape: Shape, scale: Shape, dtype: str) -> None:
    """CheckpointError unless these are scales, of this shape and dtype, for the rows of a weight."""
    if len(shape) != 2 or scale not in ((shape[0], 1), (shape[0],)) or dtype not in LONG_NAMES:
        raise CheckpointError(
            f"{key}{SCALE} is {list(scale)} in {dtype}, and {key} is {list(shape)}; a scale in float is "
            f"needed for each row of a matrix. {_FLOATS}"
        )
