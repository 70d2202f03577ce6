"""Output layer and log-probabilities in one, in slices: never are all logits of a batch in memory."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


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
        d_weight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
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
            if d_weight is not None:
                d_weight += grad.T @ x
        ctx.save_for_backward(d_hidden, None if d_weight is None else d_weight.to(weight.dtype))
        nll_tensor = hidden.new_tensor(nll, dtype=torch.float32)
        ctx.mark_non_differentiable(nll_tensor)
        return hidden.new_tensor(loss, dtype=torch.float32), nll_tensor

    @staticmethod
    def backward(ctx, grad, _):  # type: ignore[no-untyped-def]
        d_hidden, d_weight = ctx.saved_tensors
        d_hidden = d_hidden * grad.to(d_hidden.dtype)
        return d_hidden, None if d_weight is None else d_weight * grad, None, None


def smoothed_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Label-smoothed cross-entropy and plain negative log-likelihood, each summed over tokens.

    hidden: [tokens, hidden]; weight: the output layer [vocabulary, hidden]; targets:
    [tokens]. Smoothing spreads its share evenly over the whole vocabulary (Szegedy et
    al., arXiv 1512.00567, section 7). Only the first result carries a gradient.
    """
    return _SmoothedCrossEntropy.apply(hidden, weight, targets, smoothing)


class _TokenLogProbs(torch.autograd.Function):
    """Log-probabilities of given tokens; the logits are computed a second time for the gradient."""

    SLICE = 512

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        matrix = weight.to(hidden.dtype)
        found = hidden.new_empty(len(hidden), dtype=torch.float32)
        normalizers = torch.empty_like(found)
        for part in _slices(len(hidden), _TokenLogProbs.SLICE):
            logits = (hidden[part] @ matrix.T).float()
            normalizers[part] = logits.logsumexp(-1)
            found[part] = logits.gather(1, targets[part, None]).squeeze(1) - normalizers[part]
        ctx.save_for_backward(hidden, weight, targets, normalizers)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        hidden, weight, targets, normalizers = ctx.saved_tensors
        matrix = weight.to(hidden.dtype)
        d_hidden = torch.empty_like(hidden)
        d_weight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        for part in _slices(len(hidden), _TokenLogProbs.SLICE):
            x, share = hidden[part], grad[part, None].float()
            logits = (x @ matrix.T).float()
            d_logits = logits.sub_(normalizers[part, None]).exp_().mul_(-share)
            d_logits.scatter_add_(1, targets[part, None], share)
            d_logits = d_logits.to(hidden.dtype)
            d_hidden[part] = d_logits @ matrix
            if d_weight is not None:
                d_weight += d_logits.T @ x
        return d_hidden, None if d_weight is None else d_weight.to(weight.dtype), None


def token_log_probs(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The log-probability of each target under a softmax over the vocabulary, in float32, [tokens].

    hidden: [tokens, hidden]; weight: the output layer [vocabulary, hidden]; targets: [tokens].
    """
    # What autocast would change is decided by who calls: products are taken in the dtype of `hidden`.
    with torch.autocast(hidden.device.type, enabled=False):
        found: Tensor = _TokenLogProbs.apply(hidden, weight, targets)
    return found


def _slices(count: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, count, size))
