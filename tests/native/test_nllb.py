"""NLLB through the kernels gives what the plain modules give."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dragoman.checkpoints.nllb import load_nllb
from dragoman.generation.hypotheses import Array
from dragoman.generation.scores import log_softmax
from dragoman.kernels.packing import PRECISIONS
from dragoman.models.config import NllbConfig
from dragoman.models.nllb import Nllb, initialize_
from dragoman.models.prompt import Prompt
from dragoman.native.nllb import NativeNllb
from dragoman.surgery.packing import pack_

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
CASES = ("nllb_dense", "nllb_moe_base")


def native(folder: Path, precision: str) -> tuple[NativeNllb, Nllb]:
    """The native model, and the plain one on the same packed weights."""
    model = load_nllb(folder)
    pack_(model, precision)
    return NativeNllb.of(model), model


def sources(vocabulary: int) -> tuple[Array, Array]:
    keep = np.arange(9) < np.array([9, 2, 6, 1])[:, None]
    ids = np.random.default_rng(4).integers(3, vocabulary, (4, 9))
    return np.where(keep, ids, 1), keep


def decode(model: NativeNllb | Nllb, vocabulary: int) -> list[Array]:
    """Log-probabilities along a walk that widens to beams, reorders and drops them."""
    state = model.begin(Prompt(*sources(vocabulary)))
    steps = [
        (np.array([[2, 5]] * 4), np.arange(4).repeat(3), 3),
        (np.arange(12)[:, None] + 4, np.array([2, 0, 0, 3, 3, 4, 8, 7, 6, 9, 10, 11]), 3),
        (np.arange(12)[:, None] + 7, np.array([6, 8, 7, 0, 2, 2]), 3),
        (np.arange(6)[:, None] + 9, np.arange(6), 3),
    ]
    found = []
    for tokens, rows, beams in steps:
        found.append(log_softmax(model.step(tokens, state).logits()))
        state.select(rows, beams)
    return found


@pytest.mark.parametrize("case", CASES)
def test_fp32_equals_the_model_as_loaded(case: str) -> None:
    plain = load_nllb(GOLDEN / case)
    vocabulary = plain.config.vocab_size
    fast, _ = native(GOLDEN / case, "fp32")
    for ours, reference in zip(decode(fast, vocabulary), decode(plain, vocabulary), strict=True):
        assert np.allclose(ours, reference, atol=1e-4)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", CASES)
def test_every_precision_equals_the_same_weights_in_pytorch(case: str, precision: str) -> None:
    fast, twin = native(GOLDEN / case, precision)
    vocabulary = twin.config.vocab_size
    # Quantising turns a difference in the last bit into one of a whole step, now and then.
    tolerance = 2e-4 if precision.startswith("fp") else 0.2
    for ours, reference in zip(decode(fast, vocabulary), decode(twin, vocabulary), strict=True):
        apart = np.abs(ours - reference)
        assert float(apart.max()) < tolerance
        assert float(apart.mean()) < tolerance / 10


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu"])
def test_odd_sizes_and_other_activations(activation: str) -> None:
    config = NllbConfig(
        model_type="m2m_100",
        vocab_size=77,
        d_model=36,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=3,
        decoder_attention_heads=2,
        encoder_ffn_dim=50,
        decoder_ffn_dim=70,
        activation_function=activation,
    )
    plain = Nllb(config).eval()
    initialize_(plain, 0)
    packed = Nllb(config)
    packed.load_state_dict(plain.state_dict())
    packed.tie_weights()
    pack_(packed, "fp32")
    for ours, reference in zip(decode(NativeNllb.of(packed), 77), decode(plain, 77), strict=True):
        assert np.allclose(ours, reference, atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_sentence_does_not_notice_its_neighbours(precision: str) -> None:
    fast, twin = native(GOLDEN / "nllb_moe_base", precision)
    ids, keep = sources(twin.config.vocab_size)
    prompt = np.array([[2, 5]] * 4)
    together = fast.step(prompt, fast.begin(Prompt(ids, keep))).top(6)
    for row in range(4):
        real = keep[row].sum()
        alone = fast.step(
            prompt[:1], fast.begin(Prompt(ids[row : row + 1, :real], keep[row : row + 1, :real]))
        ).top(6)
        assert np.array_equal(alone[0][0], together[0][row])
        assert np.array_equal(alone[1][0], together[1][row])


def test_sentences_join_those_under_way() -> None:
    fast, twin = native(GOLDEN / "nllb_moe_base", "fp32")
    ids, keep = sources(twin.config.vocab_size)

    def begun(rows: slice, steps: int) -> object:
        state = fast.begin(Prompt(ids[rows], keep[rows]))
        count = len(ids[rows])
        fast.step(np.array([[2, 5]] * count), state)
        state.select(np.arange(count).repeat(2), 2)
        for step in range(steps):
            fast.step(np.arange(2 * count)[:, None] + 4 + step, state)
            state.select(np.array([1, 0] * count) + 2 * np.arange(count).repeat(2), 2)
        return state

    first, second = begun(slice(0, 2), 5), begun(slice(2, 4), 1)
    apart = [
        fast.step(np.arange(4)[:, None] + 20, state).top(3)
        for state in (begun(slice(0, 2), 5), begun(slice(2, 4), 1))
    ]
    first.join(second)  # type: ignore[attr-defined]
    joined = fast.step(np.tile(np.arange(4), 2)[:, None] + 20, first).top(3)  # type: ignore[arg-type]
    for ours, parts in zip(joined, zip(*apart, strict=True), strict=True):
        assert np.array_equal(ours, np.concatenate(parts))


def test_long_decodings_outgrow_their_slots() -> None:
    fast, _ = native(GOLDEN / "nllb_dense", "fp32")
    plain = load_nllb(GOLDEN / "nllb_dense")
    ids, keep = sources(plain.config.vocab_size)
    states = [model.begin(Prompt(ids, keep)) for model in (fast, plain)]
    tokens = np.array([[2, 5]] * 4)
    for step in range(90):
        ours, reference = (
            model.step(tokens, state) for model, state in zip((fast, plain), states, strict=True)
        )
        if step % 30 == 29:
            assert np.allclose(ours.logits(), reference.logits(), atol=1e-4)
        for state in states:
            state.select(np.arange(4), 1)
        tokens = np.arange(4)[:, None] + 4 + step % 30


def test_routing_that_depends_on_the_batch_stays_with_pytorch() -> None:
    model = load_nllb(GOLDEN / "nllb_moe_base")
    assert not NativeNllb.supports(model)
    pack_(model, "fp32")
    assert NativeNllb.supports(model)
    dropping = load_nllb(GOLDEN / "nllb_moe_capacity")
    pack_(dropping, "fp32")
    assert not NativeNllb.supports(dropping)


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_and_pickles_give_the_same(twin: Callable[[NativeNllb], NativeNllb]) -> None:
    model, _ = native(GOLDEN / "nllb_dense", "int8")
    again = twin(model)
    for ours, theirs in zip(decode(model, 100), decode(again, 100), strict=True):
        assert np.array_equal(ours, theirs)
