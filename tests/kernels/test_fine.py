"""Tables in 12 bits come out as they went in, whichever build or twin reads them."""

import ctypes

import numpy as np
import pytest
import torch

import dragoman.kernels.fine
import dragoman.kernels.head
from dragoman.errors import CheckpointError, InvalidOption
from dragoman.kernels.arrays import Stored
from dragoman.kernels.build import LIBRARY
from dragoman.kernels.fine import Fine
from dragoman.kernels.head import Embedding, Head
from dragoman.kernels.library import Kernels, available
from dragoman.kernels.packing import pack, unpack
from dragoman.layers import packed_twin
from dragoman.layers.packed import PackedTable, stored
from dragoman.layers.packed_twin import PackedTensor

BUILT = available()
SHAPES = ((64, 32), (100, 50), (1, 7), (129, 96), (2000, 33), (70, 300))

pytestmark = pytest.mark.skipif(not BUILT, reason="there are no native kernels here")


def normal(*shape: int, seed: int = 1) -> np.ndarray:
    """A matrix with rows of zeros, of tiny numbers, and one with a large number."""
    weight = np.random.default_rng(seed).standard_normal(shape, np.float32) * np.float32(0.02)
    weight[shape[0] // 2] = 0
    weight[shape[0] // 3] *= np.float32(1e-6)
    weight[shape[0] // 4] *= np.float32(1e-38)
    weight[-1, -1] = 50
    return weight


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("build", BUILT)
def test_every_build_packs_and_reads_what_pytorch_does_to_the_last_bit(
    build: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = Kernels(ctypes.CDLL(str(LIBRARY)), build)
    monkeypatch.setattr(dragoman.kernels.fine, "needed", lambda: kernels)
    monkeypatch.setattr(dragoman.kernels.head, "needed", lambda: kernels)
    for shape in SHAPES:
        weight = torch.from_numpy(normal(*shape)).to(dtype)
        found = Fine.of(stored(weight))
        packed, rest = packed_twin.pack_fine(weight)
        assert np.array_equal(found.packed.data, packed.data.numpy())
        assert np.array_equal(found.rest, rest.numpy())
        assert packed.scale is not None
        assert np.array_equal(found.packed.scale, packed.scale.numpy())
        tokens = np.arange(2 * shape[0])[::-1] // 2
        rows = Embedding(found)(tokens)
        assert np.array_equal(rows, found.float32()[tokens])
        twin = packed_twin.fine_rows(PackedTensor.of(found.packed), rest, torch.from_numpy(tokens.copy()))
        assert np.array_equal(rows, twin.numpy())


@pytest.mark.parametrize("shape", SHAPES)
def test_no_number_is_further_off_than_half_a_step_and_the_upper_bits_hardly_more(
    shape: tuple[int, int],
) -> None:
    weight = normal(*shape)
    table = Fine.of(Stored.of(weight))
    step = np.abs(weight).max(1, keepdims=True) / 127
    rounding = np.float32(1e-6) * np.abs(weight) + np.finfo(np.float32).tiny
    assert (np.abs(table.float32() - weight) <= step / 32 + rounding + 1e-5 * step).all()
    assert (np.abs(unpack(table.packed) - weight) <= step * 17 / 32 + rounding + 1e-5 * step).all()
    assert not table.float32()[shape[0] // 2].any() or shape[0] == 1


def test_it_is_almost_as_good_as_half_precision_in_three_quarters_of_the_memory() -> None:
    weight = np.random.default_rng(2).standard_normal((640, 1024), np.float32)
    table = Fine.of(Stored.of(weight))

    def error(found: np.ndarray) -> float:
        return float(np.linalg.norm(found - weight) / np.linalg.norm(weight))

    assert error(table.float32()) < 6e-4 < error(unpack(pack(Stored.of(weight), "int8"))) / 12
    assert table.bytes == 640 * 1024 * 1.5 + 640 * 4


@pytest.mark.parametrize("count", [1, 63, 64, 100])
def test_the_upper_bits_of_some_rows_are_what_those_rows_alone_give(count: int) -> None:
    weight = normal(500, 50)
    rows = np.sort(np.random.default_rng(3).permutation(500)[:count]).astype(np.int32)
    found, wanted = Fine.of(Stored.of(weight)).screen(rows), Fine.of(Stored.of(weight[rows])).packed
    assert np.array_equal(found.data, wanted.data)
    assert np.array_equal(found.scale, wanted.scale)
    assert (found.outputs, found.inputs) == (count, 50)


def test_rows_and_numbers_need_not_lie_side_by_side() -> None:
    wide = normal(300, 200)
    for view in (wide[:, :70], wide[::3, 10:80], wide.T, wide[:, ::2], wide[::-1]):
        found, wanted = Fine.of(Stored.of(view)), Fine.of(Stored.of(np.ascontiguousarray(view)))
        assert np.array_equal(found.rest, wanted.rest)
        assert np.array_equal(found.packed.data, wanted.packed.data)


def test_look_up_and_output_layer_share_one_memory() -> None:
    table = Fine.of(Stored.of(normal(100, 40)))
    head, embedding = Head.fine(table), Embedding(table)
    assert head.linear.packed.data is head.exact.packed.data is embedding.weight.packed.data  # type: ignore[union-attr]
    assert head.cut(np.arange(3, 90, 4)).exact is table
    for weight in (torch.ones(3, 5), torch.ones(3, 5, dtype=torch.float64)):  # by the kernels, in PyTorch
        module = PackedTable.pack(weight)
        assert module.fine().rest.ctypes.data == module.rest.data_ptr()
        assert np.array_equal(module.fine().float32(), weight.numpy())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_or_no_matrix_is_refused_by_name(bad: float) -> None:
    weight = normal(100, 40)
    weight[70, 33] = bad
    with pytest.raises(CheckpointError, match="shared holds NaN or infinite"):
        Fine.of(Stored.of(weight), "shared")
    with pytest.raises(CheckpointError, match="shared holds NaN or infinite"):
        PackedTable.pack(torch.from_numpy(weight).double(), "shared")
    with pytest.raises(InvalidOption, match="shared has 65540 inputs; int8 takes 65536"):
        Fine.of(Stored.of(np.zeros((1, 65540), np.float16)), "shared")


def test_the_kernels_never_see_arrays_that_do_not_fit_each_other() -> None:
    table, small = (Fine.of(Stored.of(normal(rows, 40))) for rows in (100, 99))
    with pytest.raises(ValueError, match="lower bits"):
        Embedding(Fine(table.packed, small.rest))(np.array([0]))
    with pytest.raises(
        ValueError, match=r"the exact rows \[99, 40\] don't go with an output layer \[100, 40\]"
    ):
        Head(Head.fine(table).linear, small).in_full(np.zeros((1, 40), np.float32))
    with pytest.raises(ValueError, match="came in fp16; they are int8"):
        Fine(pack(Stored.of(normal(100, 40)), "fp16"), table.rest)
