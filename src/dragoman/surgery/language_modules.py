"""Language modules on a loaded model: attached, detached, merged into the weights and taken out again.

All verbs work on the plain `Llama` and on the transformers faces, and while a model is
being used: decoding under way goes on with the modules it finds at its next step.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from dragoman.checkpoints.module_layout import PARTS
from dragoman.errors import LanguageModuleError
from dragoman.layers.lora import AdaptedProjections
from dragoman.models.language_modules import ANY
from dragoman.models.llama import LlamaLayer, LlamaStack, Original
from dragoman.surgery.module_reading import ReadModule, Source, read_module, refuse_attached, stack_of


def groups(model: nn.Module) -> tuple[int, ...]:
    """The groups whose modules are attached."""
    return tuple(sorted(stack_of(model).language.scales))


def attach_(
    model: nn.Module,
    group: int,
    source: Source | ReadModule | None = None,
    scale: float | None = None,
) -> None:
    """Give rows of `group` their module. Only this module's tensors are read.

    source: where it is; None means the combined checkpoint that the model came from. One that
    `read_module` has read for this model already is attached at once. scale:
    what its products are multiplied by; None means what the source says, or for bare
    tensors the model's config. Weights of which nobody knows whether a module is merged
    into them count as a base from then on. Raises LanguageModuleError if the group is there already,
    CheckpointError or KeyMismatch if the source has no module that fits.
    """
    stack = stack_of(model)
    if isinstance(source, ReadModule):
        refuse_attached(stack, group)
        module = source
    else:
        module = read_module(model, group, source, scale)
    for (index, projection), pair in module.pairs.items():
        owner: AdaptedProjections = getattr(stack.layers[index], PARTS[projection])
        owner.adopt(projection.removesuffix("_proj"), group, *pair)
    stack.language.scales[group] = module.scale if scale is None else float(scale)
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
