"""Translations that are shown while they are being made."""

import pytest

from dragoman.errors import (
    InvalidText,
    UnknownLanguage,
)

pytestmark = pytest.mark.usefixtures("one_thread")


LIVE = [
    ("Good morning.\n\n  I am here. You are there, and 12 dogs.\r\n123\n", "en", "fr"),
    ("Guten Morgen. Wo ist der Bahnhof?", "de", "fr"),
    ("Ich weiß es nicht.", None, None),
    ("Stay as you are.", "en", "en"),
    ("", "en", "fr"),
    (" \n", "en", "fr"),
]


@pytest.mark.parametrize(("text", "source", "target"), LIVE)
@pytest.mark.parametrize(
    "options", [{}, {"beams": 1}, {"batch_size": 1}, {"sample": True, "beams": 1, "n_best": 2}]
)
def test_pieces_of_a_live_translation_are_the_translation(translator, text, source, target, options):
    pieces = list(translator.live(text, source, target, **options))
    assert "".join(pieces) == translator.translate(text, source, target, **options)
    assert all(pieces)


def test_live_translation_comes_word_by_word(translator, taken_at_once):
    text = "I would like to have a very big house in the south of France."
    greedy = list(translator.live(text, "en", "fr", beams=1))
    assert len(greedy) > 8
    assert len(list(translator.live(text, "en", "fr"))) > 2


def test_live_translation_that_nobody_reads_stops(translator):
    pieces = translator.live("I would like to have a very big house. " * 20, "en", "fr", beams=1)
    next(pieces)
    pieces.close()
    assert not translator.system.engine.busy


@pytest.mark.parametrize(
    ("text", "source", "error"),
    [(None, None, InvalidText), (["Hello."], "en", InvalidText), ("Hello.", "xx", UnknownLanguage)],
)
def test_live_translation_of_what_cannot_be_translated_is_an_error_at_once(translator, text, source, error):
    with pytest.raises(error):
        translator.live(text, source, "fr")
