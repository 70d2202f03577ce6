"""Losses of preferences, against values computed by hand."""

import math
from typing import Any

import pytest
import torch

from dragoman.training.objectives.preference import PairLogProbs, arpo, arpo_repository, cpo, dpo, simpo


def pairs(**reference: float) -> PairLogProbs:
    """One pair: the chosen side has -6 in 3 tokens, the rejected one -10 in 4."""
    sides = {name: torch.tensor([value]) for name, value in reference.items()}
    lengths = torch.tensor([3]), torch.tensor([4])
    return PairLogProbs(torch.tensor([-6.0]), torch.tensor([-10.0]), *lengths, **sides)


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def test_losses_are_those_computed_by_hand() -> None:
    assert float(cpo(pairs(), beta=0.5)) == pytest.approx(-log_sigmoid(0.5 * 4))
    # z = |-2 + 2.5| = 0.5
    tau = math.exp(1.2 * 0.5) - 1
    assert tau < 1
    assert float(arpo(pairs(), beta=0.5, eta=1.2)) == pytest.approx(-log_sigmoid(0.5 * (-6 + tau * 10)))
    assert float(arpo(pairs(), beta=0.5, eta=1.5)) == pytest.approx(-log_sigmoid(0.5 * 4))  # tau is 1
    tau = 0.9 * math.exp(0.4 * 0.5) - 1
    assert float(arpo_repository(pairs(), 0.5)) == pytest.approx(-log_sigmoid(0.5 * (-6 + tau * 10)))
    known = pairs(reference_chosen=-7.0, reference_rejected=-9.0)
    assert float(dpo(known, beta=0.5)) == pytest.approx(-log_sigmoid(0.5 * (1 + 1)))
    assert float(simpo(pairs(), beta=2.0, gamma=0.7)) == pytest.approx(-log_sigmoid(2 * 0.5 - 0.7))


@pytest.mark.parametrize(
    ("loss", "at_equal", "full_from"),
    [(arpo, 0.0, math.log(2) / 1.5), (arpo_repository, -0.1, math.log(2 / 0.9) / 0.4)],
)
def test_rejected_side_counts_little_where_both_are_alike_and_in_full_where_far_apart(
    loss: Any, at_equal: float, full_from: float
) -> None:
    def at(z: float) -> PairLogProbs:
        lengths = torch.tensor([5]), torch.tensor([5])
        return PairLogProbs(torch.tensor([-5.0]), torch.tensor([-5.0 - 5 * z]), *lengths)

    # beta (chosen - tau rejected) at z = 0 is 0.1 (-5 + 5 tau)
    assert float(loss(at(0.0))) == pytest.approx(-log_sigmoid(0.1 * (-5 + 5 * at_equal)), rel=1e-5)
    assert float(loss(at(full_from + 0.01))) == pytest.approx(float(cpo(at(full_from + 0.01))), rel=1e-5)
    assert float(loss(at(full_from - 0.05))) != pytest.approx(float(cpo(at(full_from - 0.05))), rel=1e-3)
    assert math.isfinite(float(loss(at(1e4))))


def test_gradient_goes_through_the_weight_of_the_rejected_side() -> None:
    chosen = torch.tensor([-6.0], requires_grad=True)
    rejected = torch.tensor([-9.0], requires_grad=True)
    found = PairLogProbs(chosen, rejected, torch.tensor([3]), torch.tensor([4]))
    arpo(found, beta=0.5, eta=1.2).backward()
    z = 0.25
    tau, slope = math.exp(1.2 * z) - 1, 1.2 * math.exp(1.2 * z)
    push = -0.5 * (1 - 1 / (1 + math.exp(-0.5 * (-6 + tau * 9))))
    # d(chosen - tau rejected): tau moves by slope dz, dz = d chosen / 3 - d rejected / 4
    assert float(chosen.grad) == pytest.approx(push * (1 + 9 * slope / 3), rel=1e-5)  # type: ignore[arg-type]
    assert float(rejected.grad) == pytest.approx(push * (-tau - 9 * slope / 4), rel=1e-5)  # type: ignore[arg-type]
