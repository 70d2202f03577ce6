"""In which precision a model runs, and by which code: one decision, taken when it is loaded."""

from dataclasses import dataclass
from typing import Any

import torch

from dragoman.errors import InvalidOption
from dragoman.kernels.library import forced, kernels
from dragoman.kernels.packing import PRECISIONS
from dragoman.limits import memory_limit
from dragoman.models.llama import Llama
from dragoman.models.nllb import Nllb
from dragoman.native.llama import NativeLlama
from dragoman.native.nllb import NativeNllb
from dragoman.surgery.packing import pack_

AUTO = "auto"
# How much of the computer's memory the weights may take, if nobody says in which precision.
SHARE = 0.5
BYTES = {"fp32": 4.0, "fp16": 2.0, "int8": 1.0, "int4": 0.5625}
"""Of a weight, scales included."""


@dataclass(frozen=True)
class Plan:
    """How to load a model and what to do with it then."""

    precision: str
    """One of PRECISIONS."""
    dtype: torch.dtype | None
    """What to load the weights in; None: as they are stored, for they will be packed."""
    packs: bool


def plan(precision: str, device: str) -> Plan:
    """How a model in `precision` ("auto" or one of PRECISIONS) is loaded onto `device`.

    On a CPU "auto" is settled once the model is there (see `prepare`); on an accelerator it is
    fp16. Raises InvalidOption for another precision.
    """
    if precision not in (AUTO, *PRECISIONS):
        raise InvalidOption(
            f"precision is {precision!r}; it must be {AUTO} or one of {', '.join(PRECISIONS)}"
        )
    if torch.device(device).type != "cpu":
        precision = "fp16" if precision == AUTO else precision
        floats = {"fp32": torch.float32, "fp16": torch.float16}
        return Plan(precision, floats.get(precision), precision not in floats)
    if (precision == "fp32" and not _faster()) or (precision == AUTO and kernels() is None):
        return Plan("fp32", torch.float32, False)
    return Plan(precision, None, True)


def _faster() -> bool:
    """Whether exact models run in the kernels: these are faster than PyTorch, or asked for by name.

    Without a processor's vectors, or in one thread, the kernels are slower.
    """
    native = kernels()
    return native is not None and (forced() or (native.parallel and native.isa != "plain"))


def prepare(model: Nllb | Llama, plan: Plan) -> tuple[Any, str]:
    """What generates with the loaded model (itself, or its native twin), and its precision.

    The model's weights are packed in place if the plan says so. "auto" becomes the most exact
    precision whose weights fill at most half of the computer's memory.
    """
    precision = plan.precision
    if not plan.packs:
        return model, precision
    if precision == AUTO:
        precision = fitting(sum(p.numel() for p in model.parameters()))
        if precision == "fp32" and not _faster():
            return model.float(), precision
    pack_(model, precision)
    if isinstance(model, Nllb):
        return (NativeNllb(model) if NativeNllb.supports(model) else model), precision
    return (NativeLlama(model) if NativeLlama.supports(model) else model), precision


def fitting(weights: int, memory: float | None = None) -> str:
    """The most exact precision in which that many weights fill at most a SHARE of the memory, or int4."""
    memory = memory_limit() if memory is None else memory
    return next((p for p in PRECISIONS if weights * BYTES[p] <= SHARE * memory), "int4")
