"""Where and how a model runs, and what memory it may take."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dragoman.checkpoints.catalog import EMBEDDED, locate
from dragoman.checkpoints.llama import load_xalma
from dragoman.checkpoints.nllb import load_nllb
from dragoman.checkpoints.nllb_files import open_nllb
from dragoman.checkpoints.packing import pack_nllb, packed_bytes
from dragoman.checkpoints.part_forms import take_apart
from dragoman.errors import InvalidOption, NotEnoughMemory
from dragoman.generation.engine import Engine, Job
from dragoman.generation.options import GenerationOptions
from dragoman.kernels.library import kernels
from dragoman.kernels.packing import PRECISIONS
from dragoman.limits import written_size
from dragoman.models.config import NllbConfig
from dragoman.models.nllb import Nllb
from dragoman.surgery.language_modules import groups
from dragoman.surgery.module_reading import read_module
from dragoman.surgery.packing import pack_, precision_of
from dragoman.systems import placement
from dragoman.systems.modules import LanguageModules
from dragoman.systems.nllb import NllbSystem
from dragoman.systems.placement import Budget, Placement, place
from dragoman.systems.plain import PlainModules, prepare_
from dragoman.translation.translator import Translator

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


PATHS = ("no kernels", "slow kernels", "kernels")


@pytest.fixture(scope="module")
def model() -> Nllb:
    return load_nllb(GOLDEN / "nllb_moe_base", dtype=None)


def placed_in(monkeypatch: pytest.MonkeyPatch, limit: int, model: Nllb, **wanted: Any) -> Placement:
    """How a model is placed where there is so much memory."""
    monkeypatch.setattr(placement, "memory_limit", lambda: limit)
    return place(model.config, **wanted)


def with_kernels(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    found = {"no kernels": None, "slow kernels": Kernels("plain", True), "kernels": Kernels("avx2", True)}
    monkeypatch.setattr(placement, "kernels", lambda: found[path])
    monkeypatch.setattr(placement, "forced", lambda: False)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_auto_is_the_most_exact_whose_weights_fit_half_of_the_memory(
    monkeypatch: pytest.MonkeyPatch, model: Nllb, path: str, precision: str
) -> None:
    with_kernels(monkeypatch, path)
    monkeypatch.setattr(placement, "_least", lambda config: 0)  # that of a toy is more than its weights
    packs = precision != "fp32" or path == "kernels"
    size = packed_bytes(model.config, precision) if packs else 4 * sum(p.numel() for p in model.parameters())
    found = placed_in(monkeypatch, 2 * size + 2, model)
    assert (found.precision, found.packs) == (precision, packs)
    assert found.budget.weights == size
    if precision != "int4":
        assert placed_in(monkeypatch, 2 * size - 2, model).precision != precision


@pytest.mark.parametrize("path", PATHS)
def test_a_model_that_can_not_fit_is_refused_with_figures(
    monkeypatch: pytest.MonkeyPatch, model: Nllb, path: str
) -> None:
    with_kernels(monkeypatch, path)
    size = packed_bytes(model.config, "int4")
    for limit, wanted in ((size, {}), (2**40, {"memory": size})):
        with pytest.raises(NotEnoughMemory) as caught:
            placed_in(monkeypatch, limit, model, **wanted)
        assert f"in int4 the weights take {written_size(size)}" in str(caught.value)
        assert ("memory allows for" if wanted else "there are") in str(caught.value)
        assert "a smaller model" in str(caught.value)
        assert isinstance(caught.value, MemoryError)


def test_a_precision_that_does_not_fit_is_refused_and_what_fits_is_named(
    monkeypatch: pytest.MonkeyPatch, model: Nllb
) -> None:
    least = place(model.config).budget.least
    limit = packed_bytes(model.config, "int8") + least
    with pytest.raises(NotEnoughMemory, match=r"in fp32 .* What fits is int8 .* or int4"):
        placed_in(monkeypatch, limit, model, precision="fp32")
    assert placed_in(monkeypatch, limit, model, precision="int8").budget.work == least


def test_the_parts_of_the_budget_never_exceed_it(monkeypatch: pytest.MonkeyPatch, model: Nllb) -> None:
    least = place(model.config).budget.least
    for limit in range(
        packed_bytes(model.config, "int4") + least, 10 * packed_bytes(model.config, "fp32"), 10**5
    ):
        for wanted in ({}, {"memory": limit}, {"memory": f"{limit}B", "precision": "int4"}):
            budget = placed_in(monkeypatch, limit, model, **wanted).budget
            assert budget.weights + budget.work <= budget.most <= limit
            assert budget.work >= least
    roomy = placed_in(monkeypatch, 10**12, model).budget
    assert roomy.work == pytest.approx(10**12 / 4, rel=0.01)


def test_memory_that_is_not_there_or_no_size_is_an_error(
    monkeypatch: pytest.MonkeyPatch, model: Nllb
) -> None:
    with pytest.raises(InvalidOption, match=r"memory is 64\.0 GB, but there are only 16\.0 GB"):
        placed_in(monkeypatch, 16 * 10**9, model, memory="64GB")
    with pytest.raises(InvalidOption, match="write it as 12GB"):
        NllbSystem.load(GOLDEN / "nowhere", "cpu", memory="a lot")


def test_modules_take_from_what_decoding_has_until_nothing_is_left() -> None:
    budget = Budget(most=1000, usual=900, weights=500, least=100)
    assert budget.work == 337
    budget.take_module(200, "the module of group 1")
    assert budget.work == 200
    budget.take_module(150, "the module of group 2")
    assert budget.work == 100  # by now more than usual is in use
    with pytest.raises(NotEnoughMemory, match=r"group 3 takes .*\(--memory\)"):
        budget.take_module(51, "the module of group 3")
    budget.take_module(50, "the module of group 4")


def test_an_accelerator_gets_half_precision_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, model: Nllb
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**12, 10**12))
    for wanted, found in (("auto", ("fp16", False)), ("fp32", ("fp32", False)), ("int8", ("int8", True))):
        placed = place(model.config, "cuda:1", wanted)
        assert (placed.precision, placed.packs) == found
    monkeypatch.setattr(placement, "_least", lambda config: 0)
    small = int(packed_bytes(model.config, "int8") * 2.1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (small, small))
    assert place(model.config, "cuda:1").precision == "int8"


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["nllb_dense", "nllb_moe_base"])
def test_packed_weights_take_what_was_announced(name: str, precision: str) -> None:
    model = load_nllb(GOLDEN / name, dtype=None)
    announced = packed_bytes(model.config, precision)
    pack_(model, precision)
    tensors = {id(t): t for t in (*model.parameters(), *model.buffers())}
    taken = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors.values()}
    assert sum(taken.values()) == pytest.approx(announced, rel=0.35)


@pytest.mark.skipif(kernels() is None, reason="there are no native kernels here")
@pytest.mark.parametrize(
    ("precision", "bytes_each"), [("fp32", 6.0), ("fp16", 3.0), ("int8", 1.5), ("int4", 1.5)]
)
def test_embedding_and_output_layer_take_what_was_announced_once(precision: str, bytes_each: float) -> None:
    files = open_nllb(GOLDEN / "nllb_dense")
    parts, config = pack_nllb(files, precision), files.config
    found = [array.data for name in ("shared", "lm_head") for array in take_apart(parts[name])[1].values()]
    taken = {array.ctypes.data: array.nbytes for array in found if array.ndim == 2}
    more = packed_bytes(replace(config, vocab_size=config.vocab_size + 1000), precision)
    assert more - packed_bytes(config, precision) == 1000 * config.d_model * bytes_each
    rows = -(-config.vocab_size // 64) * 64  # to whole panels
    assert bytes_each * config.vocab_size <= sum(taken.values()) / config.d_model <= bytes_each * rows


def test_language_modules_reduce_what_decoding_may_take() -> None:
    model = load_xalma(GOLDEN / "xalma", groups=())
    engine = Engine(model, pad=0)
    budget = place(model.config).budget
    modules = LanguageModules(PlainModules(model), engine, budget)
    job = modules.lend(Job((), GenerationOptions(), (5,), group=3))
    assert groups(model) == (3,)
    size = read_module(model, 1).bytes
    assert budget.modules == size == sum(p.nbytes for name, p in model.named_parameters() if "_lora_" in name)
    budget.most = budget.weights + budget.modules + budget.least + size - 1
    with pytest.raises(NotEnoughMemory, match="group 1"):
        modules.require(1)
    assert groups(model) == (3,)
    budget.usual = budget.most
    budget.most += 1
    modules.require(1)
    assert engine.memory == budget.work == budget.least
    assert job.group == 3


def test_the_module_that_was_idle_longest_makes_room() -> None:
    model = load_xalma(GOLDEN / "xalma", groups=())
    budget = place(model.config).budget
    modules = LanguageModules(PlainModules(model), Engine(model, pad=0), budget)
    size = read_module(model, 1).bytes
    budget.most = budget.usual = budget.weights + budget.least + 2 * size
    jobs = {group: modules.lend(Job((), GenerationOptions(), (5,), group=group)) for group in (1, 2)}
    modules.require(1)
    with pytest.raises(NotEnoughMemory):
        modules.require(3)
    del jobs[1]
    modules.require(3)
    assert groups(model) == (2, 3)
    del jobs[2]
    modules.require(2)
    modules.require(4)
    assert groups(model) == (2, 4)
    assert budget.modules == 2 * size


class Kernels:
    """What the choice depends on."""

    def __init__(self, isa: str, parallel: bool) -> None:
        self.isa, self.parallel = isa, parallel


@pytest.mark.parametrize(("isa", "parallel"), [("plain", True), ("avx2", False)])
def test_kernels_that_are_slower_than_pytorch_run_what_is_packed_but_not_exact_models(
    monkeypatch: pytest.MonkeyPatch, isa: str, parallel: bool
) -> None:
    monkeypatch.setattr(placement, "kernels", lambda: Kernels(isa, parallel))
    monkeypatch.setattr(placement, "forced", lambda: False)
    for wanted in ("fp32", "fp16", "int8", "int4"):
        model = load_nllb(GOLDEN / "nllb_moe_base", dtype=None).half()
        found = place(model.config, "cpu", wanted)
        assert (found.precision, found.packs) == (wanted, wanted != "fp32")
        prepare_(model, found)
        assert precision_of(model) == (None if wanted == "fp32" else wanted)
        if wanted == "fp32":
            assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_kernels_that_are_asked_for_by_name_run_exact_models(
    monkeypatch: pytest.MonkeyPatch, model: Nllb
) -> None:
    monkeypatch.setattr(placement, "kernels", lambda: Kernels("plain", False))
    monkeypatch.setattr(placement, "forced", lambda: True)
    assert place(model.config, "cpu", "fp32").packs


@pytest.mark.skipif(not placement._packs("fp32", True), reason="there are no fast native kernels here")
def test_with_kernels_every_precision_is_native() -> None:
    for wanted, found in (("auto", "fp32"), ("fp32", "fp32"), ("int4", "int4")):
        placed = place(NllbConfig.from_folder(GOLDEN / "nllb_moe_base"), "cpu", wanted)
        assert (placed.precision, placed.is_native) == (found, True)


@pytest.mark.skipif(kernels() is None, reason="there are no native kernels here")
def test_what_the_kernels_do_not_know_runs_in_pytorch() -> None:
    placed = place(NllbConfig.from_folder(GOLDEN / "nllb_moe_capacity"), "cpu", "int8")
    assert (placed.packs, placed.is_native) == (True, False)


def test_a_strange_precision_is_an_error() -> None:
    with pytest.raises(InvalidOption, match="'fp8'; it must be auto or one of fp32, fp16, int8, int4"):
        NllbSystem.load(GOLDEN / "nowhere", "cpu", "fp8")


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
