"""Marks on their way through a translation: out of the text, and back to where they belong."""

import pytest

from dragoman.documents.document import Mark, Parts, is_well_formed
from dragoman.translation.apart import collapsed, peeled, pieces
from dragoman.translation.marks import (
    NUMBERS,
    flatten,
    keeps,
    tagged_parts,
    with_tags,
)

B, B_, E, E_ = (
    Mark("<b>", "open", 1),
    Mark("</b>", "close", 1),
    Mark("<i>", "open", 2),
    Mark("</i>", "close", 2),
)
BREAK, NOTE, CODE = Mark("<br>", reads="\n"), Mark("[^1]"), Mark("`ls`", reads="ls")


def knows_all(text: str) -> str:
    return ""


def knows_letters(text: str) -> str:
    return "".join(c for c in text if not c.isalnum() and c not in " .")


def project(parts: Parts, translation: str, *said: list[str]) -> Parts | None:
    return flatten(parts, knows_all).project(translation, said)


def test_a_text_has_no_tags_and_shows_what_a_reader_sees():
    flat = flatten((B, "Run ", CODE, B_, NOTE, " for {name}."), knows_all)
    assert flat.text == "Run ls for {name}."
    assert flat.shown == ["ls", "{name}"]


def test_numbers_stand_for_what_the_model_does_not_know():
    flat = flatten(("Hi {name}, run ", CODE, f" on {NUMBERS[0]}."), knows_letters)
    assert flat.text == f"Hi {NUMBERS[1]}, run ls on {NUMBERS[0]}."
    assert flat.project(f"{NUMBERS[1]}, ls {NUMBERS[0]}!", []) == ("{name}, ", CODE, f" {NUMBERS[0]}!")
    assert flat.project(f"1{NUMBERS[1]}, ls {NUMBERS[0]}!", []) is None


def test_numbers_never_run_out():
    flat = flatten(tuple(CODE for _ in range(100)), str, only_numbers=True)
    assert len(set(flat.shown)) == 100


def test_outermost_pairs_collapse():
    parts = ("a ", B, "b ", E, "c", E_, B_, " d ", CODE)
    outer, inside = collapsed(parts)
    assert outer == ("a ", Mark("", "kept", 1, reads="#"), " d ", CODE)
    assert inside == {1: (B, "b ", E, "c", E_, B_)}


@pytest.mark.parametrize(
    ("translation", "said", "wanted"),
    [
        ("Jetzt Datei speichern", ["Datei"], ("Jetzt ", B, "Datei", B_, " speichern")),
        ("Jetzt datei speichern", ["Datei."], ("Jetzt ", B, "datei", B_, " speichern")),
        ("Jetzt Dateien speichern", ["Datei"], ("Jetzt ", B, "Dateien", B_, " speichern")),
        ("Save the file", ["Datei"], ("Save the ", B, "file", B_)),
        ("Jetzt speichern", ["Datei"], None),
        ("文件现在保存", ["文件"], (B, "文件", B_, "现在保存")),
    ],
)
def test_a_pair_goes_where_its_own_words_are(translation, said, wanted):
    assert project(("Save the ", B, "file", B_, " now"), translation, said) == wanted


def test_of_equal_words_the_pair_takes_those_at_its_place():
    parts = ("one and ", B, "one", B_)
    assert project(parts, "eins und eins", ["eins"]) == ("eins und ", B, "eins", B_)


def test_nested_pairs_stay_nested():
    parts = ("A ", B, "quick ", E, "brown", E_, B_, " fox")
    found = project(parts, "Ein Fuchs, schnell braun", ["braun"], ["schnell braun"])
    assert found == ("Ein Fuchs, ", B, "schnell ", E, "braun", E_, B_)
    assert project(parts, "Braun, und schnell rot", ["Braun"], ["schnell rot"]) is None


def test_pairs_around_the_same_words_close_in_order():
    parts = ("x ", B, E, "word", E_, B_)
    found = project(parts, "x Wort", ["Wort"], ["Wort"])
    assert found == ("x ", B, E, "Wort", E_, B_)


def test_unseen_marks_keep_their_place_between_words():
    parts = ("The house", NOTE, " is red and old.")
    found = project(parts, "Das Haus ist rot und alt.")
    assert found == ("Das Haus", NOTE, " ist rot und alt.")


def test_an_unseen_mark_stays_within_its_pair():
    parts = ("See ", B, "the house", NOTE, B_, " there")
    found = project(parts, "Dort das Haus", ["das Haus"])
    assert found is not None
    assert is_well_formed(found, parts)
    assert found[-1] == B_


@pytest.mark.parametrize(
    ("parts", "middle"),
    [
        ((" ", B, "a", B_, " "), ("a",)),
        ((NOTE, " a ", E, "b", E_), ("a ", E, "b", E_)),
        ((B, "a", B_, " ", E, "b", E_), (B, "a", B_, " ", E, "b", E_)),
        ((CODE, " a"), (CODE, " a")),
        ((" ",), ()),
    ],
)
def test_what_is_around_a_sentence_is_peeled(parts, middle):
    before, found, after = peeled(parts)
    assert found == middle
    assert "".join(map(str, (*before, *found, *after))) == "".join(map(str, parts))


def test_short_tags_are_read_back():
    flat = flatten(("A ", B, "quick ", E, "brown", E_, B_, " fox"), knows_all)
    assert with_tags(flat) == "A <i>quick <b>brown</b></i> fox"
    found = tagged_parts(flat, "Ein <i>schneller <b>brauner</b></i> Fuchs")
    assert found == ("Ein ", B, "schneller ", E, "brauner", E_, B_, " Fuchs")


@pytest.mark.parametrize(
    "translation",
    [
        "Ein Fuchs",
        "<b>Ein</b> Fuchs",
        "<i>Ein <b>Fuchs</i> da</b>",
        "<i>Ein</i> <b>F</b>",
        "<i><b></b>x</i>",
        "<b>x<i>y</b>",
    ],
)
def test_short_tags_that_are_not_all_there_are_refused(translation):
    flat = flatten(("A ", B, "quick ", E, "brown", E_, B_, " fox"), knows_all)
    assert tagged_parts(flat, translation) is None


def test_a_pair_within_a_word_is_widened():
    flat = flatten(("un", B, "believ", B_, "able ", CODE), knows_all)
    assert flat.in_whole_words == (B, "unbelievable", B_, " ", CODE)


@pytest.mark.parametrize(
    ("source", "candidate", "good"),
    [
        ("Hi {name}", "{name}, hallo", True),
        ("Hi {name}", "hallo", False),
        ("Hi {name}", "{name} {name}", False),
        ("Hi you", "hallo {du}", False),
        ("run 47", "47 47", False),
        ("run 47", "147", False),
        ("Hi", " ", False),
    ],
)
def test_a_candidate_keeps_all_and_invents_nothing(source, candidate, good):
    assert keeps(source, candidate, ["47"]) == good


def test_pieces_are_the_words_between_marks_and_placeholders():
    found = list(pieces(("Hi {name}, ", B, "see", B_, " ", CODE, " 12")))
    assert [part for part, is_words in found if is_words] == ["Hi ", "see"]
    assert "".join(p if isinstance(p, str) else p.source for p, _ in found) == "Hi {name}, <b>see</b> `ls` 12"


def test_words_that_a_model_says_as_signs_alone_have_no_place():
    pair = Mark("<b>", "open", 1), Mark("</b>", "close", 1)
    flat = flatten(("A ", pair[0], "house", pair[1], " here."), lambda text: "")
    assert flat.project("Ein Haus hier.", [["...", "—"]]) is None
    assert flat.project("Ein Haus hier.", [["—", "Haus"]]) == ("Ein ", pair[0], "Haus", pair[1], " hier.")
