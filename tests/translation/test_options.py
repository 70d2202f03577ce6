"""What may be asked for, and what is said about all else."""

from dataclasses import fields
from typing import Any

import pytest

from dragoman.checkpoints.catalog import EMBEDDED
from dragoman.errors import InvalidOption
from dragoman.generation.options import GenerationOptions
from dragoman.translation.options import (
    AnswerKeywords,
    GenerationKeywords,
    LoadKeywords,
    LoadOptions,
    TextOptions,
    TranslateKeywords,
    names,
    translation_options,
)


def test_what_type_checkers_are_told_is_what_the_dataclasses_say() -> None:
    generation, text = names(GenerationOptions), names(TextOptions)
    assert list(GenerationKeywords.__annotations__) == generation
    assert list(LoadKeywords.__annotations__) == names(LoadOptions)[1:]
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
            assert keywords.__annotations__[field.name] == field.type, field.name


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
