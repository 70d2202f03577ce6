"""What is found in bad translations, and not in good ones."""

from pathlib import Path

import pytest

from dragoman.languages import find
from dragoman.text.checks import Alphabet, check, repeated_share
from dragoman.text.tokenizers import NllbTokenizer


def kinds(source: str, translation: str, spoken: str = "en", wanted: str = "fr") -> list[str]:
    return [finding.kind for finding in check(source, translation, find(spoken), find(wanted))]


@pytest.mark.parametrize(
    ("source", "translation"),
    [
        ("Hi {name}!", "Salut name !"),
        ("<b>Save</b> the file", "<b>Enregistrez le fichier"),
        ("Write to you@example.com.", "Écrivez à you.example.com."),
        ("See https://example.com/a", "Voir https://example.com/ a"),
        ("%d files and %d folders", "%d fichiers et dossiers"),
    ],
)
def test_lost_markup_is_found(source: str, translation: str) -> None:
    (finding,) = check(source, translation, find("en"), find("fr"))
    assert finding.kind == "markup"


def test_the_message_says_what_is_lost() -> None:
    (finding,) = check("Hi {name}, {name} and {age}", "Salut {name}, nom et âge", find("en"), find("fr"))
    assert finding.message == "the translation lacks “{name}”, “{age}”"


@pytest.mark.parametrize(
    ("source", "translation", "found"),
    [
        ("It has 1,350.5 metres.", "Elle a 1 350,5 mètres.", []),
        ("It has 1,350 metres.", "Elle a 1 530 mètres.", ["number"]),
        ("She was born in 1987.", "Elle est née.", ["number"]),
        ("I have 3 cats and 20 dogs.", "J'ai trois chats et vingt chiens.", []),
        ("٢٠٢٤ كانت سنة طيبة", "2024 was a good year", []),
        ("It costs 30,000 yen.", "それは3万円です。", []),
    ],
)
def test_lost_numbers_are_found(source: str, translation: str, found: list[str]) -> None:
    assert kinds(source, translation) == found


@pytest.mark.parametrize(
    "translation",
    [
        "N" * 120 + "A",
        "Je suis allé à la maison et à la maison et à la maison et à la maison et à la maison",
        "Il est, il est, il est, il est, il est, il est, il est, il est",
    ],
)
def test_a_loop_is_found(translation: str) -> None:
    assert "repetition" in kinds(
        "I went home and told everybody about the long way that I had come", translation
    )


def test_a_source_that_repeats_itself_may_be_translated_so() -> None:
    assert kinds("No, no, no, no, no, no, no, no, no, no!", "Non, non, non, non, non, non, non, non !") == []
    assert repeated_share("Je suis allé à la maison, et elle est allée à la plage.") < 0.1


def test_a_copy_of_the_source_is_found_but_a_name_may_stay() -> None:
    text = "Please close the door behind you."
    assert kinds(text, text) == ["untranslated"]
    assert kinds("Tom Smith Junior", "Tom Smith Junior") == kinds("OK", "OK") == []
    assert kinds("请把你身后的门关上。", "请把你身后的门关上。", "zh", "en") == ["untranslated"]
    assert kinds(text, "Please close it right behind you.", "en", "ru") == ["untranslated"]
    assert kinds(text, text, "en", "en") == []


def test_lengths_far_apart_are_found() -> None:
    long = "The committee that was to decide about the new bridge has been meeting since the early morning."
    assert kinds(long, "Oui.") == ["length"]
    assert kinds("Yes, my dear.", f"Oui, sans doute. {long}") == ["length"]
    assert kinds("Hello.", "") == ["length"]
    assert kinds(long, "该委员会从一大早就开始开会，决定新桥的事情。", "en", "zh") == []


def test_translations_by_people_are_fine(tatoeba: dict[str, list[tuple[str, str]]]) -> None:
    looked, wrong = 0, []
    for code, pairs in tatoeba.items():
        for text, english in pairs:
            looked += 2
            wrong += check(text, english, find(code), find("en"))
            wrong += check(english, text, find("en"), find(code))
    assert len(wrong) <= looked / 500, wrong


def test_characters_that_become_unknown_are_named(spm_folder: Path) -> None:
    alphabet = Alphabet(NllbTokenizer.from_folder(spm_folder))
    assert alphabet.lacks("Where is the station?") == ""
    assert alphabet.check("Where is the station?") is None
    assert alphabet.lacks("ꙮ and ꙮ, 🜁") == "ꙮ🜁"
    finding = alphabet.check("ꙮ is here")
    assert finding is not None
    assert finding.kind == "unknown-characters"
    assert "“ꙮ”" in finding.message
