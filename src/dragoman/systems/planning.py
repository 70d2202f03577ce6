"""What a model is and how it would run, found out without reading its weights."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragoman.checkpoints.cards import ModelCard
from dragoman.checkpoints.packed_folders import PackedModel
from dragoman.evaluation.experts import SIDES
from dragoman.systems.placement import Placement, place, place_packed


@dataclass(frozen=True)
class Plan:
    """A model before it is loaded."""

    folder: Path
    files: Any
    """Where its weights are, as the family's loader takes them."""
    tokenizer: Any
    card: ModelCard
    placement: Placement
    style: str | None = None
    """Of its prompts, if it reads any."""

    @property
    def bytes(self) -> int:
        """What it takes at least: its weights, and a sentence at work."""
        return self.placement.budget.weights + self.placement.budget.least


Placing = Callable[[Any, str, str, str | int | None], Placement]
"""Of what was opened, a device, a precision and a memory: how it runs."""


def placed(opened: Any, device: str, precision: str, memory: str | int | None) -> Placement:
    """How weights in files would run, packed or not; `placement.place` explains the arguments."""
    if not isinstance(opened, PackedModel):
        return place(opened.config, device, precision, memory)
    experts = opened.expert_bytes(), sum(len(opened.experts(side)) for side in SIDES)
    return place_packed(opened.config, opened.precision, opened.bytes(), device, precision, memory, experts)
