import numpy as np
import pytest
import torch

from dragoman.checkpoints.numbers import FLOATS, dtype_name
from dragoman.checkpoints.torch_tensors import DTYPES, numbers_of, tensor_of
from dragoman.errors import InvalidOption

# Between two numbers of bfloat16 and of float16, at their ends, and none at all.
HARD = [
    0.0,
    -0.0,
    1.0,
    1.00390625,
    1.01171875,
    -3.0e38,
    3.4e38,
    65504.0,
    65520.0,
    1e-45,
    6e-8,
    np.inf,
    -np.inf,
    np.nan,
]


@pytest.mark.parametrize("source", FLOATS.values())
@pytest.mark.parametrize("target", FLOATS.values())
def test_conversions_are_those_of_pytorch(source: str, target: str) -> None:
    values = torch.cat([torch.tensor(HARD), torch.randn(10_000, generator=torch.Generator().manual_seed(0))])
    tensor = values.double().to(DTYPES[source])
    found = tensor_of(numbers_of(tensor).to(target))
    expected = tensor.float().to(DTYPES[target]) if target == "BF16" else tensor.to(DTYPES[target])
    assert found.dtype == DTYPES[target]
    assert torch.equal(found.isnan(), expected.isnan())
    assert torch.equal(found.nan_to_num(), expected.nan_to_num())


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_tensors_come_back_in_the_same_memory(dtype: torch.dtype) -> None:
    tensor = torch.arange(6).reshape(2, 3).to(dtype)
    numbers = numbers_of(tensor)
    assert (numbers.shape, numbers.nbytes) == ((2, 3), tensor.nbytes)
    again = tensor_of(numbers)
    assert torch.equal(again, tensor)
    assert again.data_ptr() == tensor.data_ptr()


def test_names_of_dtypes_are_those_of_pytorch_or_refused() -> None:
    assert dtype_name("bfloat16") == dtype_name(torch.bfloat16) == "BF16"
    for wrong in ("int8", torch.int8, "bf17", None, 16):
        with pytest.raises(InvalidOption, match="must be one of float32, float16, bfloat16, float64"):
            dtype_name(wrong)
