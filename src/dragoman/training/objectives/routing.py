"""What keeps experts at work: balance loss, z-loss, and conditional MoE routing (CMR).

Expert output masking (EOM) and final output masking (FOM) act inside a sparse layer
(`dragoman.layers.moe`): rows of single experts, or of their weighted sum, are zeroed in training
without rescaling the others, and inference scales all of them. Source: fairseq `nllb` branch,
`moe_layer.py`; NLLB (arXiv 2207.04672), section 6.2.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from dragoman.layers.moe import Routing


def router_losses(routings: Iterable[Routing], balance: float, z: float) -> Tensor:
    """balance * sum of balance losses + z * sum of z-losses over the sparse layers."""
    total = torch.zeros(())
    for routing in routings:
        total = total.to(routing.logits.device)
        if balance:
            total = total + balance * routing.balance_loss()
        if z:
            total = total + z * routing.z_loss()
    return total


@torch.no_grad()
def expert_load(routings: Iterable[Routing]) -> float:
    """How much more than an even share of first choices the busiest expert gets, as a mean over layers.

    1 where all experts have as many, the number of experts where one has all; 0 without sparse layers.
    """
    found = []
    for routing in routings:
        first = routing.experts[:, 0] if routing.keep is None else routing.experts[routing.keep, 0]
        counts = torch.bincount(first, minlength=routing.logits.shape[1])
        found.append(float(counts.max()) * len(counts) / max(1, len(first)))
    return sum(found) / len(found) if found else 0.0


def gated_mixture(gate: Tensor, shared: Tensor, mixed: Tensor) -> Tensor:
    """CMR: (1 - g) * shared + g * mixed, which lets a token choose a shared block instead of experts.

    gate: g in 0 to 1, [tokens]; shared: what the dense block makes of the tokens, mixed: what the experts
    do, each [tokens, hidden]. In training fairseq zeroes g by chance (gate dropout): a token then takes
    the shared block alone.
    """
    return shared + gate[:, None].to(shared.dtype) * (mixed - shared)


def gate_loss(gate: Tensor, keep: Tensor | None, budget: float = 0.8) -> Tensor:
    """CMR's |mean(g) - budget|, over tokens that are not padding: how often experts should be used.

    gate: [tokens]; keep: boolean [tokens], or None if all are real. NLLB weighs it with 0.1.
    """
    if keep is None:
        return (gate.float().mean() - budget).abs()
    share = keep.to(torch.float32)
    return ((gate.float() * share).sum() / share.sum().clamp(min=1) - budget).abs()
