"""What an objective is to the loop: sums over a batch, which the loop divides by counts of the whole update.

So an update is the same however its batches are cut, accumulated, or spread over processes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

TOKENS, PAIRS, BATCHES = "tokens", "pairs", "batches"
"""What terms and figures are counted by: learned tokens, pairs of a preference, batches."""


@dataclass(frozen=True)
class Losses:
    """What an objective finds for one batch."""

    terms: Mapping[str, Tensor]
    """Losses with their gradients, summed over the batch, by what they are counted by. The loss of an update
    is the sum of all terms, each divided by its count in all batches of the update."""
    figures: dict[str, float] = field(default_factory=dict)
    """Sums for the log, by name; the objective's `figures` says what each is counted by."""


class Objective(Protocol):
    """Knows what to learn from a batch; knows no optimizer, no files, no schedule."""

    @property
    def figures(self) -> Mapping[str, str]:
        """What each figure is counted by."""

    def counts(self, batch: Any) -> dict[str, float]:
        """What a batch counts, before anything is computed."""

    def to(self, device: torch.device) -> None:
        """Bring what it computes with beside the model and the batch to a device."""

    def __call__(self, model: Any, batch: Any) -> Losses:
        """The losses of a batch that is on the model's device."""


def working_dtype(x: Tensor) -> torch.dtype:
    """What products with `x` are taken in: autocast's type where it is on, else that of `x`."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def output_weight(model: nn.Module) -> Tensor:
    """The output layer [vocabulary, hidden]."""
    weight: Tensor = model.get_submodule("lm_head").weight  # type: ignore[assignment]
    return weight
