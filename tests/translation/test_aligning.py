"""Which words of a translation are those of some words of its source."""

import pytest

from dragoman.translation.aligning import place_of, single_words

SAID = {
    "Where": ["Où ?"],
    "the": ["Le."],
    "next": ["Le prochain.", "Suivant"],
    "village": ["Le village."],
    "early": ["Tôt"],
    "morning": ["Le matin"],
    "left": ["À gauche"],
    "house": ["Maison"],
}


def found(text, words, translation):
    start = text.index(words)
    place = place_of(text, start, start + len(words), translation, SAID)
    return None if place is None else translation[slice(*place)]


@pytest.mark.parametrize(
    ("text", "words", "translation", "expected"),
    [
        ("Where is the next village?", "next village", "Où est le prochain village ?", "prochain village"),
        ("Where is the next village?", "village", "Où est le prochain village ?", "village"),
        (
            "We left the house early in the morning.",
            "house",
            "Nous sommes partis de la maison tôt.",
            "maison",
        ),
        (
            "We left early in the morning.",
            "early in the morning",
            "Tôt le matin nous partîmes.",
            "Tôt le matin",
        ),
        ("The next village is Orleans.", "Orleans", "Le prochain village est Orleans.", "Orleans"),
        ("A village, the next villages.", "villages", "Un village, les prochains villages.", "villages"),
        ("Where is it?", "Where", "C'est loin.", None),
        ("Unknown words here.", "words", "Rien du tout.", None),
    ],
)
def test_words_are_found_by_what_they_are_alone(text, words, translation, expected):
    assert found(text, words, translation) == expected


def test_of_two_places_the_nearer_is_taken():
    text, translation = "A house, a street, a house.", "Une maison, une rue, une maison."
    first, last = text.index("house"), text.rindex("house")
    places = [place_of(text, at, at + 5, translation, {"house": ["maison"]}) for at in (first, last)]
    assert places == [(4, 10), (translation.rindex("maison"), translation.rindex("maison") + 6)]


def test_every_word_is_asked_for_once_and_short_ones_never():
    assert single_words("The map of the old map, don't you_see 42?") == [
        "The",
        "map",
        "the",
        "old",
        "don't",
        "you",
        "see",
    ]
    assert single_words("word " * 50) == []


def test_text_without_words_has_no_places():
    assert place_of("...", 0, 3, "!", {}) is None
    assert place_of("a b", 0, 1, "", {}) is None
