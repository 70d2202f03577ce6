import math
from dataclasses import FrozenInstanceError

import pytest

from dragoman.errors import InvalidOption
from dragoman.generation.options import GenerationOptions


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"beams": 1},
        {"beams": 64, "n_best": 64},
        {"beams": 1, "sample": True, "n_best": 8, "temperature": 0.5, "top_k": 5, "top_p": 0.9, "seed": 3},
        {"early_stopping": "never", "length_penalty": -2},
        {"early_stopping": True, "length_penalty": 0},
        {"suppress": (0, 3)},
    ],
    ids=str,
)
def test_possible_options_are_accepted(options: dict) -> None:
    accepted = GenerationOptions(**options)
    assert {name: getattr(accepted, name) for name in options} == options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beams": 0}, "beams is 0; it must be a number from 1 to 64"),
        ({"beams": True}, "beams is True"),
        ({"beams": 2.0}, "beams is 2.0; it must be a whole number"),
        ({"beams": "4"}, "beams is '4'"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"max_new_tokens": 5000}, "from 1 to 4096"),
        ({"length_penalty": math.nan}, "length_penalty is nan"),
        ({"length_penalty": 11}, "from -10 to 10"),
        ({"no_repeat_ngram": -1}, "no_repeat_ngram is -1"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_k": 2.5}, "top_k is 2.5; it must be a whole number"),
        ({"top_p": 0}, "top_p is 0"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": None}, "seed is None"),
        ({"early_stopping": "always"}, "must be True, False or 'never'"),
        ({"early_stopping": 1}, "early_stopping is 1"),
        ({"early_stopping": None}, "early_stopping is None"),
        ({"sample": True}, r"sampling keeps one hypothesis; set beams=1 \(it is 4\)"),
        ({"n_best": 5}, "n_best is 5, but only 4 beams are kept"),
        ({"beams": 1, "n_best": 2}, "only 1 beams are kept"),
        ({"suppress": (-1,)}, r"suppress is \(-1,\)"),
        ({"suppress": ("a",)}, "it must hold token ids"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_impossible_option_is_an_error_that_names_it(options: dict, message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        GenerationOptions(**options)


def test_options_do_not_change() -> None:
    options = GenerationOptions()
    with pytest.raises(FrozenInstanceError):
        options.beams = 2  # type: ignore[misc]
