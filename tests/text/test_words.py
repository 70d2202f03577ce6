"""What the lists of common words say of a text."""

import pytest

from dragoman.text.words import MOST_WORDS, commonness, known_share, word_evidence, words_of


def test_words_are_in_lower_case_with_their_marks_apostrophes_and_hyphens() -> None:
    assert words_of("L’été, c'est BIEN -- peut-être 42!") == ("l'été", "c'est", "bien", "peut-être")
    assert words_of("यह हिन्दी है।") == ("यह", "हिन्दी", "है")
    assert len(words_of("word " * 1000)) == MOST_WORDS


def test_commoner_words_say_more() -> None:
    common, rare, unknown = (word_evidence((word,), "eng_Latn") for word in ("the", "settings", "zzyzx"))
    assert common is not None
    assert rare is not None
    assert common > rare > 0
    assert unknown == 0


@pytest.mark.parametrize(("text", "code"), [("wir sind da", "deu_Latn"), ("nous sommes là", "fra_Latn")])
def test_words_speak_for_their_language(text: str, code: str) -> None:
    words = words_of(text)
    evidence = {other: word_evidence(words, other) or 0.0 for other in ("deu_Latn", "fra_Latn", "eng_Latn")}
    assert max(evidence, key=evidence.__getitem__) == code
    assert known_share(words, code) == 1


def test_a_language_without_a_list_says_nothing() -> None:
    assert word_evidence(("hello",), "wol_Latn") is None
    assert known_share(("hello",), "wol_Latn") == commonness("wol_Latn") == 0
    assert commonness("eng_Latn") > commonness("nob_Latn") > 0


def test_parts_of_a_hyphenated_word_stand_for_it() -> None:
    assert known_share(("house-dog",), "eng_Latn") == 1
    assert known_share((), "eng_Latn") == 0
