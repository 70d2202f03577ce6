"""What is counted is what the model does, and what a store makes of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dragoman.checkpoints.catalog import embedded_folder
from dragoman.checkpoints.packed_folders import open_packed
from dragoman.errors import ConfigError, InvalidOption
from dragoman.evaluation.experts import STATISTICS, ExpertStatistics
from dragoman.generation.options import GenerationOptions
from dragoman.kernels.library import kernels
from dragoman.languages import find
from dragoman.systems.base import Request
from dragoman.systems.converting import convert
from dragoman.systems.residence import stored_experts
from dragoman.systems.routing import Observer
from dragoman.translation.translator import Translator

pytestmark = pytest.mark.skipif(kernels() is None, reason="there are no native kernels here")
ENGLISH, FRENCH, GERMAN = map(find, ("en", "fr", "de"))
LINES = ["Good morning! How are you?", "I would like a cup of coffee."]


@pytest.fixture
def observed(translator: Translator) -> Observer:
    return Observer(translator.system)


def test_what_is_read_afterwards_is_what_ran_while_it_was_generated(translator: Translator) -> None:
    """The decoder's experts, token by token, as if somebody had watched the search."""
    system: Any = translator.system
    request = Request("I would like a cup of coffee.", ENGLISH, FRENCH)
    chosen: list[Any] = []
    first, *_ = system.config.sparse_layers("decoder")
    system.runner.decoder.watch = lambda experts, share: chosen.append(experts[first])
    try:
        options = GenerationOptions(beams=1, no_repeat_ngram=4)
        list(system.run(system.encode([request]), [request], options))
    finally:
        system.runner.decoder.watch = None
    observer = Observer(system)
    observer.translate(ENGLISH, [FRENCH], [request.text])
    found = observer.statistics().sides["decoder"].languages["fra_Latn"]
    rows = np.concatenate(chosen)
    assert found.tokens == len(rows)
    assert np.array_equal(found.first[0] * len(rows), np.bincount(rows[:, 0], minlength=8))
    assert np.array_equal(found.second[0] * len(rows), np.bincount(rows[:, 1], minlength=8))


def test_encoder_experts_go_by_source_and_decoder_experts_by_target(observed: Observer) -> None:
    observed.translate(ENGLISH, [ENGLISH, FRENCH, GERMAN], LINES)
    sides = observed.statistics().sides
    assert [*sides["encoder"].languages] == ["eng_Latn"]
    assert [*sides["decoder"].languages] == ["deu_Latn", "fra_Latn"]
    config: Any = observed._system.config
    for name, side in sides.items():
        assert side.layers == config.sparse_layers(name)
        for each in side.languages.values():
            assert each.first.sum(1) == pytest.approx(1)
            assert each.second.sum(1) == pytest.approx(1)
            assert ((each.confidence == 0) == (each.first == 0)).all()
            assert each.confidence[each.first > 0].min() >= 0.5


def test_pairs_are_read_and_those_beyond_the_model_left_out(observed: Observer) -> None:
    long = "mot " * (observed._system.card.max_source_tokens + 10)
    pairs = [("Bonjour !", "Good morning!"), (long, "word"), ("Oui.", "Yes.")]
    assert observed.read(FRENCH, ENGLISH, pairs) == 1
    tokens = observed._system.tokenizer.encode_batch(["Bonjour !", "Oui."], "fr")
    found = observed.statistics().sides["encoder"].languages["fra_Latn"]
    assert found.tokens == sum(map(len, tokens))


def test_a_line_counts_as_often_as_it_stands_there(translator: Translator) -> None:
    once, thrice = Observer(translator.system), Observer(translator.system)
    once.read(FRENCH, ENGLISH, [("Bonjour !", "Good morning!")])
    thrice.read(FRENCH, ENGLISH, [("Bonjour !", "Good morning!")] * 3)
    for name, side in once.statistics().sides.items():
        (one,), (other,) = side.languages.values(), thrice.statistics().sides[name].languages.values()
        assert other.tokens == 3 * one.tokens
        assert np.array_equal(other.first, one.first)


def test_a_model_with_a_pivot_translates_to_that_alone(observed: Observer) -> None:
    observed.translate(FRENCH, [GERMAN], ["Bonjour !"])
    assert observed.statistics().languages == ("fra_Latn", "eng_Latn")


def test_the_model_is_left_unwatched(observed: Observer, translator: Translator) -> None:
    runner: Any = translator.system.runner
    observed.translate(ENGLISH, [FRENCH], ["Yes."])
    assert runner.encoder.passes.watch is runner.decoder.watch is None


def test_what_cannot_be_watched_is_refused(m2m100: Path, observed: Observer) -> None:
    with Translator.load(m2m100, device="cpu") as dense, pytest.raises(InvalidOption, match="has no experts"):
        Observer(dense.system)
    with pytest.raises(InvalidOption, match="there is no text"):
        observed.statistics()
    with pytest.raises(InvalidOption, match="translated to something"):
        observed.translate(ENGLISH, [ENGLISH], LINES)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("packed") / "mini-int8"
    convert(embedded_folder(), output, "int8", "mini")
    return output


def test_a_store_begins_with_what_is_known_of_the_languages(packed: Path, observed: Observer) -> None:
    observed.translate(ENGLISH, [FRENCH, GERMAN], LINES)
    (statistics := observed.statistics()).save(packed / STATISTICS)
    try:
        experts = stored_experts(open_packed(packed), room=10**6)
        for side, rows in (("encoder", 32), ("decoder", 4)):
            prior = experts[side].shelf.usage.prior
            assert prior == pytest.approx(statistics.sides[side].chance(rows), abs=1e-4)
        experts["encoder"].store.close()
    finally:
        (packed / STATISTICS).unlink()


def test_statistics_go_along_when_a_model_is_converted(tmp_path: Path, observed: Observer) -> None:
    (model := tmp_path / "mini").mkdir()
    for path in embedded_folder().iterdir():
        (model / path.name).symlink_to(path)
    observed.translate(ENGLISH, [FRENCH], LINES)
    observed.statistics().save(model / STATISTICS)
    convert(model, output := tmp_path / "out", "int8")
    assert ExpertStatistics.read(output / STATISTICS).model == "mini"


def test_statistics_of_another_model_stop_a_store(packed: Path, observed: Observer) -> None:
    observed.translate(ENGLISH, [FRENCH], LINES)
    data = observed.statistics().to_dict()
    data["encoder"]["layers"] = [5, 7]
    ExpertStatistics.from_dict(data).save(packed / STATISTICS)
    try:
        with pytest.raises(ConfigError, match="are about another model"):
            stored_experts(open_packed(packed), room=10**6)
    finally:
        (packed / STATISTICS).unlink()
