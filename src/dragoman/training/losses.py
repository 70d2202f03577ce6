"""The training objective: label-smoothed cross-entropy and the routers' auxiliary losses."""

from collections.abc import Iterable

import torch
from torch import Tensor

from dragoman.layers.moe import Routing


class _SmoothedCrossEntropy(torch.autograd.Function):
    """Output layer and cross-entropy in one, in slices.

    The logits of a batch are its largest tensor by far; made slice by slice and
    turned into their gradient at once, they stay in cache.
    """

    SLICE = 512

    @staticmethod
    def forward(ctx, hidden, weight, targets, smoothing):  # type: ignore[no-untyped-def]
        vocabulary = weight.shape[0]
        # Master weights may be fp32 under bf16 autocast: multiply in the precision of the states.
        matrix = weight.to(hidden.dtype)
        d_hidden = torch.empty_like(hidden)
        d_weight = torch.zeros_like(weight, dtype=torch.float32)
        loss = nll = 0.0
        for start in range(0, len(hidden), _SmoothedCrossEntropy.SLICE):
            part = slice(start, start + _SmoothedCrossEntropy.SLICE)
            x, target = hidden[part], targets[part]
            log_p = torch.log_softmax((x @ matrix.T).float(), -1)
            gold = log_p.gather(1, target[:, None]).squeeze(1)
            nll -= float(gold.sum())
            loss -= float((1 - smoothing) * gold.sum() + smoothing / vocabulary * log_p.sum())
            grad = log_p.exp_().sub_(smoothing / vocabulary)
            grad.scatter_add_(1, target[:, None], grad.new_full((len(target), 1), smoothing - 1))
            grad = grad.to(hidden.dtype)
            d_hidden[part] = grad @ matrix
            d_weight += grad.T @ x
        ctx.save_for_backward(d_hidden, d_weight.to(weight.dtype))
        nll_tensor = hidden.new_tensor(nll, dtype=torch.float32)
        ctx.mark_non_differentiable(nll_tensor)
        return hidden.new_tensor(loss, dtype=torch.float32), nll_tensor

    @staticmethod
    def backward(ctx, grad, _):  # type: ignore[no-untyped-def]
        d_hidden, d_weight = ctx.saved_tensors
        return d_hidden * grad.to(d_hidden.dtype), d_weight * grad, None, None


def smoothed_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Label-smoothed cross-entropy and plain negative log-likelihood, each summed over tokens.

    hidden: [tokens, hidden]; weight: the output layer [vocabulary, hidden]; targets:
    [tokens]. Smoothing spreads its share evenly over the whole vocabulary (Szegedy et
    al., arXiv 1512.00567, section 7). Only the first result carries a gradient.
    """
    return _SmoothedCrossEntropy.apply(hidden, weight, targets, smoothing)


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
