import math

import pytest
import torch
from torch import Tensor

from dragoman.layers.attention import Attention

BATCH, QUERIES, KEYS, HIDDEN, HEADS = 3, 4, 5, 12, 3


@pytest.fixture
def attention() -> Attention:
    torch.manual_seed(0)
    return Attention(HIDDEN, HEADS, dropout=0.5).eval()


def naive(attention: Attention, x: Tensor, source: Tensor, may_look: Tensor) -> tuple[Tensor, Tensor]:
    """Attention by the textbook, one query and one head at a time; may_look: [batch, queries, keys]."""
    q, k, v = attention.q_proj(x), attention.k_proj(source), attention.v_proj(source)
    width = HIDDEN // HEADS
    context = torch.zeros_like(x)
    weights = torch.zeros(len(x), HEADS, x.shape[1], source.shape[1])
    for b in range(len(x)):
        for h in range(HEADS):
            part = slice(h * width, (h + 1) * width)
            for i in range(x.shape[1]):
                seen = may_look[b, i].nonzero().flatten().tolist()
                scores = [float(q[b, i, part] @ k[b, j, part]) / math.sqrt(width) for j in seen]
                total = sum(math.exp(s) for s in scores)
                for j, score in zip(seen, scores, strict=True):
                    weights[b, h, i, j] = math.exp(score) / total
                    context[b, i, part] += weights[b, h, i, j] * v[b, j, part]
    return attention.out_proj(context), weights


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(BATCH, QUERIES, HIDDEN, generator=generator)
    return x, torch.randn(BATCH, KEYS, HIDDEN, generator=generator)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["none", "padding", "per query", "causal"])
def test_attention_is_that_of_the_textbook_with_and_without_weights(attention: Attention, kind: str) -> None:
    x, source = inputs()
    mask: Tensor | None = None
    may_look = torch.ones(BATCH, QUERIES, KEYS, dtype=torch.bool)
    if kind == "padding":
        keep = torch.arange(KEYS) < torch.tensor([[5], [2], [1]])
        mask, may_look = keep[:, None, None, :], keep[:, None, :].expand(-1, QUERIES, -1)
    elif kind == "per query":
        may_look = torch.rand(BATCH, QUERIES, KEYS, generator=torch.Generator().manual_seed(2)) < 0.5
        may_look[..., 0] = True
        mask = may_look[:, None]
    elif kind == "causal":
        may_look = may_look.tril()
    expected, expected_weights = naive(attention, x, source, may_look)
    pair = attention.project(source)
    fast, nothing = attention(x, *pair, mask, causal=kind == "causal")
    slow, weights = attention(x, *pair, mask, causal=kind == "causal", need_weights=True)
    assert nothing is None
    torch.testing.assert_close(fast, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(slow, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(weights, expected_weights, atol=1e-6, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("queries", [1, 2])
def test_beams_that_share_a_source_get_what_copies_of_it_would_give(
    attention: Attention, queries: int, need_weights: bool
) -> None:
    beams = 4
    _, source = inputs()
    x = torch.randn(BATCH * beams, queries, HIDDEN, generator=torch.Generator().manual_seed(3))
    keep = torch.arange(KEYS) < torch.tensor([[5], [2], [3]])
    shared, _ = attention(x, *attention.project(source), keep[:, None, None, :], need_weights=need_weights)
    copies = source.repeat_interleave(beams, 0)
    mask = keep.repeat_interleave(beams, 0)[:, None, None, :]
    alone, _ = attention(x, *attention.project(copies), mask)
    torch.testing.assert_close(shared, alone)


@torch.no_grad()
@pytest.mark.parametrize("need_weights", [False, True])
def test_query_that_may_look_nowhere_gets_zeros_and_not_nan(attention: Attention, need_weights: bool) -> None:
    x, source = inputs()
    mask = torch.ones(BATCH, 1, QUERIES, KEYS, dtype=torch.bool)
    mask[1, :, 2] = False
    out, weights = attention(x, *attention.project(source), mask, need_weights=need_weights)
    assert out.isfinite().all()
    torch.testing.assert_close(out[1, 2], attention.out_proj.bias)
    assert weights is None or float(weights[1, :, 2].abs().sum()) == 0


@torch.no_grad()
@pytest.mark.parametrize("need_weights", [False, True])
def test_dropout_acts_in_training_only(attention: Attention, need_weights: bool) -> None:
    x, source = inputs()
    pair = attention.project(source)
    quiet = [attention(x, *pair, need_weights=need_weights)[0] for _ in range(2)]
    assert torch.equal(*quiet)
    attention.train()
    torch.manual_seed(0)
    assert not torch.allclose(attention(x, *pair, need_weights=need_weights)[0], quiet[0])


def test_hidden_size_that_heads_cannot_share_is_an_error() -> None:
    with pytest.raises(ValueError, match="10 is not divisible by 3"):
        Attention(10, 3)
