"""The output layer: rough in 8 bits, exact where it matters. And tokens' vectors."""

import itertools

import numpy as np
import pytest
import torch

from dragoman.errors import InvalidOption
from dragoman.kernels.arrays import Stored
from dragoman.kernels.fine import Fine
from dragoman.kernels.head import Embedding, Head
from dragoman.kernels.library import Kernels
from dragoman.layers.packed import PackedEmbedding, PackedHead, PackedTable, stored

TOKENS, WIDTH = 5000, 96


@pytest.fixture
def weight() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((TOKENS, WIDTH), np.float32) * np.float32(WIDTH**-0.5)


@pytest.fixture
def hidden() -> np.ndarray:
    return 3 * np.random.default_rng(1).standard_normal((70, WIDTH), np.float32)


KINDS = ("fp32", "fp16", "bf16", "12 bits")
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def head_of(weight: np.ndarray, kind: str) -> Head:
    """An output layer whose exact rows are of this kind."""
    if kind == "12 bits":
        return Head.fine(Fine.of(Stored.of(weight)))
    return Head.screened(stored(torch.from_numpy(weight).to(DTYPES[kind])))


def module_of(weight: np.ndarray, kind: str) -> PackedHead:
    if kind == "12 bits":
        return PackedHead.fine(PackedTable.pack(torch.from_numpy(weight)))
    return PackedHead.screened(torch.from_numpy(weight).to(DTYPES[kind]))


def screened(weight: np.ndarray, precision: str = "int8") -> Head:
    return Head.screened(Stored.of(weight), precision)


@pytest.mark.parametrize("width", [WIDTH, 51])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_in_full_do_not_depend_on_other_rows(
    native: Kernels, weight: np.ndarray, hidden: np.ndarray, kind: str, width: int
) -> None:
    head, hidden = head_of(weight[:, :width], kind), hidden[:, :width].copy()
    assert head.exact is not None
    for whole in (head.in_full(hidden), head(hidden)):
        assert whole.shape == (70, TOKENS)
    assert np.array_equal(head.in_full(hidden)[3], head.in_full(hidden[3:4])[0])
    assert np.array_equal(head(hidden)[3], head(hidden[3:4])[0])
    assert np.allclose(head.in_full(hidden), hidden @ head.exact.float32().T, atol=1e-4)
    apart = np.random.default_rng(2).integers(0, TOKENS, (70, 9)).astype(np.int32)
    assert np.array_equal(
        head.exactly(hidden, apart), np.take_along_axis(head.in_full(hidden), apart.astype(np.int64), 1)
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [None, np.arange(3, TOKENS, 7)])
def test_the_best_scores_of_the_whole_are_exact(
    native: Kernels, weight: np.ndarray, hidden: np.ndarray, kind: str, kept: np.ndarray | None
) -> None:
    head = head_of(weight, kind)
    head = head if kept is None else head.cut(kept)
    found, exact = head(hidden), head.in_full(hidden)
    best = np.argsort(-found)[:, :8]
    assert np.array_equal(best, np.argsort(-exact)[:, :8])
    for values in (found, exact):
        assert np.array_equal(np.take_along_axis(values, best, 1), np.take_along_axis(exact, best, 1))
        left = np.flatnonzero(~np.isneginf(values).all(0))
        assert np.array_equal(left, np.arange(TOKENS) if kept is None else kept)


@pytest.mark.parametrize("kept", [None, np.arange(3, TOKENS, 7)])
@pytest.mark.parametrize("precision", ["int8", "fp16", "12 bits"])
def test_no_error_of_the_rough_pass_exceeds_its_bound(
    native: Kernels, weight: np.ndarray, hidden: np.ndarray, precision: str, kept: np.ndarray | None
) -> None:
    hidden[10:20, 3] *= 100  # what is left of the other numbers in 8 bits is little
    hidden[20:30] *= np.float32(1e-4)
    hidden[30:40] *= 20
    hidden[40] = weight[7]
    weight[50:60] *= 30
    screens = [(torch.from_numpy(weight).to(dtype), precision) for dtype in DTYPES.values()]
    heads = [Head.screened(stored(exact), each) for exact, each in screens if each != "12 bits"]
    for whole in heads or [head_of(weight, precision)]:
        head = whole if kept is None else whole.cut(kept)
        spread = np.empty((70, 2), np.float32)
        found = (np.empty((70, 4), np.float32), np.empty((70, 4), np.int32), spread)
        native.top(head.struct(), hidden, 64, None, None, found)
        exact = head.in_full(hidden)
        error = np.abs(head.linear(hidden) - (exact if kept is None else exact[:, kept])).max(1)
        known = ~np.isnan(spread[:, 1])  # the others are scored in full
        assert known.sum() >= 65
        assert (error <= spread[:, 1])[known].all()
        lengths = np.linalg.norm(hidden, axis=1) * np.linalg.norm(weight, axis=1).max()
        assert (spread[:, 1] <= 0.1 * lengths)[known].all()


def test_exact_scores_of_tokens_that_are_not_there_are_an_error(
    native: Kernels, weight: np.ndarray, hidden: np.ndarray
) -> None:
    head = screened(weight)
    assert head.exactly(hidden, np.zeros(0, np.int32)).shape == (70, 0)
    for wrong in (-1, TOKENS):
        with pytest.raises(IndexError, match=f"there are {TOKENS}"):
            head.exactly(hidden, np.array([3, wrong], np.int32))


def test_the_modules_forward_is_the_same_by_the_kernels_and_in_pytorch(
    native: Kernels, weight: np.ndarray, hidden: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.from_numpy(hidden).view(7, 10, WIDTH)
    for kind in KINDS:
        head = module_of(weight, kind)
        found = head(x)
        assert found.shape == (7, 10, TOKENS)
        with monkeypatch.context() as patch:
            patch.setattr("dragoman.layers.packed.kernels", lambda: None)
            twin = head(x)
        assert torch.equal(found.argmax(-1), twin.argmax(-1))
        assert torch.allclose(found, twin, atol=1e-3)


def test_what_exact_scores_are_taken_from_must_be_a_kind_the_kernels_know(weight: np.ndarray) -> None:
    exact = torch.from_numpy(weight).double()
    possible = "torch.float32 or torch.float16 or torch.bfloat16"
    with pytest.raises(InvalidOption, match=f"torch.float64; convert them to {possible}"):
        PackedHead.screened(exact)


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_of_tokens_come_out_as_floats(native: Kernels, kind: str) -> None:
    for width in (1, 15, 96, 300):
        weight = torch.randn(70, width)
        table = PackedTable.pack(weight) if kind == "12 bits" else weight.to(DTYPES[kind])
        module = PackedEmbedding(table, 1.7)
        for tokens in (torch.tensor([[1, 2, 69], [0, 0, 7]]), torch.zeros(0, dtype=torch.long)):
            found = module.kernel()(tokens.numpy())
            assert found.dtype == np.float32
            assert found.shape == (*tokens.shape, width)
            assert np.array_equal(found, module(tokens).numpy())


def test_tokens_that_are_not_in_the_table_are_an_error(native: Kernels) -> None:
    table = Stored.of(np.zeros((5, 3), np.float32))
    for embed, wrong in itertools.product((Embedding(table), Embedding(Fine.of(table))), (-1, 5, 2**40)):
        with pytest.raises(IndexError, match="a table with 5 rows"):
            embed(np.array([0, wrong]))
