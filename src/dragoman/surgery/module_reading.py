"""Reading a language module for a model that may be at work meanwhile: nothing of the model changes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from dragoman.checkpoints.module_finding import check_fit, find_module
from dragoman.checkpoints.module_layout import (
    PARTS,
    LoraName,
    parse_adapter,
    parse_combined,
)
from dragoman.checkpoints.places import Place, Reader
from dragoman.checkpoints.torch_tensors import tensor_of
from dragoman.errors import InvalidOption, KeyMismatch, LanguageModuleError
from dragoman.layers.lora import linear_of
from dragoman.layers.packed import PackedLinear
from dragoman.models.llama import LlamaStack

Source = str | Path | Mapping[str, Tensor]
"""A combined checkpoint's folder, a PEFT adapter's folder, or tensors named as in either."""


@dataclass(frozen=True)
class ReadModule:
    """A module in memory that fits a model, in the form in which it will be attached."""

    scale: float
    pairs: Mapping[tuple[int, str], tuple[nn.Module, nn.Module]]
    """By layer and projection: A and B."""

    @property
    def bytes(self) -> int:
        """What it takes in memory."""
        sides = (side for pair in self.pairs.values() for side in pair)
        return sum(t.nbytes for side in sides for t in (*side.parameters(), *side.buffers()))


def read_module(
    model: nn.Module, group: int, source: Source | None = None, scale: float | None = None
) -> ReadModule:
    """The module of `group`, ready to be attached; `attach_` explains the arguments and the errors.

    It is in the dtype and place of the model's norms, or packed where the projections it belongs to are.
    """
    stack = stack_of(model)
    if isinstance(group, bool) or not isinstance(group, int) or group < 1:
        raise InvalidOption(f"group is {group!r}; language groups are numbers, from 1 on")
    refuse_attached(stack, group)
    if source is None or isinstance(source, (str, Path)):
        where = stack.language.source if source is None else source
        module, read = find_module(where, group, stack.shape), Reader()
        pairs = pairs_for(
            stack, {name: partial(_read, read, place) for name, place in module.tensors.items()}
        )
        scale = module.scale if scale is None else scale
    else:
        found = _named(source, group)
        shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
        check_fit(stack.shape, shapes, "the tensors given", whole=True)
        pairs = pairs_for(stack, {name: partial(_given, tensor) for name, tensor in found.items()})
    return ReadModule(float(stack.shape.lora_alpha if scale is None else scale), pairs)


def stack_of(model: nn.Module) -> LlamaStack:
    """The part of a model that has the language modules; InvalidOption if it has no such part."""
    prefix = getattr(model, "base_model_prefix", "model")
    for candidate in (model, getattr(model, prefix, None)):
        if hasattr(candidate, "language") and hasattr(candidate, "layers"):
            return candidate  # type: ignore[return-value]
    raise InvalidOption(f"{type(model).__name__} is no Llama or X-ALMA model, so it has no language modules")


def refuse_attached(stack: LlamaStack, group: int) -> None:
    """LanguageModuleError if the group has its module."""
    if group in stack.language.scales:
        raise LanguageModuleError(f"group {group} is attached already; detach_ it to replace it")


def _read(read: Reader, place: Place) -> Tensor:
    return tensor_of(read(place))


def _given(tensor: Tensor) -> Tensor:
    return tensor


def pairs_for(
    stack: LlamaStack, tensors: Mapping[LoraName, Callable[[], Tensor]]
) -> dict[tuple[int, str], tuple[nn.Module, nn.Module]]:
    """A and B of each layer and projection, in the form of the projection, read one after the other."""
    pairs = {}
    for a in tensors:
        if a.side == "A":
            b = LoraName(a.layer, a.projection, "B")
            pairs[a.layer, a.projection] = (_side(stack, a, tensors[a]()), _side(stack, b, tensors[b]()))
    return pairs


def _side(stack: LlamaStack, name: LoraName, weight: Tensor) -> nn.Module:
    layer = stack.layers[name.layer]
    like: Tensor = layer.input_layernorm.weight  # type: ignore[union-attr,assignment]
    linear = linear_of(weight.detach().to(like.device, like.dtype))  # base weights may be quantised
    base = getattr(getattr(layer, PARTS[name.projection]), name.projection)
    if not isinstance(base, PackedLinear):
        return linear
    return PackedLinear.of(linear, base.precision, name.adapter.removesuffix(".weight"))


def _named(tensors: Mapping[str, Tensor], group: int) -> dict[LoraName, Tensor]:
    """The tensors of `group`; those of other groups are left alone, strange names are an error."""
    found: dict[LoraName, Tensor] = {}
    strange = []
    for key, tensor in tensors.items():
        combined = parse_combined(key)
        name = parse_adapter(key) if combined is None else combined[0]
        if name is None:
            strange.append(key)
        elif combined is None or combined[1] == group:
            found[name] = tensor
    if strange or not found:
        missing = [] if found else [LoraName(0, "q_proj", "A").combined(group)]
        raise KeyMismatch.in_folder("the tensors given", missing, strange, {}, "a language module")
    return found
