"""Losses of preferences: of two translations of a text the chosen one shall be the likelier one.

All take summed log-probabilities of a batch's pairs and give a loss for each pair, without reduction. CPO
and ARPO add the negative log-likelihood of what was chosen, which the objective does (`causal`).
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid


@dataclass(frozen=True)
class PairLogProbs:
    """What a model, and perhaps a reference, thinks of both sides of each pair: tensors [pairs]."""

    chosen: Tensor
    """log pi(chosen | prompt), summed over its tokens."""
    rejected: Tensor
    chosen_tokens: Tensor
    """How many tokens that is, the end included."""
    rejected_tokens: Tensor
    reference_chosen: Tensor | None = None
    """The same by the reference model, without gradient."""
    reference_rejected: Tensor | None = None

    @property
    def mean_chosen(self) -> Tensor:
        """Per token."""
        return self.chosen / self.chosen_tokens

    @property
    def mean_rejected(self) -> Tensor:
        """Per token."""
        return self.rejected / self.rejected_tokens


def cpo(found: PairLogProbs, beta: float = 0.1) -> Tensor:
    """-log sigmoid(beta (log pi(c) - log pi(r))): Contrastive Preference Optimization (arXiv 2401.08417)."""
    return -logsigmoid(beta * (found.chosen - found.rejected))


def arpo(found: PairLogProbs, beta: float = 0.1, eta: float = 1.5) -> Tensor:
    """Adaptive-Rejection Preference Optimization as X-ALMA's paper has it (arXiv 2410.03115).

    z = |mean log pi(c) - mean log pi(r)|, tau = min(exp(eta z) - 1, 1), and the loss is
    -log sigmoid(beta (log pi(c) - tau log pi(r))): a rejected translation that is hardly worse than the
    chosen one is hardly pushed away. The gradient goes through tau, too.
    """
    z = (found.mean_chosen - found.mean_rejected).abs()
    # From z = log(2) / eta on tau is 1; exp of more than that would only overflow.
    tau = (eta * z).clamp(max=1.0).expm1().clamp(max=1.0)
    return -logsigmoid(beta * (found.chosen - tau * found.rejected))


def arpo_repository(found: PairLogProbs, beta: float = 0.1, factor: float = 0.9, eta: float = 0.4) -> Tensor:
    """ARPO as the code in the authors' repository has it: tau = min(factor exp(eta z) - 1, 1).

    It differs from the paper's: at z = 0 tau is factor - 1, below zero, and it reaches 1 only at a z of 2.
    """
    z = (found.mean_chosen - found.mean_rejected).abs()
    # Beyond this z tau is 1 whatever z is.
    tau = (factor * (eta * z).clamp(max=3.0).exp() - 1).clamp(max=1.0)
    return -logsigmoid(beta * (found.chosen - tau * found.rejected))


def dpo(found: PairLogProbs, beta: float = 0.1) -> Tensor:
    """-log sigmoid(beta (log pi(c)/ref(c) - log pi(r)/ref(r))): DPO (arXiv 2305.18290)."""
    assert found.reference_chosen is not None, "DPO compares with a reference model"
    assert found.reference_rejected is not None, "DPO compares with a reference model"
    gained = found.chosen - found.reference_chosen
    return -logsigmoid(beta * (gained - (found.rejected - found.reference_rejected)))


def simpo(found: PairLogProbs, beta: float = 2.0, gamma: float = 1.0) -> Tensor:
    """-log sigmoid(beta (mean log pi(c) - mean log pi(r)) - gamma): SimPO (arXiv 2405.14734)."""
    return -logsigmoid(beta * (found.mean_chosen - found.mean_rejected) - gamma)
