"""Muon is torch's, in other products; averages and warm starts are what they say."""

import pytest
import torch
from torch import nn

from dragoman.training.averaging import WeightAverage
from dragoman.training.muon import Muon, orthogonalized


@pytest.mark.parametrize("shape", [(16, 16), (8, 40), (40, 8), (8, 12)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    found = orthogonalized(torch.randn(3, *shape))
    values = torch.linalg.svdvals(found)
    assert found.shape == (3, *shape)
    assert 0.5 < float(values.min()) <= float(values.max()) < 1.3


def test_products_of_the_short_side_alone_give_the_same() -> None:
    from dragoman.training.muon import _by_gram, _directly

    torch.manual_seed(0)
    x = torch.randn(2, 20, 60)
    x = x / x.norm(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(_by_gram(x, 5), _directly(x, 5), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("shape", [(24, 24), (16, 64)])
def test_a_step_is_that_of_torch_but_for_its_bf16(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    ours = nn.Parameter(torch.randn(shape))
    theirs = nn.Parameter(ours.detach().clone())
    first = ours.detach().clone()
    one = Muon([ours], lr=0.02, weight_decay=0.1)
    other = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        one.step()
        other.step()
    moved = (theirs.detach() - first).norm()
    assert float((ours - theirs).detach().norm() / moved) < 0.02


def test_parameters_without_a_gradient_stay() -> None:
    still, moving = nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(4, 4))
    moving.grad = torch.eye(4)
    Muon([still, moving], lr=0.1).step()
    assert torch.equal(still.detach(), torch.ones(4, 4))
    assert not torch.equal(moving.detach(), torch.ones(4, 4))


def test_average_follows_the_weights_and_weighs_the_first_ones_alike() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = WeightAverage(model, 0.9)
    expected = float(model.weight.detach())
    for update, value in enumerate([1.0, 2.0, 3.0] * 10, 1):
        with torch.no_grad():
            model.weight.fill_(value)
        average.add()
        share = 1 - min(0.9, (1 + update) / (10 + update))
        expected += share * (value - expected)
    assert float(average.weights["weight"]) == pytest.approx(expected, rel=1e-5)
    with average.used():
        assert float(model.weight.detach()) == pytest.approx(expected, rel=1e-5)
    assert float(model.weight.detach()) == 3.0


def test_average_is_stored_and_read_back() -> None:
    model = nn.Linear(2, 2)
    one, other = WeightAverage(model, 0.9), WeightAverage(nn.Linear(2, 2), 0.9)
    one.add()
    other.load_state_dict(one.state_dict())
    assert other.updates == 1
    assert torch.equal(one.weights["bias"], other.weights["bias"])
