import pytest
import torch

from dragoman.layers.norm import RMSNorm


def test_rows_come_out_with_the_root_mean_square_of_the_weight() -> None:
    norm = RMSNorm(4, eps=0.0)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 0.5, -1.0]))
    x = torch.tensor([[3.0, -3.0, 3.0, -3.0], [0.1, 0.1, 0.1, 0.1]])
    expected = torch.tensor([[1.0, -2.0, 0.5, 1.0], [1.0, 2.0, 0.5, -1.0]])
    torch.testing.assert_close(norm(x), expected)


def test_epsilon_keeps_zeros_finite() -> None:
    assert torch.equal(RMSNorm(4, eps=1e-5)(torch.zeros(2, 4)), torch.zeros(2, 4))


def test_mean_square_is_taken_in_float32() -> None:
    x = torch.full((1, 8), 300.0, dtype=torch.float16)  # its square is beyond float16
    normed = RMSNorm(8).half()(x)
    assert normed.dtype == torch.float16
    torch.testing.assert_close(normed, torch.ones_like(normed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_norm_is_that_of_transformers(dtype: torch.dtype) -> None:
    modeling = pytest.importorskip("transformers.models.llama.modeling_llama")
    torch.manual_seed(0)
    norm, oracle = RMSNorm(32, 1e-5), modeling.LlamaRMSNorm(32, 1e-5)
    with torch.no_grad():
        oracle.weight.copy_(norm.weight.normal_(1, 0.2))
    x = torch.randn(3, 5, 32).to(dtype)
    norm, oracle = norm.to(dtype), oracle.to(dtype)
    tolerance = 1e-6 if dtype == torch.float32 else 0.0
    torch.testing.assert_close(norm(x), oracle(x), atol=tolerance, rtol=tolerance)
