"""Language modules on a loaded model: attached, detached, merged into the weights and taken out again.

All verbs work on the plain `Llama` and on the transformers faces, and while a model is
being used: decoding under way goes on with the modules it finds at its next step.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from dragoman.checkpoints.llama import attach_from_files, attach_tensors
from dragoman.checkpoints.module_folders import (
    ADAPTER_CONFIG,
    Module,
    Reader,
    has_weights,
    open_adapter,
    open_model,
)
from dragoman.checkpoints.module_layout import (
    PARTS,
    Layout,
    LoraName,
    lora_shapes,
    parse_adapter,
    parse_combined,
)
from dragoman.errors import CheckpointError, InvalidOption, KeyMismatch, LanguageModuleError
from dragoman.kernels.linear import PackedLinear
from dragoman.layers.low_rank import AdaptedProjections
from dragoman.models.llama import ANY, LlamaLayer, LlamaStack, Original

Source = str | Path | Mapping[str, Tensor]
"""A combined checkpoint's folder, a PEFT adapter's folder, or tensors named as in either."""


def groups(model: nn.Module) -> tuple[int, ...]:
    """The groups whose modules are attached."""
    return tuple(sorted(stack_of(model).language.scales))


def attach_(model: nn.Module, group: int, source: Source | None = None, scale: float | None = None) -> None:
    """Give rows of `group` their module. Only this module's tensors are read.

    source: where it is; None means the combined checkpoint that the model came from. scale:
    what its products are multiplied by; None means what the source says, or for bare
    tensors the model's config. Weights of which nobody knows whether a module is merged
    into them count as a base from then on. Raises LanguageModuleError if the group is there already,
    CheckpointError or KeyMismatch if the source has no module that fits.
    """
    stack = stack_of(model)
    if isinstance(group, bool) or not isinstance(group, int) or group < 1:
        raise InvalidOption(f"group is {group!r}; language groups are numbers, from 1 on")
    if group in stack.language.scales:
        raise LanguageModuleError(f"group {group} is attached already; detach_ it to replace it")
    if source is None:
        source = stack.language.source
        if source is None:
            raise LanguageModuleError(
                f"the model did not come from a combined checkpoint; say where the module of group {group} is"
            )
    if isinstance(source, (str, Path)):
        module = find_module(source, group)
        tensors = {name: place.shape for name, place in module.tensors.items()}
        _check_fit(stack, tensors, str(source))
        attach_from_files(stack, group, module, Reader())
        scale = module.scale if scale is None else scale
    else:
        found = _named(source, group)
        _check_fit(stack, {name: tuple(tensor.shape) for name, tensor in found.items()}, "the tensors given")
        attach_tensors(stack, group, found)
    _pack_like_base(stack, group)
    stack.language.scales[group] = float(stack.shape.lora_alpha if scale is None else scale)
    if stack.language.merged == ANY:
        stack.language.merged = None
    stack.language.version += 1


def detach_(model: nn.Module, group: int) -> None:
    """Take the module of `group` away and free its memory; LanguageModuleError if it isn't attached.

    If the group is merged, the weights stay as they are.
    """
    stack = stack_of(model)
    _require(stack, group)
    for layer in _layers(stack):
        layer.self_attn.detach(group)
        layer.mlp.detach(group)
    del stack.language.scales[group]
    stack.language.version += 1


def merge_(model: nn.Module, group: int, keep_original: bool = True) -> None:
    """Make the weights W + scale * B A of `group`: its rows then cost what the base costs.

    The sum is taken in float32 and rounded once. Rows of other groups are an error until
    `unmerge_`. keep_original: keep the weights as they were, in the CPU's memory (those of a
    model that still lie in its file stay there), because no floating-point subtraction
    brings back what rounding took. Without it `unmerge_` is impossible. Raises
    LanguageModuleError if something is merged already, or the base is quantised.
    """
    stack = stack_of(model)
    language = stack.language
    if language.merged is not None:
        raise LanguageModuleError("a module is merged into the weights already; unmerge_ the model first")
    _require(stack, group)
    pairs = list(_pairs(stack, group))
    for name, linear, *_ in pairs:
        if not _is_plain(linear):
            raise LanguageModuleError(
                f"{name} is a {type(linear).__name__} and not a plain linear layer in memory; a "
                "quantised, packed, wrapped or offloaded base can't take a module in. "
                "Leave the module attached, or merge it first"
            )
    originals = []
    scale = language.scales[group]
    with torch.inference_mode(False), torch.no_grad():
        for name, linear, *pair in pairs:
            weight: Tensor = linear.weight  # type: ignore[assignment]
            a, b = (module.get_parameter("weight").float() for module in pair)
            total = weight.to(torch.float32, copy=True)
            total.addmm_(b, a, alpha=scale)
            before, weight.data = weight.data, total.to(weight.dtype)
            if keep_original:
                originals.append(Original(name, before.to("cpu"), weight._version))
    language.merged = group
    language.originals = originals if keep_original else None
    language.version += 1


def unmerge_(model: nn.Module) -> None:
    """Give the base its own weights back, bit for bit: they were kept, not computed.

    Raises LanguageModuleError if nothing is merged, if the weights were not kept, or if the
    merged ones were changed since (trained).
    """
    stack = stack_of(model)
    language = stack.language
    if language.merged is None:
        raise LanguageModuleError("nothing is merged into the weights")
    if language.originals is None:
        raise LanguageModuleError(
            "the weights were merged without keeping the originals (in the file, or by keep_original=False); "
            "load the base again"
        )
    weights: list[Tensor] = [stack.get_submodule(o.name).weight for o in language.originals]  # type: ignore[misc]
    for original, weight in zip(language.originals, weights, strict=True):
        if weight._version != original.version:
            raise LanguageModuleError(
                f"{original.name} was changed since group {language.merged} was merged into it, and the "
                "original would undo that; save the model, and load the base again"
            )
    with torch.inference_mode(False), torch.no_grad():
        for original, weight in zip(language.originals, weights, strict=True):
            weight.data = original.weight.to(weight.device, weight.dtype)
    language.merged = language.originals = None
    language.version += 1


def stack_of(model: nn.Module) -> LlamaStack:
    """The part of a model that has the language modules; InvalidOption if it has no such part."""
    prefix = getattr(model, "base_model_prefix", "model")
    for candidate in (model, getattr(model, prefix, None)):
        if hasattr(candidate, "language") and hasattr(candidate, "layers"):
            return candidate  # type: ignore[return-value]
    raise InvalidOption(f"{type(model).__name__} is no Llama or X-ALMA model, so it has no language modules")


def find_module(folder: str | Path, group: int) -> Module:
    """The module of `group` in a combined checkpoint or an adapter's folder, none of it read yet."""
    folder = Path(folder).expanduser()
    if (folder / ADAPTER_CONFIG).is_file():
        module = open_adapter(folder)
        if module.group not in (None, group):
            raise CheckpointError(
                f"{folder} says it is the module of group {module.group}, not of group {group}"
            )
        return module
    if not has_weights(folder):
        raise CheckpointError(f"{folder} holds neither a combined checkpoint nor a PEFT adapter")
    model = open_model(folder)
    if group not in model.modules:
        there = ", ".join(map(str, sorted(model.modules))) or "none"
        raise CheckpointError(f"{folder} holds no module of group {group}; groups there: {there}")
    return model.modules[group]


def _pack_like_base(stack: LlamaStack, group: int) -> None:
    """Pack a module just attached where the projections that it belongs to are packed."""
    for layer in _layers(stack):
        for projection, part in PARTS.items():
            owner, short = getattr(layer, part), projection.removesuffix("_proj")
            base = getattr(owner, projection)
            if not isinstance(base, PackedLinear) or owner.module_pair(short, group) is None:
                continue
            for side in "AB":
                modules: nn.ModuleDict = getattr(owner, f"{short}_lora_{side}")
                modules[str(group)] = PackedLinear.of(modules[str(group)], base.precision)  # type: ignore[arg-type]


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


def _check_fit(stack: LlamaStack, found: Mapping[LoraName, tuple[int, ...]], where: str) -> None:
    """A module may leave projections out, but then in all layers; all else must be there."""
    layout = Layout.from_config(stack.shape.to_dict())
    present = {name.projection for name in found}
    rank = next((shape[0] for name, shape in found.items() if name.side == "A"), 0)
    sizes = {name: size for name, size in layout.sizes.items() if name in present}
    expected = lora_shapes(layout.layers, sizes, rank)
    missing = [name.adapter for name in expected if name not in found]
    unexpected = [name.adapter for name in found if name not in expected]
    misshapen = {
        name.adapter: (shape, expected[name])
        for name, shape in found.items()
        if name in expected and shape != expected[name]
    }
    if missing or unexpected or misshapen:
        raise KeyMismatch.in_folder(where, missing, unexpected, misshapen, "the model")


def _pairs(stack: LlamaStack, group: int) -> Iterator[tuple[str, nn.Module, nn.Module, nn.Module]]:
    """(name, base projection, A, B) of all that the module of `group` changes."""
    for index, layer in enumerate(_layers(stack)):
        for projection, part in PARTS.items():
            owner: AdaptedProjections = getattr(layer, part)
            pair = owner.module_pair(projection.removesuffix("_proj"), group)
            if pair is not None:
                name = f"layers.{index}.{part}.{projection}"
                yield name, getattr(owner, projection), *pair


def _layers(stack: LlamaStack) -> Iterator[LlamaLayer]:
    yield from stack.layers  # type: ignore[misc]


def _is_plain(linear: nn.Module) -> bool:
    """Whether it has a weight in memory that numbers can be added to."""
    weight = getattr(linear, "weight", None)
    return (
        type(linear) is nn.Linear
        and isinstance(weight, Tensor)
        and weight.is_floating_point()
        and not weight.is_meta
    )


def _require(stack: LlamaStack, group: int) -> None:
    if group not in stack.language.scales:
        there = ", ".join(map(str, sorted(stack.language.scales))) or "none"
        raise LanguageModuleError(f"group {group} is not attached (attached: {there})")
