"""How transformers calls the faces, and what they let through.

Releases of transformers differ in one name: up to 5.23 a cache is `past_key_values`, in calls and
in outputs, and from 5.24 on `cache`. The faces take either and say `past_key_values` inside; this
is the only place that knows both. What else comes under a name that a face doesn't know is an
error: what is swallowed changes results without a word.
"""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import fields
from functools import wraps
from typing import Any, TypeVar, cast

from torch import Tensor
from transformers import Cache, GenerationMixin
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.utils import ModelOutput

Forward = TypeVar("Forward", bound=Callable[..., Any])

INSIDE, ELSEWHERE = CACHE_NAMES = ("past_key_values", "cache")
"""What a cache may be called; the first is our own word."""

_FIELD = ELSEWHERE if ELSEWHERE in {field.name for field in fields(BaseModelOutputWithPast)} else INSIDE

# They say nothing to a face that doesn't name them: how many labels a loss is shared by, and
# whether to make a cache.
_HARMLESS = frozenset({"num_items_in_batch", "use_cache"})


def checked(forward: Forward) -> Forward:
    """A forward that takes its cache by either name, and refuses what it doesn't know.

    Both names are in the signature, where PEFT and Trainer look for what a model takes. Raises
    TypeError for an argument without a place, and for two caches; an unknown one that is None is
    no argument.
    """
    shown = inspect.signature(forward)
    known = frozenset(shown.parameters)

    @wraps(forward)
    def call(self: Any, *args: Any, **options: Any) -> Any:
        if INSIDE in known and ELSEWHERE in options:
            other = options.pop(ELSEWHERE)
            if other is not None:
                options[INSIDE] = _one_of(options.get(INSIDE), other)
        unknown = {name: value for name, value in options.items() if name not in known}
        if unknown:
            refuse_unknown(f"{type(self).__name__}.forward", unknown, known - {"self"}, _HARMLESS)
            options = {name: value for name, value in options.items() if name in known}
        return forward(self, *args, **options)

    if INSIDE in known:
        also = shown.parameters[INSIDE].replace(name=ELSEWHERE, kind=inspect.Parameter.KEYWORD_ONLY)
        shown = shown.replace(parameters=[*shown.parameters.values(), also])
    call.__signature__ = shown  # type: ignore[attr-defined]
    return cast(Forward, call)


def _one_of(given: Cache | None, other: Cache) -> Cache:
    """The cache that came under two names; of two, that which has something in it."""
    if given is None or given is other:
        return other
    filled = [cache for cache in (given, other) if cache.get_seq_length()]
    if len(filled) != 1:
        raise TypeError(f"different caches came as {INSIDE} and as {ELSEWHERE}; the model has one: pass one")
    return filled[0]


def refuse_unknown(
    what: str, options: dict[str, Any], possible: Iterable[str], harmless: frozenset[str] = frozenset()
) -> None:
    """TypeError if one of `options` is more than None and not `harmless`; a cache never is."""
    for name, value in options.items():
        if isinstance(value, Cache) or (value is not None and name not in harmless):
            raise TypeError(
                f"{what} doesn't know {name}, which is {_kind(value)}, and ignores nothing; "
                f"it takes {', '.join(sorted(possible))}"
            )


def _kind(value: Any) -> str:
    """What an argument is, in few words and without its contents."""
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)}"
    return repr(value) if isinstance(value, bool | int | float) else f"a {type(value).__name__}"


def cache_field(cache: Cache | None) -> dict[str, Any]:
    """The cache as a field of an output, under the name of the installed release."""
    return {_FIELD: cache}


def cache_of(output: ModelOutput) -> Cache | None:
    """The cache in an output."""
    return getattr(output, _FIELD)


def mask_as_it_is(attention_mask: Tensor | None = None, **options: Any) -> Tensor | None:
    """The mask that `generate` would make for a static cache: the one it has; ours says where it ends."""
    known = {"config", "inputs_embeds", "position_ids", "is_first_iteration", *CACHE_NAMES}
    unknown = {name: value for name, value in options.items() if name not in known}
    refuse_unknown("the mask", unknown, {"attention_mask", *known})
    return attention_mask


# Its parameters are read by `generate`; how they are typed differs between releases.
_with_its_signature: Any = wraps(GenerationMixin.prepare_inputs_for_generation)


class FaceGenerationMixin(GenerationMixin):
    """`generate`, whose steps have the cache under both names.

    PEFT's prompts read and write the cache of a step by the name that their release knows.
    """

    create_masks_for_generate = staticmethod(mask_as_it_is)

    @_with_its_signature
    def prepare_inputs_for_generation(self, *args: Any, **options: Any) -> dict[str, Any]:
        usual: Any = super()
        inputs: dict[str, Any] = usual.prepare_inputs_for_generation(*args, **options)
        cache = inputs.get(_FIELD)
        return inputs if cache is None else {**inputs, **dict.fromkeys(CACHE_NAMES, cache)}
