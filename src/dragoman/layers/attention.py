"""Multi-head attention through PyTorch's scaled-dot-product kernels."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def unless_all_real(keep: Tensor | None) -> Tensor | None:
    """`keep`, boolean and False on padding, or None if there is no padding.

    Without a mask the fastest attention kernels run. In a traced graph nobody can look, so there
    it is always a mask.
    """
    if keep is None or torch.compiler.is_compiling():
        return keep
    return None if bool(keep.all()) else keep


class Attention(nn.Module):
    """Multi-head attention with a bias on each projection, as in M2M100 and NLLB-MoE.

    Keys and values are projected apart from the attention itself, so a caller can
    keep them: `key, value = attention.project(source)` once, then
    `attention(x, key, value)` for every new query.
    """

    def __init__(self, hidden: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if hidden % heads:
            raise ValueError(f"hidden size {hidden} is not divisible by {heads} attention heads")
        self.heads = heads
        self.dropout = dropout
        self.k_proj = nn.Linear(hidden, hidden)
        self.v_proj = nn.Linear(hidden, hidden)
        self.q_proj = nn.Linear(hidden, hidden)
        self.out_proj = nn.Linear(hidden, hidden)

    def project(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of `source` [batch, time, hidden], each [batch, heads, time, head_dim]."""
        return self._split(self.k_proj(source)), self._split(self.v_proj(source))

    def forward(
        self,
        x: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None = None,
        causal: bool = False,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from `x` [batch, queries, hidden] to `key` and `value` [sources, heads, keys, head_dim].

        batch may be a multiple of sources: then each run of batch/sources rows (the
        beams of a sentence) shares one source. mask: boolean, True where a query may
        look, broadcastable to [sources, heads, queries, keys]; causal, instead of a mask:
        query i looks at the keys up to i. Returns the output [batch, queries, hidden] and,
        if `need_weights`, the attention probabilities [sources, heads, queries, keys].
        """
        assert mask is None or not causal, "a mask and `causal` exclude each other"
        batch, queries, hidden = x.shape
        # Beams that share a source are more queries on the same keys, not more keys.
        q = self._split(self.q_proj(x).reshape(key.shape[0], -1, hidden))
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            context, weights = attention_with_weights(q, key, value, mask, causal, dropout)
        else:
            context = F.scaled_dot_product_attention(
                q, key, value, attn_mask=mask, dropout_p=dropout, is_causal=causal
            )
        context = context.transpose(1, 2).reshape(batch, queries, hidden)
        return self.out_proj(context), weights

    def _split(self, x: Tensor) -> Tensor:
        batch, time, hidden = x.shape
        return x.view(batch, time, self.heads, hidden // self.heads).transpose(1, 2)


def attention_with_weights(
    q: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, dropout: float
) -> tuple[Tensor, Tensor]:
    """The same computation spelled out, for callers who want to see the probabilities.

    mask: boolean, True where a query may look, or numbers to add to the scores.
    """
    scores = q @ key.transpose(-1, -2) * q.shape[-1] ** -0.5
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    if mask is not None and mask.is_floating_point():
        scores, mask = scores + mask, None
    if mask is not None:
        # A query that sees no key gets zeros, as from PyTorch's kernels, and not NaN.
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0)
    return F.dropout(weights, dropout) @ value, weights
