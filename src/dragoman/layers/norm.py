"""Root-mean-square normalisation (arXiv 1910.07467)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RMSNorm(nn.Module):
    """x / rms(x) * weight, with the mean square taken in float32 as in transformers' Llama."""

    def __init__(self, hidden: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[..., hidden] -> [..., hidden]."""
        normed = F.rms_norm(x.float(), x.shape[-1:], eps=self.eps)
        # Rounded before the weight is applied: the order matters in half precision.
        return self.weight * normed.to(x.dtype)
