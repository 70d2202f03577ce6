"""An average of a model's weights over the last updates, which is better than any of them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dragoman.training.spreading import like


class WeightAverage:
    """The exponential moving average of those of a model's parameters that are trained.

    While the rate is constant it comes near to what a falling rate would give. The first averages weigh all
    updates alike.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = model, decay
        self.updates = 0
        self.weights = {name: p.detach().clone() for name, p in self._trained()}

    @torch.no_grad()
    def add(self) -> None:
        """Take in the model's present weights."""
        self.updates += 1
        share = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, parameter in self._trained():
            self.weights[name].lerp_(parameter.detach(), share)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Inside, the model has the averages for weights."""
        own = {name: p.detach().clone() for name, p in self._trained()}
        self._put(self.weights)
        try:
            yield
        finally:
            self._put(own)

    def keep(self) -> None:
        """Leave the model the averages for good."""
        self._put(self.weights)

    @torch.no_grad()
    def _put(self, weights: dict[str, Tensor]) -> None:
        for name, parameter in self._trained():
            parameter.copy_(weights[name])

    def _trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, p) for name, p in self.model.named_parameters() if p.requires_grad)

    def state_dict(self) -> dict[str, object]:
        return {"updates": self.updates, "weights": self.weights}

    def load_state_dict(self, state: dict) -> None:
        self.updates = state["updates"]
        for name, weight in state["weights"].items():
            self.weights[name].copy_(like(weight, self.weights[name]))
