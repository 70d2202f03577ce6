"""Which precision a model runs in."""

from pathlib import Path

import pytest
import torch

from dragoman.checkpoints.catalog import EMBEDDED, locate
from dragoman.checkpoints.nllb import load_nllb
from dragoman.errors import InvalidOption
from dragoman.kernels.library import kernels
from dragoman.native.nllb import NativeNllb
from dragoman.surgery.packing import precision_of
from dragoman.systems import precision
from dragoman.systems.nllb import NllbSystem
from dragoman.systems.precision import fitting, plan, prepare
from dragoman.translation.translator import Translator

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


@pytest.mark.parametrize(
    ("weights", "chosen"), [(10**8, "fp32"), (3 * 10**9, "fp16"), (6 * 10**9, "int8"), (54 * 10**9, "int4")]
)
def test_auto_is_the_most_exact_that_fits_half_of_the_memory(weights: int, chosen: str) -> None:
    assert fitting(weights, memory=16e9) == chosen


def test_an_accelerator_gets_half_precision_unless_told_otherwise() -> None:
    assert plan("auto", "cuda") == precision.Plan("fp16", torch.float16, False)
    assert plan("fp32", "cuda:1") == precision.Plan("fp32", torch.float32, False)
    assert plan("int8", "cuda") == precision.Plan("int8", None, True)


def test_without_kernels_exact_models_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "kernels", lambda: None)
    for wanted in ("auto", "fp32"):
        assert plan(wanted, "cpu") == precision.Plan("fp32", torch.float32, False)
    assert plan("int8", "cpu").packs


class Kernels:
    """What the choice depends on."""

    def __init__(self, isa: str, parallel: bool) -> None:
        self.isa, self.parallel = isa, parallel


@pytest.mark.parametrize(("isa", "parallel"), [("plain", True), ("avx2", False)])
def test_kernels_that_are_slower_than_pytorch_run_what_is_packed_but_not_exact_models(
    monkeypatch: pytest.MonkeyPatch, isa: str, parallel: bool
) -> None:
    monkeypatch.setattr(precision, "kernels", lambda: Kernels(isa, parallel))
    monkeypatch.setattr(precision, "forced", lambda: False)
    assert plan("fp32", "cpu") == precision.Plan("fp32", torch.float32, False)
    for wanted in ("fp16", "int8", "int4"):
        assert plan(wanted, "cpu") == precision.Plan(wanted, None, True)
    chosen = plan("auto", "cpu")
    for memory, found in ((2**40, "fp32"), (1, "int4")):
        monkeypatch.setattr(precision, "memory_limit", lambda memory=memory: memory)
        model = load_nllb(GOLDEN / "nllb_moe_base", dtype=chosen.dtype).half()
        runner, name = prepare(model, chosen)
        assert name == found
        assert precision_of(model) == (None if found == "fp32" else found)
        if found == "fp32":
            assert runner is model
            assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_kernels_that_are_asked_for_by_name_run_exact_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "kernels", lambda: Kernels("plain", False))
    monkeypatch.setattr(precision, "forced", lambda: True)
    assert plan("fp32", "cpu") == precision.Plan("fp32", None, True)


@pytest.mark.skipif(not precision._faster(), reason="there are no fast native kernels here")
def test_with_kernels_every_precision_is_native() -> None:
    for wanted, found in (("auto", "fp32"), ("fp32", "fp32"), ("int4", "int4")):
        chosen = plan(wanted, "cpu")
        model = load_nllb(GOLDEN / "nllb_moe_base", dtype=chosen.dtype)
        runner, name = prepare(model, chosen)
        assert isinstance(runner, NativeNllb)
        assert name == found == precision_of(model)


@pytest.mark.skipif(kernels() is None, reason="there are no native kernels here")
def test_what_the_kernels_do_not_know_runs_in_pytorch() -> None:
    chosen = plan("fp32", "cpu")
    model = load_nllb(GOLDEN / "nllb_moe_capacity", dtype=chosen.dtype)
    runner, _ = prepare(model, chosen)
    assert runner is model


def test_a_strange_precision_is_an_error() -> None:
    with pytest.raises(InvalidOption, match="'fp8'; it must be auto or one of fp32, fp16, int8, int4"):
        plan("fp8", "cpu")


@pytest.mark.parametrize("beams", [1, 4])
def test_half_precision_runs_through_the_plain_path(beams: int) -> None:
    """What an accelerator gets by default, here on the CPU."""
    exact = NllbSystem.load(locate(EMBEDDED), "cpu", "fp32")
    half = load_nllb(locate(EMBEDDED), dtype=torch.float16)
    fast = Translator(exact)
    slow = Translator(NllbSystem(half, exact.tokenizer, exact.card, precision="fp16"))
    texts = ["Where is the station?", "Good morning!", "I don't know what to say.", "He lives in Paris."]
    found = slow.translate(texts, "en", "fr", beams=beams)
    assert found == fast.translate(texts, "en", "fr", beams=beams)
