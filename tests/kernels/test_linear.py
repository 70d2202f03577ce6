"""Linear layers on packed weights: every build and PyTorch agree, and rows don't see each other."""

import pytest
import torch
from torch import nn

from dragoman.kernels.library import Kernels
from dragoman.kernels.packing import PRECISIONS
from dragoman.layers.packed import PackedLinear, pack
from dragoman.layers.packed_twin import multiply

SHAPES = ((64, 32), (100, 50), (1, 7), (320, 1030), (130, 4200))
TOLERANCE = {"fp32": 1e-5, "fp16": 1e-3, "int8": 0.02, "int4": 0.12}


def layer(outputs: int, inputs: int, bias: bool = True) -> nn.Linear:
    torch.manual_seed(outputs + inputs)
    return nn.Linear(inputs, outputs, bias)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("precision", PRECISIONS)
@torch.no_grad()
def test_results_are_near_those_of_the_layer_it_replaces(
    build: Kernels | None, shape: tuple[int, int], precision: str
) -> None:
    plain = layer(*shape)
    packed = PackedLinear.of(plain, precision)
    for rows in (1, 2, 7, 131):
        x = torch.randn(rows, shape[1])
        wanted = plain(x)
        assert float((packed(x) - wanted).norm() / wanted.norm()) < TOLERANCE[precision]


@pytest.mark.parametrize("precision", ["int8", "int4"])
@torch.no_grad()
def test_quantised_products_are_the_same_to_the_last_bit_everywhere(
    build: Kernels | None, precision: str
) -> None:
    for shape in SHAPES:
        packed = PackedLinear.of(layer(*shape), precision)
        x = torch.randn(19, shape[1])
        assert torch.equal(packed(x), multiply(x, packed.packed, packed.bias))


@pytest.mark.parametrize("precision", PRECISIONS)
@torch.no_grad()
def test_a_row_does_not_depend_on_its_neighbours(native: Kernels, precision: str) -> None:
    packed = PackedLinear.of(layer(200, 96), precision)
    x = torch.randn(133, 96)
    x[7] *= 1e4
    together = packed(x)
    for row in (0, 6, 7, 8, 132):
        assert torch.equal(packed(x[row : row + 1])[0], together[row])


@torch.no_grad()
def test_the_largest_products_do_not_saturate(build: Kernels | None) -> None:
    plain = nn.Linear(512, 64, bias=False)
    plain.weight.fill_(1.0)
    for precision in ("int8", "int4"):
        packed = PackedLinear.of(plain, precision)
        assert torch.allclose(packed(torch.full((1, 512), 3.0)), torch.full((1, 64), 1536.0), rtol=1e-3)


@torch.no_grad()
def test_shapes_dtypes_and_missing_biases_are_kept(build: Kernels | None) -> None:
    packed = PackedLinear.of(layer(5, 8, bias=False), "fp32")
    assert packed(torch.zeros(2, 3, 8)).shape == (2, 3, 5)
    assert packed(torch.zeros(0, 8)).shape == (0, 5)
    assert packed(torch.zeros(2, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16


@torch.no_grad()
def test_rows_need_not_lie_side_by_side(build: Kernels | None) -> None:
    packed = PackedLinear.of(layer(5, 8), "fp32")
    x = torch.randn(4, 16)
    assert torch.allclose(packed(x[:, ::2]), packed(x[:, ::2].contiguous()))


@pytest.mark.parametrize("precision", PRECISIONS)
@torch.no_grad()
def test_what_is_no_number_stays_none_and_in_its_row(native: Kernels, precision: str) -> None:
    packed = PackedLinear.of(layer(70, 100), precision)
    x = torch.randn(9, 100)
    sound = packed(x)
    for column, bad in ((0, torch.nan), (50, torch.inf), (99, -torch.inf)):
        spoilt = x.clone()
        spoilt[4, column] = bad
        found = packed(spoilt)
        others = torch.arange(9) != 4
        assert torch.equal(found[others], sound[others])
        assert not bool(found[4].isfinite().any())


@pytest.mark.parametrize("precision", ["int8", "int4"])
@torch.no_grad()
def test_rows_of_any_size_are_the_same_to_the_last_bit_everywhere(
    build: Kernels | None, precision: str
) -> None:
    packed = PackedLinear.of(layer(70, 96), precision)
    x = torch.randn(4000, 96, generator=torch.Generator().manual_seed(1))
    x *= 10 ** torch.linspace(-44, 30, 4000)[:, None]
    found = packed(x)
    assert bool(found.isfinite().all())
    assert torch.equal(found, multiply(x, packed.packed, packed.bias))


@torch.no_grad()
def test_the_most_inputs_give_the_right_sum(build: Kernels | None) -> None:
    for sign in (1.0, -1.0):
        packed = PackedLinear(pack(torch.full((1, 2**16), sign), "int8"))
        assert float(packed(torch.full((1, 2**16), 3.0))) == pytest.approx(sign * 3 * 2**16, rel=1e-6)
