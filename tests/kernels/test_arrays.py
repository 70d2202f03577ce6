"""What the kernels are given is what they expect, or an error."""

import re

import numpy as np
import pytest
import torch

from dragoman.kernels.arrays import LINE, address, address_or_none, empty
from dragoman.kernels.library import Kernels
from dragoman.kernels.linear import PackedLinear
from dragoman.kernels.structs import SPAN


def test_arrays_and_tensors_that_fit_are_taken_where_they_lie() -> None:
    tensor, array = torch.zeros(2, 3), np.zeros((2, 3), np.float32)
    assert address("x", tensor, np.float32, 2, 3) == tensor.data_ptr()
    assert address("x", array, np.float32, 2, 3) == array.ctypes.data
    assert address("x", np.zeros(4, SPAN), SPAN, 4) != 0
    assert address_or_none("x", None, np.float32, 2, 3) is None


@pytest.mark.parametrize(
    ("array", "came"),
    [
        (torch.zeros(2, 3, dtype=torch.float64), "torch.float64 [2, 3] on cpu"),
        (torch.zeros(2, 3, dtype=torch.bfloat16), "torch.bfloat16 [2, 3] on cpu"),
        (torch.zeros(2, 3, device="meta"), "torch.float32 [2, 3] on meta"),
        (torch.zeros(3, 2).t(), "torch.float32 [2, 3] on cpu"),
        (torch.zeros(2, 4), "torch.float32 [2, 4] on cpu"),
        (torch.zeros(6), "torch.float32 [6] on cpu"),
        (torch._neg_view(torch.zeros(2, 3)), "torch.float32 [2, 3] on cpu"),
        (torch.zeros(2, 3).to_sparse(), "torch.float32 [2, 3] on cpu"),
        (np.zeros((2, 3)), "float64 [2, 3]"),
        (np.zeros((2, 3), ">f4"), ">f4 [2, 3]"),
        (np.zeros((3, 2), np.float32).T, "float32 [2, 3]"),
        (np.zeros(25, np.uint8)[1:].view(np.float32).reshape(2, 3), "float32 [2, 3]"),
        ([[0.0] * 3] * 2, "list"),
        (None, "NoneType"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_with_what_came_and_what_is_needed(array: object, came: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"given {came} as x; they need float32 [2, 3]")):
        address("x", array, np.float32, 2, 3)


def test_new_arrays_begin_at_a_line_of_the_cache() -> None:
    for shape in ((3,), (2, 5, 7), (1, 1)):
        array = empty(*shape)
        assert array.shape == shape
        assert address("x", array, np.float32, *shape) % LINE == 0


def test_a_layer_whose_tensors_were_converted_is_refused(native: Kernels) -> None:
    for spoil in (lambda layer: layer.half(), lambda layer: layer.to("meta")):
        packed = PackedLinear.of(torch.nn.Linear(8, 5), "int8")
        spoil(packed)
        with pytest.raises(ValueError, match="kernels were given"):
            packed.struct()
