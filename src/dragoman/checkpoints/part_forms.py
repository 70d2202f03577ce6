"""The parts of a packed model as named arrays and a few facts, and back: what is kept of each kind.

A new kind of part, or a new form of one, is a row in `FORMS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dragoman.checkpoints.numbers import Numbers
from dragoman.errors import CheckpointError, Shape
from dragoman.kernels.arrays import Stored
from dragoman.kernels.head import Embedding, Head
from dragoman.kernels.linear import Linear
from dragoman.kernels.packing import PRECISIONS, Packed
from dragoman.kernels.structs import KINDS

Arrays = Mapping[str, Numbers]
Facts = Mapping[str, Any]
"""What JSON can say."""


@dataclass(frozen=True)
class Form:
    """How parts of one class are taken apart and put together; both in the same memory."""

    of: type
    arrays: Callable[[Any], dict[str, Numbers]]
    facts: Callable[[Any], dict[str, Any]]
    """With the `shape` that the weight has in the model."""
    make: Callable[[Arrays, Facts], Any]


def take_apart(part: Any) -> tuple[str, dict[str, Numbers], dict[str, Any]]:
    """The kind of a part, its arrays and its facts."""
    kind = next(name for name, form in FORMS.items() if isinstance(part, form.of))
    return kind, FORMS[kind].arrays(part), FORMS[kind].facts(part)


def put_together(name: str, kind: object, arrays: Arrays, facts: Facts) -> Any:
    """The part `name`, in the memory of its arrays; CheckpointError if they don't make one of this kind."""
    try:
        return FORMS[str(kind)].make(arrays, facts)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"the packed model has {name} in a form that is not known ({type(error).__name__}: {error}); "
            "convert it anew with dragoman convert"
        ) from None


def shape_of(facts: Facts) -> Shape:
    """The shape that a part's weight has in the model."""
    return tuple(facts["shape"])


def _linear_arrays(linear: Linear) -> dict[str, Numbers]:
    packed = linear.packed
    optional = {"scale": packed.scale, "bias": linear.bias}
    there = {name: Numbers(array, "F32") for name, array in optional.items() if array is not None}
    return {"data": Numbers(packed.data, "U8"), **there}


def _linear_facts(linear: Linear) -> dict[str, Any]:
    return {"precision": linear.packed.precision, "shape": [linear.outputs, linear.inputs]}


def _make_linear(arrays: Arrays, facts: Facts) -> Linear:
    precision, (outputs, inputs) = facts["precision"], shape_of(facts)
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}")
    scale = _data(arrays, "scale", "F32") if "scale" in arrays else None
    bias = _data(arrays, "bias", "F32") if "bias" in arrays else None
    packed = Packed(KINDS[precision], outputs, inputs, _data(arrays, "data", "U8"), scale)
    linear = Linear(packed, bias)
    linear.struct()  # looks at every shape
    return linear


def _head_arrays(head: Head) -> dict[str, Numbers]:
    rough = {f"rough.{name}": array for name, array in _linear_arrays(head.linear).items()}
    if head.exact is None:
        return rough
    # Measured over the whole matrix: once, here, and not whenever the model is opened.
    bounds = Numbers(np.array(head.bounds, np.float32), "F32")
    return {**rough, "exact": Numbers(head.exact.data, head.exact.dtype), "bounds": bounds}


def _make_head(arrays: Arrays, facts: Facts) -> Head:
    prefix = "rough."
    rough = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    linear = _make_linear(rough, facts)
    if "exact" not in arrays:
        return Head(linear, None)
    gap, norm = _data(arrays, "bounds", "F32").tolist()
    head = Head(linear, _table(arrays["exact"], facts), measured=(gap, norm))
    head.struct()
    return head


def _make_embedding(arrays: Arrays, facts: Facts) -> Embedding:
    return Embedding(_table(arrays["weight"], facts), float(facts["scale"]))


def _make_vector(arrays: Arrays, facts: Facts) -> Any:
    value = _data(arrays, "value", "F32")
    if value.shape != shape_of(facts):
        raise ValueError(f"its value is {list(value.shape)}")
    return value


def _data(arrays: Arrays, name: str, dtype: str) -> Any:
    if arrays[name].dtype != dtype:
        raise ValueError(f"its {name} is in {arrays[name].dtype}")
    return arrays[name].data


def _table(numbers: Numbers, facts: Facts) -> Stored:
    if numbers.shape != shape_of(facts):
        raise ValueError(f"its table is {list(numbers.shape)}")
    return Stored(numbers.data, numbers.dtype)


FORMS = {
    "linear": Form(Linear, _linear_arrays, _linear_facts, _make_linear),
    "head": Form(Head, _head_arrays, lambda head: _linear_facts(head.linear), _make_head),
    "embedding": Form(
        Embedding,
        lambda part: {"weight": Numbers(part.weight.data, part.weight.dtype)},
        lambda part: {"shape": list(part.weight.shape), "scale": part.scale},
        _make_embedding,
    ),
    "vector": Form(
        np.ndarray,
        lambda part: {"value": Numbers(part, "F32")},
        lambda part: {"shape": list(part.shape)},
        _make_vector,
    ),
}
