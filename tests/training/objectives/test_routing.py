"""Losses of routers and gates, against values computed by hand from fairseq's formulas."""

import math

import pytest
import torch

from dragoman.layers.moe import Routing, SparseMLP
from dragoman.layers.options import MoeOptions
from dragoman.training.objectives.routing import expert_load, gate_loss, gated_mixture, router_losses


def test_router_losses_are_weighed_and_summed_over_layers() -> None:
    generator = torch.Generator().manual_seed(0)
    routings = []
    for _ in range(2):
        logits = torch.randn(10, 4, generator=generator).requires_grad_()
        top = logits.detach().topk(2).indices
        routings.append(Routing(top, torch.ones(10, 2), logits, None))
    balance = sum(r.balance_loss() for r in routings)
    z = sum(r.z_loss() for r in routings)
    torch.testing.assert_close(router_losses(routings, 0.5, 0.25), 0.5 * balance + 0.25 * z)
    torch.testing.assert_close(router_losses(routings, 0.5, 0.0), 0.5 * balance)
    assert not router_losses(routings, 0.0, 0.0).requires_grad
    assert float(router_losses([], 0.5, 0.5)) == 0
    router_losses(routings, 0.5, 0.25).backward()
    assert all(r.logits.grad is not None and r.logits.grad.any() for r in routings)


def test_balance_loss_is_what_fairseqs_formula_gives_by_hand() -> None:
    # Three experts, two tokens: softmax of (ln 2, 0, 0) is (1/2, 1/4, 1/4).
    logits = torch.tensor([[math.log(2), 0.0, 0.0], [0.0, 0.0, math.log(2)]])
    routing = Routing(torch.tensor([[0, 1], [2, 0]]), torch.ones(2, 2), logits, None)
    # mean p = (3/8, 1/4, 3/8), mean of first choices = (1/2, 0, 1/2): 3 (3/16 + 0 + 3/16) = 9/8
    assert float(router_losses([routing], 1.0, 0.0)) == pytest.approx(9 / 8)
    assert float(router_losses([routing, routing], 0.01, 0.0)) == pytest.approx(2 * 0.01 * 9 / 8)


@pytest.mark.parametrize(("option", "keeps_rows_whole"), [("expert", False), ("final", True)])
def test_masking_zeroes_rows_in_training_and_scales_them_at_rest(option: str, keeps_rows_whole: bool) -> None:
    share = 0.4
    options = MoeOptions(num_experts=2, **{f"{option}_output_masking": share})
    torch.manual_seed(0)
    mlp, x = SparseMLP(4, 8, options), torch.randn(1, 2000, 4)
    tokens = x[0]
    routing = mlp.eval().router(tokens)
    first, second = (mlp.experts[f"expert_{i}"](tokens) for i in (0, 1))
    weights = routing.combine_weights()
    parts = torch.stack([weights[:, :1] * first, weights[:, 1:] * second])
    torch.testing.assert_close(mlp(x)[0][0], (1 - share) * parts.sum(0))
    mlp.router.eval()
    mlp.training = True  # the router itself would drop tokens in training
    found = mlp.mix(tokens, routing)
    choices = torch.stack([torch.zeros_like(parts[0]), parts[0], parts[1], parts.sum(0)])
    kinds = (found[None] - choices).norm(dim=-1).argmin(0)
    torch.testing.assert_close(found, choices[kinds, torch.arange(len(tokens))])
    counts = torch.bincount(kinds, minlength=4) / len(tokens)
    even = [share, 0, 0, 1 - share]
    single = [share**2, share * (1 - share), share * (1 - share), (1 - share) ** 2]
    assert counts.tolist() == pytest.approx(even if keeps_rows_whole else single, abs=0.05)


def test_gated_mixture_and_its_loss_are_those_of_cmr_by_hand() -> None:
    gate = torch.tensor([0.0, 1.0, 0.25])
    shared, mixed = torch.full((3, 2), 4.0), torch.full((3, 2), 8.0)
    assert gated_mixture(gate, shared, mixed).tolist() == [[4, 4], [8, 8], [5, 5]]
    assert float(gate_loss(gate, None)) == pytest.approx(abs(1.25 / 3 - 0.8))
    keep = torch.tensor([True, True, False])
    assert float(gate_loss(gate, keep, 0.3)) == pytest.approx(0.2)


def test_load_is_one_for_even_experts_and_their_number_for_a_single_one() -> None:
    def routing(first: list[int], keep: list[bool] | None = None) -> Routing:
        experts = torch.tensor([[expert, 0] for expert in first])
        kept = None if keep is None else torch.tensor(keep)
        return Routing(experts, torch.ones(len(first), 2), torch.zeros(len(first), 4), kept)

    assert expert_load([routing([0, 1, 2, 3])]) == 1
    assert expert_load([routing([2, 2, 2])]) == 4
    assert expert_load([routing([0, 1, 2, 3]), routing([2, 2, 2])]) == 2.5
    assert expert_load([routing([0, 1, 1], [True, True, False])]) == 2
    assert expert_load([]) == 0
