import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dragoman.training.objectives.cross_entropy import (
    _SmoothedCrossEntropy,
    _TokenLogProbs,
    smoothed_cross_entropy,
    token_log_probs,
)

HIDDEN, VOCABULARY = 16, 37


def inputs(count: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(count, HIDDEN, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(VOCABULARY, HIDDEN, generator=generator).requires_grad_()
    return hidden, weight, torch.randint(VOCABULARY, (count,), generator=generator)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("count", [1, 9, _SmoothedCrossEntropy.SLICE, 2 * _SmoothedCrossEntropy.SLICE + 3])
def test_loss_and_gradients_are_those_of_torch(smoothing: float, count: int) -> None:
    hidden, weight, targets = inputs(count)
    loss, nll = smoothed_cross_entropy(hidden, weight, targets, smoothing)
    (loss / 7).backward()
    other, other_weight, _ = inputs(count)
    logits = other @ other_weight.T
    expected = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
    (expected / 7).backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(nll, F.cross_entropy(logits, targets, reduction="sum"), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(hidden.grad, other.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(weight.grad, other_weight.grad, rtol=1e-4, atol=1e-5)


def test_frozen_output_layer_gets_no_gradient_and_states_the_same_one() -> None:
    found = []
    for frozen in (False, True):
        hidden, weight, targets = inputs(9)
        loss, _ = smoothed_cross_entropy(hidden, weight.requires_grad_(not frozen), targets, 0.1)
        kept = loss.grad_fn.saved_tensors  # type: ignore[union-attr]
        assert (kept[1] is None) == frozen
        loss.backward()
        assert hidden.grad is not None
        found.append(hidden.grad)
    assert torch.equal(*found)


def test_gradient_is_that_of_finite_differences() -> None:
    hidden, weight, targets = inputs(5)
    loss, _ = smoothed_cross_entropy(hidden, weight, targets, 0.2)
    loss.backward()
    generator = torch.Generator().manual_seed(1)
    for tensor in (hidden, weight):
        assert tensor.grad is not None
        direction = torch.randn(tensor.shape, generator=generator)
        step = 1e-3
        with torch.no_grad():
            ends = []
            for sign in (1, -1):
                tensor += sign * step * direction
                ends.append(float(smoothed_cross_entropy(hidden, weight, targets, 0.2)[0]))
                tensor -= sign * step * direction
        slope = (ends[0] - ends[1]) / (2 * step)
        assert slope == pytest.approx(float((tensor.grad * direction).sum()), rel=1e-2)


def test_half_precision_states_keep_full_precision_weights() -> None:
    hidden, weight, targets = inputs(40, torch.bfloat16)
    loss, _ = smoothed_cross_entropy(hidden, weight, targets, 0.1)
    loss.backward()
    other, other_weight, _ = inputs(40)
    F.cross_entropy(other @ other_weight.T, targets, reduction="sum", label_smoothing=0.1).backward()
    assert loss.dtype == torch.float32
    assert weight.grad is not None
    assert hidden.grad is not None
    assert weight.grad.dtype == torch.float32
    assert hidden.grad.dtype == torch.bfloat16
    for found, expected in ((hidden.grad.float(), other.grad), (weight.grad, other_weight.grad)):
        assert expected is not None
        assert float((found - expected).norm() / expected.norm()) < 0.02


def test_perfect_prediction_costs_nothing_and_an_even_one_the_log_of_the_vocabulary() -> None:
    targets = torch.tensor([2, 0])
    weight = torch.eye(4)
    loss, nll = smoothed_cross_entropy(100 * weight[targets], weight, targets)
    assert float(loss) == float(nll) == pytest.approx(0, abs=1e-6)
    loss, nll = smoothed_cross_entropy(torch.zeros(2, 4), weight, targets, 0.1)
    assert float(loss) == pytest.approx(2 * math.log(4))
    assert float(nll) == pytest.approx(2 * math.log(4))


def test_likelihood_carries_no_gradient() -> None:
    _, nll = smoothed_cross_entropy(*inputs(3), 0.1)
    assert not nll.requires_grad


@pytest.mark.parametrize("count", [1, _TokenLogProbs.SLICE + 3])
def test_log_probabilities_and_gradients_are_those_of_torch(count: int) -> None:
    hidden, weight, targets = inputs(count)
    shares = torch.linspace(-1, 2, count)
    (token_log_probs(hidden, weight, targets) * shares).sum().backward()
    other, other_weight, _ = inputs(count)
    expected = (other @ other_weight.T).log_softmax(-1).gather(1, targets[:, None]).squeeze(1)
    (expected * shares).sum().backward()
    torch.testing.assert_close(token_log_probs(hidden, weight, targets), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(hidden.grad, other.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(weight.grad, other_weight.grad, rtol=1e-4, atol=1e-4)


def test_frozen_output_layer_gets_no_gradient() -> None:
    hidden, weight, targets = inputs(4)
    weight.requires_grad_(False)
    token_log_probs(hidden, weight, targets).sum().backward()
    assert weight.grad is None
    assert hidden.grad is not None
