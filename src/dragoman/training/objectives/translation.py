"""Learning to translate with an encoder and a decoder: NLLB, dense and sparse."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from dragoman.models.nllb import Nllb, Trace
from dragoman.training.objectives.base import BATCHES, TOKENS, Losses, output_weight, working_dtype
from dragoman.training.objectives.cross_entropy import smoothed_cross_entropy
from dragoman.training.objectives.routing import expert_load, router_losses


class SourceAndTarget(Protocol):
    """A batch: source and target [batch, time], the latter starting with `</s>`; both padded on the right."""

    @property
    def source(self) -> Tensor: ...

    @property
    def target(self) -> Tensor: ...


@dataclass(frozen=True)
class Translation:
    """Label-smoothed cross-entropy of the target's tokens, and the routers' losses."""

    pad: int
    smoothing: float = 0.0
    balance: float = 0.0
    """Weight of the balance loss, summed over layers."""
    z: float = 0.0
    """Weight of the z-loss, summed over layers."""
    figures: ClassVar[Mapping[str, str]] = {"loss": TOKENS, "aux": BATCHES, "load": BATCHES}

    def counts(self, batch: SourceAndTarget) -> dict[str, float]:
        return {TOKENS: float((batch.target[:, 1:] != self.pad).sum()), BATCHES: 1.0}

    def to(self, device: torch.device) -> None:
        pass

    def __call__(self, model: Nllb, batch: SourceAndTarget) -> Losses:
        source, target, pad = batch.source, batch.target, self.pad
        encoder, decoder = Trace(), Trace()
        keep = source != pad
        encoded = model.encoder(source, keep, encoder)
        keep_target = target[:, :-1] != pad
        hidden = model.decoder(target[:, :-1], encoded, keep, keep_target, trace=decoder)
        gold = target[:, 1:]
        real = gold != pad
        states = hidden[real].to(working_dtype(hidden))
        routings = encoder.routings + decoder.routings
        with torch.autocast(hidden.device.type, enabled=False):
            loss, nll = smoothed_cross_entropy(states, output_weight(model), gold[real], self.smoothing)
            aux = router_losses(routings, self.balance, self.z)
        figures = {"loss": float(nll), "aux": float(aux.detach())}
        if routings:
            figures["load"] = expert_load(routings)
        return Losses({TOKENS: loss, BATCHES: aux}, figures)
