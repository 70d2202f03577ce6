"""What may be asked for, and what is said about all else."""

from dataclasses import fields
from typing import Any

import pytest

from dragoman.checkpoints.catalog import EMBEDDED, ModelCard
from dragoman.errors import ConfigError, InvalidOption
from dragoman.generation.options import GenerationOptions
from dragoman.translation.options import (
    AnswerKeywords,
    GenerationKeywords,
    LoadKeywords,
    LoadOptions,
    TextOptions,
    TranslateKeywords,
    card_defaults,
    names,
    translation_options,
)


def test_what_type_checkers_are_told_is_what_the_dataclasses_say() -> None:
    generation, text = names(GenerationOptions), names(TextOptions)
    assert tuple(GenerationKeywords.__annotations__) == generation
    assert tuple(LoadKeywords.__annotations__) == names(LoadOptions)[1:]
    assert set(TranslateKeywords.__annotations__) == {*generation, *text} - {"source", "target"}
    assert set(AnswerKeywords.__annotations__) == {*generation, "timeout"}


@pytest.mark.parametrize(
    ("keywords", "options"),
    [
        (GenerationKeywords, GenerationOptions),
        (LoadKeywords, LoadOptions),
        (TranslateKeywords, TextOptions),
    ],
)
def test_types_are_the_same_too(keywords: Any, options: Any) -> None:
    for field in fields(options):
        if field.name in keywords.__annotations__:
            given = keywords.__annotations__[field.name]
            assert getattr(given, "__forward_arg__", given) == field.type, field.name


def test_the_model_is_the_embedded_one_unless_said_otherwise() -> None:
    assert LoadOptions().model == EMBEDDED


def test_options_are_parted_and_a_models_defaults_stand_behind_them() -> None:
    text, generation = translation_options(
        "de", None, {"beams": 2, "timeout": 3}, {"beams": 5, "no_repeat_ngram": 3}
    )
    assert text == TextOptions(source="de", timeout=3)
    assert generation == GenerationOptions(beams=2, no_repeat_ngram=3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"beam": 4}, "do you mean 'beams'"),
        ({"batchsize": 4}, "do you mean 'batch_size'"),
        ({"time_out": 4}, "do you mean 'timeout'"),
        ({"qqq": 4}, "the options are beams"),
        ({"batch_size": 0}, "from 1 to 4096"),
        ({"batch_size": True}, "from 1 to 4096"),
        ({"timeout": 0}, "above 0"),
        ({"timeout": "5"}, "above 0"),
        ({"direct": 1}, "True or False"),
    ],
)
def test_bad_options_are_refused_with_what_is_possible(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidOption, match=said):
        translation_options(None, None, given, {})


def test_a_text_for_a_vocabulary_needs_one() -> None:
    with pytest.raises(InvalidOption, match="goes with a vocabulary"):
        LoadOptions(vocabulary_text={"fr": []})


def test_a_models_card_gives_defaults_of_generation() -> None:
    card = ModelCard("m", ("eng_Latn",), 10, generation={"no_repeat_ngram": 3, "suppress": [1, 2]})
    assert card_defaults(card) == {"no_repeat_ngram": 3, "suppress": (1, 2)}


@pytest.mark.parametrize("generation", [{"beam": 3}, {"beams": 0}, {"temperature": 2.0}])
def test_a_card_with_options_that_cannot_be_is_an_error(generation: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="the card of m"):
        card_defaults(ModelCard("m", ("eng_Latn",), 10, generation=generation))


def test_a_models_defaults_hold_where_the_caller_says_nothing() -> None:
    defaults = {"no_repeat_ngram": 3, "beams": 2}
    _, generation = translation_options(None, None, {"beams": 5}, defaults)
    assert (generation.beams, generation.no_repeat_ngram) == (5, 3)
