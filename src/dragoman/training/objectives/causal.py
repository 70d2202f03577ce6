"""Learning to continue: causal language modelling, fine-tuning on prompts, preferences."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dragoman.models.llama import Llama
from dragoman.training.objectives.base import PAIRS, TOKENS, Losses, output_weight, working_dtype
from dragoman.training.objectives.cross_entropy import token_log_probs
from dragoman.training.objectives.preference import PairLogProbs


@dataclass(frozen=True)
class Rows:
    """Token rows [rows, time], padded on the right: nothing real ever looks at padding."""

    tokens: Tensor
    learned: Tensor
    """Boolean [rows, time]: the tokens that shall be predicted. Never the first of a row, nor padding; not
    the prompt's where only the answer is to be learned."""
    groups: Sequence[int] | None = None
    """The language group of each row, 0 for none."""

    def __len__(self) -> int:
        return len(self.tokens)

    def to(self, device: torch.device) -> "Rows":
        return Rows(self.tokens.to(device), self.learned.to(device), self.groups)


@dataclass(frozen=True)
class Pairs:
    """Twice as many rows as pairs: first the chosen ones, then the rejected ones in the same order."""

    rows: Rows

    def __len__(self) -> int:
        return len(self.rows.tokens) // 2

    def to(self, device: torch.device) -> "Pairs":
        return Pairs(self.rows.to(device))


def learned_log_probs(model: Llama, rows: Rows) -> tuple[Tensor, Tensor]:
    """The log-probability of each learned token [learned], and the row that it is in [learned]."""
    hidden = model.model(rows.tokens[:, :-1], groups=rows.groups)
    learned = rows.learned[:, 1:]
    states = hidden[learned].to(working_dtype(hidden))
    found = token_log_probs(states, output_weight(model), rows.tokens[:, 1:][learned])
    return found, learned.nonzero()[:, 0]


@dataclass(frozen=True)
class Causal:
    """The negative log-likelihood of all learned tokens: language modelling and supervised fine-tuning."""

    figures: ClassVar[Mapping[str, str]] = {"loss": TOKENS}

    def counts(self, batch: Rows) -> dict[str, float]:
        return {TOKENS: float(batch.learned.sum())}

    def to(self, device: torch.device) -> None:
        pass

    def __call__(self, model: Llama, batch: Rows) -> Losses:
        loss = -learned_log_probs(model, batch)[0].sum()
        return Losses({TOKENS: loss}, {"loss": float(loss.detach())})


@dataclass(frozen=True)
class Preference:
    """A loss of pairs, and `nll` times the negative log-likelihood per token of what was chosen."""

    ranking: Callable[[PairLogProbs], Tensor]
    """One of `preference`, with its constants."""
    nll: float = 0.0
    reference: Llama | None = None
    """What the model is compared with, where the ranking does that."""
    figures: ClassVar[Mapping[str, str]] = {
        "loss": TOKENS,
        "ranking": PAIRS,
        "accuracy": PAIRS,
        "margin": PAIRS,
    }
    """loss: of the chosen side's tokens; accuracy: how often the chosen side is the likelier one; margin: by
    how much, in nats."""

    def counts(self, batch: Pairs) -> dict[str, float]:
        return {TOKENS: float(batch.rows.learned[: len(batch)].sum()), PAIRS: float(len(batch))}

    def to(self, device: torch.device) -> None:
        if self.reference is not None:
            self.reference.to(device)

    def __call__(self, model: Llama, batch: Pairs) -> Losses:
        found = self.log_probs(model, batch)
        ranking = self.ranking(found).sum()
        likelihood = -found.chosen.sum()
        terms = {PAIRS: ranking}
        if self.nll:
            terms[TOKENS] = self.nll * likelihood
        margins = (found.chosen - found.rejected).detach()
        figures = {
            "loss": float(likelihood.detach()),
            "ranking": float(ranking.detach()),
            "accuracy": float((margins > 0).sum()),
            "margin": float(margins.sum()),
        }
        return Losses(terms, figures)

    def log_probs(self, model: Llama, batch: Pairs) -> PairLogProbs:
        """Both sides of each pair by the model, and by the reference if there is one."""
        count, tokens = len(batch), batch.rows.learned[:, 1:].sum(1)
        sums = _row_sums(model, batch.rows)
        chosen = rejected = None
        if self.reference is not None:
            with torch.no_grad():
                chosen, rejected = _row_sums(self.reference, batch.rows).split(count)
        (won, lost), (won_tokens, lost_tokens) = sums.split(count), tokens.split(count)
        return PairLogProbs(won, lost, won_tokens, lost_tokens, chosen, rejected)


def _row_sums(model: Llama, rows: Rows) -> Tensor:
    """The log-probability of what is learned of each row, [rows]."""
    found, row = learned_log_probs(model, rows)
    return found.new_zeros(len(rows.tokens)).index_add(0, row, found)
