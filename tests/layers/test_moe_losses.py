"""The router's losses, and gradients through a sparse layer."""

import math
from dataclasses import replace

import pytest
import torch

from dragoman.layers.moe import Routing
from dragoman.layers.options import MoeOptions
from tests.layers.sparse import (
    EXPERTS,
    OPTIONS,
    PADDING,
    TOKENS,
    all_to_two,
    padding_mask,
    router_with,
    sparse_with,
    tokens,
)


def fairseq_balance(routing: Routing, keep: list[bool]) -> float:
    """E * sum_e mean(p_e) * mean(first choices of e), over real tokens."""
    real = [token for token in range(len(keep)) if keep[token]]
    probabilities = routing.logits.softmax(-1).tolist()
    first = routing.experts[:, 0].tolist()
    return EXPERTS * sum(
        (sum(probabilities[t][e] for t in real) / len(real)) * (sum(first[t] == e for t in real) / len(real))
        for e in range(EXPERTS)
    )


@torch.no_grad()
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_balance_loss_is_fairseqs_over_real_tokens_before_any_dropping(padded: bool, training: bool) -> None:
    router = router_with(replace(OPTIONS, eval_capacity_fraction=0.1), training)
    routing = router(tokens(), padding_mask() if padded else None)
    expected = fairseq_balance(routing, padding_mask().tolist() if padded else [True] * TOKENS)
    assert float(routing.balance_loss()) == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def test_balance_loss_is_one_when_experts_share_evenly_and_most_when_one_does_all() -> None:
    router = router_with(OPTIONS)
    even = router.route(9 * torch.eye(EXPERTS).repeat(4, 1), None)
    assert float(even.balance_loss()) == pytest.approx(1.0, rel=1e-5)
    one = router.route(all_to_two([50.0] * 8), None)
    assert float(one.balance_loss()) == pytest.approx(EXPERTS, rel=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("padded", [False, True])
def test_z_loss_is_the_mean_square_of_logsumexp_over_real_tokens(padded: bool) -> None:
    keep = padding_mask() if padded else None
    routing = router_with(OPTIONS)(tokens(), keep)
    rows = [row for t, row in enumerate(routing.logits.tolist()) if not padded or t not in PADDING]
    expected = sum(math.log(sum(math.exp(v) for v in row)) ** 2 for row in rows) / len(rows)
    assert float(routing.z_loss()) == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def test_losses_of_padding_alone_are_zero() -> None:
    routing = router_with(OPTIONS)(tokens(), torch.zeros(TOKENS, dtype=torch.bool))
    assert float(routing.balance_loss()) == float(routing.z_loss()) == 0


@pytest.mark.parametrize("training", [False, True])
def test_gradient_reaches_the_router_and_the_experts_that_ran(training: bool) -> None:
    mlp = sparse_with(OPTIONS, training)
    x = tokens(3, seed=4)[None].requires_grad_()
    out, routing = mlp(x)
    out.square().sum().backward()
    ran = routing.combine_weights().count_nonzero(0).tolist()
    assert 0 in ran
    for count, expert in zip(ran, mlp.experts.values(), strict=True):
        gradients = [parameter.grad for parameter in expert.parameters()]
        assert all((g is not None and bool(g.any())) == bool(count) for g in gradients)
    assert mlp.router.classifier.weight.grad is not None
    assert mlp.router.classifier.weight.grad.any()
    assert x.grad is not None
    assert x.grad.any()


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_gradient_is_that_of_finite_differences(before: bool, fraction: float) -> None:
    options = MoeOptions(
        EXPERTS,
        normalize_before_dropping=before,
        eval_capacity_fraction=fraction,
        router_dtype="float64",
        expert_output_masking=0.2,
    )
    mlp = sparse_with(options, dtype=torch.float64)
    x = tokens(6, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: mlp(x[None])[0], (x,))
    weight = mlp.router.classifier.weight
    assert torch.autograd.gradcheck(lambda _: mlp(x.detach()[None])[0], (weight,))


def test_balance_loss_pushes_towards_the_idle_experts() -> None:
    logits = all_to_two([2.0] * 6).requires_grad_()
    router_with(OPTIONS).route(logits, None).balance_loss().backward()
    assert logits.grad is not None
    assert bool((logits.grad[:, 0] > 0).all())
    assert bool((logits.grad[:, 2:] < 0).all())
