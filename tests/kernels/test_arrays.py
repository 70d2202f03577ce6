"""What the kernels are given is what they expect, or an error."""

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch

from dragoman.kernels.arrays import LINE, Stored, address, address_or_none, empty
from dragoman.kernels.structs import SPAN
from dragoman.layers.packed import PackedLinear, stored


def test_arrays_that_fit_are_taken_where_they_lie() -> None:
    array = np.zeros((2, 3), np.float32)
    assert address("x", array, np.float32, 2, 3) == array.ctypes.data
    assert address("x", np.zeros(4, SPAN), SPAN, 4) != 0
    assert address_or_none("x", None, np.float32, 2, 3) is None


@pytest.mark.parametrize(
    ("array", "came"),
    [
        (np.zeros((2, 3)), "float64 [2, 3]"),
        (np.zeros((2, 4), np.float32), "float32 [2, 4]"),
        (np.zeros(6, np.float32), "float32 [6]"),
        (np.zeros((2, 3), ">f4"), ">f4 [2, 3]"),
        (np.zeros((3, 2), np.float32).T, "float32 [2, 3]"),
        (np.zeros(25, np.uint8)[1:].view(np.float32).reshape(2, 3), "float32 [2, 3]"),
        ([[0.0] * 3] * 2, "list"),
        (torch.zeros(2, 3), "Tensor"),
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_tensors_numbers_are_taken_where_they_lie(dtype: torch.dtype) -> None:
    tensor = torch.randn(5, 7).to(dtype)
    found = stored(tensor)
    assert found.data.ctypes.data == tensor.data_ptr()
    assert found.shape == (5, 7)
    assert np.array_equal(found.float32(), tensor.float().numpy())
    assert np.array_equal(found.rows(slice(1, 3)).float32(), tensor[1:3].float().numpy())


@pytest.mark.parametrize(
    ("data", "dtype", "match"),
    [
        (np.zeros(2, np.float32), "F64", "stored as 'F64'; it must be one of F32, F16, BF16"),
        (np.zeros(2, np.float32), "F16", "F16 came as float32; they must be an array of float16"),
        (np.zeros(2, np.int16), "BF16", "BF16 came as int16; they must be an array of uint16"),
        ([0.0], "F32", "F32 came as list"),
    ],
)
def test_numbers_of_another_type_than_said_are_refused(data: object, dtype: str, match: str) -> None:
    with pytest.raises(ValueError, match=re.escape(match)):
        Stored(data, dtype)


def test_a_table_with_gaps_within_its_rows_is_refused() -> None:
    for array in (
        np.zeros((4, 6), np.float32)[:, ::2],
        np.zeros(4, np.float32),
        np.zeros((4, 6), np.float32)[::-1],
    ):
        with pytest.raises(ValueError, match="as a matrix"):
            Stored.of(array).matrix()
    assert Stored.of(np.zeros((4, 6), np.float32)[:, :3]).matrix().stride == 6


@pytest.mark.parametrize("spoil", [lambda layer: layer.half(), lambda layer: layer.to("meta")])
def test_a_layer_whose_tensors_were_converted_is_refused(spoil: Callable[[PackedLinear], object]) -> None:
    packed = PackedLinear.of(torch.nn.Linear(8, 5), "int8")
    spoil(packed)
    with pytest.raises(ValueError, match="kernels were given"):
        packed.kernel().struct()
