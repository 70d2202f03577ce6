"""Where a native model's weights come from: whatever holds them under their published names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np

from dragoman.errors import CheckpointError
from dragoman.kernels.arrays import Array
from dragoman.kernels.head import Embedding, Head
from dragoman.kernels.linear import Linear

Part = Linear | Embedding | Head | Array
Kind = TypeVar("Kind")


Key = tuple[int, int]
"""An expert: its layer and its number there."""
Expert = tuple[Linear, Linear]
"""Its two layers."""
News = tuple[list[tuple[Key, Expert]], list[Key]]
"""Those that have come, and those that have left; the latter go first."""


class Experts(Protocol):
    """The experts of an encoder or decoder that come when they are needed, by one pass at a time."""

    @property
    def precision(self) -> str:
        """Of their weights."""

    @property
    def leave(self) -> bool:
        """Whether there is no room for all of them."""

    def settle(self) -> News:
        """Before a pass: what has happened since the last one was told."""

    def take(self, keys: Sequence[Key], fresh: bool) -> News:
        """Have those that a pass needs come; if none of them is there, wait for one.

        keys: all that the pass has still to use in its present layer; fresh: whether it has just come there.
        One of `keys` that is there never leaves. Raises CheckpointError if one can't be read.
        """

    def release(self, visits: Array) -> None:
        """A pass is over. visits: rows by layer and number, int32 [layers, experts]."""


class Weights(Protocol):
    """The parts of a packed model; CheckpointError for one that isn't there.

    A name is that of a layer, such as `decoder.layers.0.fc1`, but in `vector` that of a parameter.
    """

    def linear(self, name: str) -> Linear: ...

    def vector(self, name: str) -> Array:
        """A parameter of a norm, float32 [hidden]."""

    def embedding(self, name: str) -> Embedding: ...

    def head(self, name: str) -> Head: ...

    def module(self, name: str, group: int) -> tuple[Linear, Linear] | None:
        """A language module's two thin products for projection `name`; None if it leaves that out."""

    def experts(self, side: str) -> Experts | None:
        """Those of the "encoder" or "decoder" if they come when they are needed; None: parts like others."""


@dataclass(frozen=True)
class PackedWeights:
    """Weights that are in memory under their names.

    A language module's products for `…q_proj` are `…q_lora_A.6` and `…q_lora_B.6`, as in the combined X-ALMA
    checkpoint.
    """

    parts: Mapping[str, Part]
    by_side: Mapping[str, Experts] = field(default_factory=dict)
    """Experts that come when they are needed."""

    def linear(self, name: str) -> Linear:
        return self._part(name, Linear)

    def vector(self, name: str) -> Array:
        return self._part(name, np.ndarray)

    def embedding(self, name: str) -> Embedding:
        return self._part(name, Embedding)

    def head(self, name: str) -> Head:
        return self._part(name, Head)

    def module(self, name: str, group: int) -> tuple[Linear, Linear] | None:
        a, b = (f"{name.removesuffix('_proj')}_lora_{side}.{group}" for side in "AB")
        return (self.linear(a), self.linear(b)) if a in self.parts else None

    def experts(self, side: str) -> Experts | None:
        return self.by_side.get(side)

    def _part(self, name: str, kind: type[Kind]) -> Kind:
        found = self.parts.get(name)
        if found is None:
            raise CheckpointError(f"the packed model has no {name}; take another copy of it")
        if not isinstance(found, kind):
            raise CheckpointError(
                f"{name} of the packed model is of the kind {type(found).__name__}, not {kind.__name__}"
            )
        return found
