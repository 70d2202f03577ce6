"""Weights come out of their packed form as they went in, as far as the precision goes."""

import ctypes

import numpy as np
import pytest
import torch

import dragoman.kernels.packing
from dragoman.errors import CheckpointError, InvalidOption
from dragoman.kernels.arrays import Stored
from dragoman.kernels.build import LIBRARY
from dragoman.kernels.library import Kernels, available
from dragoman.kernels.packing import PRECISIONS, Packed, largest, pack, unpack
from dragoman.layers import packed_twin
from dragoman.layers.packed import stored

BUILT = available()
SHAPES = ((64, 32), (100, 50), (1, 7), (129, 96), (5000, 33), (70, 300))

pytestmark = pytest.mark.skipif(not BUILT, reason="there are no native kernels here")


def normal(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def packed(weight: np.ndarray, precision: str, name: str = "a weight") -> Packed:
    return pack(Stored.of(weight), precision, name)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("precision", "error"), [("fp32", 0.0), ("fp16", 5e-4), ("int8", 0.012), ("int4", 0.13)]
)
def test_weights_come_back(shape: tuple[int, int], precision: str, error: float) -> None:
    weight = normal(*shape)
    found = unpack(packed(weight, precision))
    assert found.shape == weight.shape
    assert np.linalg.norm(found - weight) / np.linalg.norm(weight) <= error


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("build", BUILT)
def test_every_build_packs_what_pytorch_packs_from_all_that_is_stored(
    build: str, precision: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = Kernels(ctypes.CDLL(str(LIBRARY)), build)
    monkeypatch.setattr(dragoman.kernels.packing, "needed", lambda: kernels)
    for shape in SHAPES:
        weight = torch.from_numpy(normal(*shape, seed=4) * 0.02)
        weight[shape[0] // 2] = 0
        weight[shape[0] // 3] *= 1e-6  # scales so small that half precision is coarse
        weight[shape[0] // 4] *= 1e-38  # numbers that are not normal any more
        found = pack(stored(weight.to(dtype)), precision)
        wanted = packed_twin.pack(weight.to(dtype), precision)
        same = found.data == wanted.data.numpy()
        if precision == "int4":
            # Where two scales are as good as each other, either may be taken.
            assert same.mean() > 0.999
        else:
            assert same.all()
        assert (found.scale is None) == (wanted.scale is None)
        if found.scale is not None and wanted.scale is not None:
            assert np.array_equal(found.scale, wanted.scale.numpy())


@pytest.mark.parametrize("precision", PRECISIONS)
def test_both_ways_to_unpack_are_the_same(precision: str) -> None:
    for shape in SHAPES:
        found = packed(normal(*shape), precision)
        twin = packed_twin.unpack(packed_twin.PackedTensor.of(found))
        assert np.array_equal(unpack(found), twin.numpy())


@pytest.mark.parametrize("precision", PRECISIONS)
def test_rows_and_numbers_need_not_lie_side_by_side(precision: str) -> None:
    wide = normal(300, 200)
    for view in (wide[:, :70], wide[::3, 10:80], wide.T, wide[:, ::2], wide[::-1], wide[:1, :1]):
        found, wanted = packed(view, precision), packed(np.ascontiguousarray(view), precision)
        assert np.array_equal(found.data, wanted.data)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_caller_may_say_where_to(precision: str) -> None:
    weight = normal(100, 50)
    room = Packed.empty(precision, 100, 50)
    assert pack(Stored.of(weight), precision, out=room) is room
    assert np.array_equal(room.data, packed(weight, precision).data)
    other = Packed.empty(precision, 100, 49)
    with pytest.raises(ValueError, match=rf"in {precision} as \[100, 50\], but the room .* \[100, 49\]"):
        pack(Stored.of(weight), precision, out=other)
    room.data.flags.writeable = False
    with pytest.raises(ValueError, match="can't be written to"):
        pack(Stored.of(weight), precision, out=room)


def test_rows_of_zeros_stay_zero() -> None:
    for precision in PRECISIONS:
        assert not unpack(packed(np.zeros((3, 40), np.float32), precision)).any()


def test_one_large_weight_does_not_spoil_other_rows() -> None:
    weight = normal(64, 64)
    spoilt = weight.copy()
    spoilt[5, 5] = 1e4
    others = np.arange(64) != 5
    for precision in ("int8", "int4"):
        sound, damaged = (unpack(packed(each, precision)) for each in (weight, spoilt))
        assert np.array_equal(sound[others], damaged[others])


def test_four_bit_scales_are_better_than_the_usual_one() -> None:
    groups = torch.randn(2000, 32, generator=torch.Generator().manual_seed(2))
    most = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))

    def error(scale: torch.Tensor) -> float:
        return float(((groups / scale).round().clamp(-8, 7) * scale - groups).square().mean())

    assert error(packed_twin.best_scale(groups).float()[:, None]) < 0.92 * error(most / -8)


def test_sizes_are_what_the_precision_promises() -> None:
    weight = normal(640, 512)
    bits = {precision: packed(weight, precision).data.nbytes * 8 / weight.size for precision in PRECISIONS}
    assert bits == {"fp32": 32, "fp16": 16, "int8": 8, "int4": 4.5}


def test_an_unknown_precision_and_what_fp16_cannot_hold_are_errors() -> None:
    with pytest.raises(InvalidOption, match="'int2'; it must be one of fp32, fp16, int8, int4"):
        packed(np.ones((1, 1), np.float32), "int2")
    with pytest.raises(InvalidOption, match="too large for fp16"):
        packed(np.full((1, 1), 1e6, np.float32), "fp16")


def test_four_bit_weights_are_right_up_to_where_they_are_refused() -> None:
    weight = np.zeros((64, 64), np.float32)
    weight[3, 5] = -8 * 65504.0
    assert float(unpack(packed(weight, "int4"))[3, 5]) == -8 * 65504.0
    weight[3, 5] *= np.float32(1.01)
    with pytest.raises(InvalidOption, match=r"holds 529272, which is too large for int4 \(up to 524032\)"):
        packed(weight, "int4")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("place", [(499, 39), (0, 0), (130, 35)])
def test_what_is_no_number_is_refused_by_name(place: tuple[int, int], dtype: type, bad: float) -> None:
    weight = np.zeros((500, 40), dtype)
    weight[place] = bad
    match = r"decoder\.fc1 holds NaN or infinite"
    for precision in PRECISIONS:
        with pytest.raises(CheckpointError, match=match):
            packed(weight, precision, "decoder.fc1")
    with pytest.raises(CheckpointError, match=match):
        largest(Stored.of(weight), "decoder.fc1")


def test_the_largest_number_is_found_wherever_it_is() -> None:
    for shape in ((300, 130), (1, 1), (7,), (2, 3, 50), (), (0, 3), (257,)):
        values = normal(*shape)
        if values.size:
            values.reshape(-1)[-1] = -9.5
        assert largest(Stored.of(values), "x") == (9.5 if values.size else 0.0)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (4,), (), (2, 2, 2)])
def test_only_matrices_with_numbers_are_packed(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidOption, match="only matrices with rows and columns"):
        packed(np.zeros(shape, np.float32), "fp32")


def test_more_inputs_than_sums_of_bytes_hold_are_refused() -> None:
    assert packed(np.ones((1, 2**16), np.float32), "int8").inputs == 2**16
    with pytest.raises(InvalidOption, match="65537 inputs; int8 takes 65536"):
        packed(np.ones((1, 2**16 + 1), np.float32), "int8")
