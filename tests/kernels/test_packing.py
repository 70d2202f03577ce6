"""Weights come out of their packed form as they went in, as far as the precision goes."""

import ctypes

import pytest
import torch

from dragoman.errors import CheckpointError, InvalidOption
from dragoman.kernels.build import LIBRARY
from dragoman.kernels.library import Kernels, available
from dragoman.kernels.packing import PRECISIONS, RECORD, best_scale, nibble_records, pack, unpack

BUILT = available()

SHAPES = ((64, 32), (100, 50), (1, 7), (129, 96), (5000, 33))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("precision", "error"), [("fp32", 0.0), ("fp16", 5e-4), ("int8", 0.012), ("int4", 0.13)]
)
def test_weights_come_back(shape: tuple[int, int], precision: str, error: float) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = unpack(pack(weight, precision))
    assert found.shape == weight.shape
    assert float((found - weight).norm() / weight.norm()) <= error


def test_rows_of_zeros_stay_zero() -> None:
    for precision in PRECISIONS:
        assert torch.equal(unpack(pack(torch.zeros(3, 40), precision)), torch.zeros(3, 40))


def test_one_large_weight_does_not_spoil_other_rows() -> None:
    weight = torch.randn(64, 64)
    spoilt = weight.clone()
    spoilt[5, 5] = 1e4
    for precision in ("int8", "int4"):
        others = torch.arange(64) != 5
        assert torch.equal(unpack(pack(weight, precision))[others], unpack(pack(spoilt, precision))[others])


def test_four_bit_scales_are_better_than_the_usual_one() -> None:
    groups = torch.randn(2000, 32, generator=torch.Generator().manual_seed(2))
    largest = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))

    def error(scale: torch.Tensor) -> float:
        return float(((groups / scale).round().clamp(-8, 7) * scale - groups).square().mean())

    assert error(best_scale(groups).float()[:, None]) < 0.92 * error(largest / -8)


@pytest.mark.parametrize("name", BUILT)
def test_every_build_packs_four_bits_as_pytorch_does(name: str) -> None:
    rows = torch.randn(128, 320, generator=torch.Generator().manual_seed(4)) * 0.02
    rows[3] = 0
    rows[4] *= 1e-6  # scales so small that half precision is coarse
    out = torch.empty(2, 10 * RECORD, dtype=torch.uint8)
    Kernels(ctypes.CDLL(str(LIBRARY)), name).pack_nibbles(rows, out)
    wanted = nibble_records(rows)
    # Where two scales are as good as each other, either may be taken.
    assert float((out == wanted).float().mean()) > 0.999


def test_sizes_are_what_the_precision_promises() -> None:
    weight = torch.randn(640, 512)
    bits = {precision: pack(weight, precision).data.nbytes * 8 / weight.numel() for precision in PRECISIONS}
    assert bits == {"fp32": 32, "fp16": 16, "int8": 8, "int4": 4.5}


def test_an_unknown_precision_and_what_fp16_cannot_hold_are_errors() -> None:
    with pytest.raises(InvalidOption, match="'int2'; it must be one of fp32, fp16, int8, int4"):
        pack(torch.ones(1, 1), "int2")
    with pytest.raises(InvalidOption, match="too large for fp16"):
        pack(torch.full((1, 1), 1e6), "fp16")


def test_four_bit_weights_are_right_up_to_where_they_are_refused() -> None:
    weight = torch.zeros(64, 64)
    weight[3, 5] = -8 * 65504.0
    assert float(unpack(pack(weight, "int4"))[3, 5]) == -8 * 65504.0
    weight[3, 5] *= 1.01
    with pytest.raises(InvalidOption, match=r"holds 529272, which is too large for int4 \(up to 524032\)"):
        pack(weight, "int4")


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_is_no_number_is_refused_by_name(precision: str, bad: float) -> None:
    weight = torch.zeros(500, 40)
    weight[499, 39] = bad
    with pytest.raises(CheckpointError, match=r"decoder\.fc1 holds NaN or infinite"):
        pack(weight, precision, "decoder.fc1")


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (4,), (), (2, 2, 2)])
def test_only_matrices_with_numbers_are_packed(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidOption, match="only matrices with rows and columns"):
        pack(torch.zeros(shape), "fp32")


def test_more_inputs_than_sums_of_bytes_hold_are_refused() -> None:
    assert pack(torch.ones(1, 2**16), "int8").inputs == 2**16
    with pytest.raises(InvalidOption, match="65537 inputs; int8 takes 65536"):
        pack(torch.ones(1, 2**16 + 1), "int8")
