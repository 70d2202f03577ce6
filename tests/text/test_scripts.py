"""Scripts of characters and of languages."""

import pytest

from dragoman.languages import all_languages, find
from dragoman.text.scripts import is_own_spelling, letter_script, script_of, scripts_of


@pytest.mark.parametrize(
    ("characters", "script"),
    [
        ("aZéßŁ\u1ea5ªＡ", "Latn"),
        ("яЇҚ", "Cyrl"),
        ("αΏ", "Grek"),
        ("ب\u064eـ٣۴", "Arab"),  # a letter, a vowel sign, a stretched line, digits of two kinds
        ("ש\u05b8", "Hebr"),
        ("क\u093f\u094d३", "Deva"),
        ("ก\u0e34\u0e49๓", "Thai"),
        ("漢々〇", "Hani"),
        ("かカｶー", "Kana"),
        ("한ㅋ", "Hang"),
        ("አ", "Ethi"),
        ("ᱚ", "Olck"),
    ],
)
def test_letters_marks_and_digits_have_their_script(characters, script):
    assert {script_of(character) for character in characters} == {script}


@pytest.mark.parametrize("character", list("0 9.,!?-–“»।、。،؟€%😀½²▁ʼµ\u0301\u200d"))
def test_what_any_language_may_use_has_no_script(character):
    assert script_of(character) == ""


def test_letters_of_scripts_that_no_language_here_uses_are_foreign():
    assert script_of("Ꭰ") == "CHEROKEE"
    assert script_of("ꆈ") == "YI"


def test_only_letters_count_as_letters():
    assert letter_script("क") == "Deva"
    assert letter_script("\u093f") == letter_script("३") == letter_script("1") == ""


def test_each_language_writes_with_letters_of_its_scripts():
    for language in all_languages():
        written = {letter_script(character) for character in language.own_name} - {""}
        assert written <= scripts_of(language), language.nllb


def test_japanese_has_two_scripts_and_both_chinese_the_same():
    assert scripts_of(find("ja")) == {"Hani", "Kana"}
    assert "Hani" in scripts_of(find("zho_Hans")) & scripts_of(find("zho_Hant"))


def test_han_characters_belong_to_countries():
    assert is_own_spelling("汉语", find("zho_Hans"))
    assert not is_own_spelling("漢語", find("zho_Hans"))
    assert is_own_spelling("漢語", find("zho_Hant"))
    assert not is_own_spelling("汉语", find("zho_Hant"))
    assert is_own_spelling("漢字かな", find("ja"))
    assert not is_own_spelling("语", find("ja"))
