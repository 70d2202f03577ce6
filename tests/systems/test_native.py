"""The native path of a system: the same words as the plain one, whatever else is in a batch."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from dragoman.checkpoints.catalog import EMBEDDED, locate
from dragoman.checkpoints.nllb import load_nllb
from dragoman.errors import InvalidOption
from dragoman.evaluation.metrics import score
from dragoman.generation.hypotheses import Hypothesis
from dragoman.generation.options import GenerationOptions
from dragoman.kernels.library import kernels
from dragoman.languages import find
from dragoman.native.nllb import NativeNllb
from dragoman.systems.base import Request
from dragoman.systems.nllb import NllbSystem
from dragoman.translation.translator import Translator

pytestmark = pytest.mark.skipif(kernels() is None, reason="there are no native kernels here")
Pairs = dict[str, list[tuple[str, str]]]


@pytest.fixture(scope="module")
def plain() -> NllbSystem:
    """The embedded model in PyTorch."""
    native = NllbSystem.load(locate(EMBEDDED), "cpu", "fp32")
    return NllbSystem(load_nllb(locate(EMBEDDED)), native.tokenizer, native.card)


@pytest.fixture(scope="module")
def systems() -> dict[str, NllbSystem]:
    return {p: NllbSystem.load(locate(EMBEDDED), "cpu", p) for p in ("fp32", "int8", "int4")}


def requests(pairs: Pairs, count: int) -> list[Request]:
    """Sentences into and out of English, mixed."""
    found = []
    for code, its in pairs.items():
        for other, english in its[:count]:
            found.append(Request(other, find(code), find("en")))
            found.append(Request(english, find("en"), find(code)))
    random.Random(0).shuffle(found)
    return found


def decode(
    system: NllbSystem, todo: list[Request], options: GenerationOptions, at_once: int = 64
) -> list[list[Hypothesis]]:
    found = dict(system.run(system.encode(todo), todo, options, at_once=at_once))
    ranked = [found[index] for index in range(len(todo))]
    assert all(isinstance(each, list) for each in ranked)
    return ranked  # type: ignore[return-value]


def ids(ranked: list[list[Hypothesis]]) -> list[list[tuple[int, ...]]]:
    return [[hypothesis.tokens for hypothesis in each] for each in ranked]


BEAM = GenerationOptions(beams=4, max_new_tokens=64)
OPTIONS = {
    "beam": BEAM,
    "greedy": replace(BEAM, beams=1),
    "all scores": replace(BEAM, beams=3, repetition_penalty=1.2, no_repeat_ngram=3, n_best=3),
    "samples": replace(BEAM, beams=1, sample=True, n_best=2, temperature=0.8, top_k=20),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_the_exact_native_path_writes_what_the_plain_one_writes(
    plain: NllbSystem, systems: dict[str, NllbSystem], tatoeba: Pairs, name: str
) -> None:
    assert isinstance(systems["fp32"].runner, NativeNllb)
    todo = requests(tatoeba, 6)
    assert ids(decode(systems["fp32"], todo, OPTIONS[name])) == ids(decode(plain, todo, OPTIONS[name]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["beam", "greedy"])
def test_on_sixteen_hundred_sentences_too(
    plain: NllbSystem, systems: dict[str, NllbSystem], tatoeba: Pairs, name: str
) -> None:
    todo = requests(tatoeba, 200)
    assert len(todo) == 1600
    assert ids(decode(systems["fp32"], todo, OPTIONS[name])) == ids(decode(plain, todo, OPTIONS[name]))


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_no_result_depends_on_batch_mates(
    systems: dict[str, NllbSystem], tatoeba: Pairs, precision: str
) -> None:
    todo = requests(tatoeba, 3)
    one, seven, many = (ids(decode(systems[precision], todo, BEAM, at_once)) for at_once in (1, 7, 32))
    assert one == seven == many


def chrf(systems: dict[str, NllbSystem], pairs: Pairs, count: int) -> dict[str, float]:
    """By precision, over sentences into English."""
    todo = [r for r in requests(pairs, count) if r.target.nllb == "eng_Latn"]
    english = {text: reference for its in pairs.values() for text, reference in its}
    references = [english[request.text] for request in todo]
    scores = {}
    for precision, system in systems.items():
        ranked = decode(system, todo, BEAM)
        texts = [system.decode(each[0], request) for each, request in zip(ranked, todo, strict=True)]
        scores[precision] = score(texts, references, "eng_Latn")[0].value
    return scores


def test_quantisation_spoils_nothing(systems: dict[str, NllbSystem], tatoeba: Pairs) -> None:
    """A sample so small scatters by half a point; the measure proper is below."""
    scores = chrf(systems, tatoeba, 30)
    assert scores["fp32"] > 50
    assert scores["int8"] > scores["fp32"] - 1
    assert scores["int4"] > scores["fp32"] - 2.5


@pytest.mark.slow
def test_quantisation_costs_little(systems: dict[str, NllbSystem], tatoeba: Pairs) -> None:
    scores = chrf(systems, tatoeba, 200)
    assert scores["int8"] > scores["fp32"] - 0.3
    assert scores["int4"] > scores["fp32"] - 1


def test_a_target_vocabulary_changes_little_and_keeps_to_its_tokens(tatoeba: Pairs) -> None:
    system = NllbSystem.load(locate(EMBEDDED), "cpu", "fp32")
    todo = [r for r in requests(tatoeba, 10) if r.source.nllb == "eng_Latn"]
    whole = ids(decode(system, todo, BEAM))
    system.restrict(system.tokenizer.vocabulary * 3 // 8, None)
    cut = ids(decode(system, todo, BEAM))
    assert sum(a == b for a, b in zip(whole, cut, strict=True)) >= 0.85 * len(todo)
    system.restrict(system.tokenizer.vocabulary * 3 // 20, None)
    vocabulary = system.runner.heads.vocabulary  # type: ignore[union-attr]
    assert vocabulary is not None
    for row, request, ranked in zip(system.encode(todo), todo, ids(decode(system, todo, BEAM)), strict=True):
        language = system.tokenizer.language_id(request.target.nllb)
        allowed = {*vocabulary.tokens(language), *vocabulary.source(row), language}
        assert set(ranked[0]) <= allowed
    assert ids(decode(system, todo, BEAM, 1)) == ids(decode(system, todo, BEAM, 64))


def test_a_plain_model_has_no_target_vocabulary(plain: NllbSystem) -> None:
    with pytest.raises(InvalidOption, match="needs the native kernels"):
        plain.restrict(3000, None)


def test_the_translator_takes_precision_and_vocabulary() -> None:
    with Translator.load(device="cpu", precision="int8") as whole:
        expected = whole.translate("Where is the station?", "en", "fr")
    translator = Translator.load(
        device="cpu", precision="int8", vocabulary=3000, vocabulary_text={"fr": [expected]}
    )
    assert translator.system.precision == "int8"
    assert translator.translate("Where is the station?", "en", "fr") == expected
    with pytest.raises(InvalidOption, match="vocabulary_text goes with a vocabulary"):
        Translator.load(device="cpu", vocabulary_text={"fr": []})
    with pytest.raises(InvalidOption, match="precision is 'int7'"):
        Translator.load(device="cpu", precision="int7")


def test_a_missing_vocabulary_language_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption):
        Translator.load(device="cpu", vocabulary=0)
