"""What is copied is on both sides; noise is on one; the same random numbers give the same example."""

import re
from collections import Counter
from random import Random

import pytest

from dragoman.training.augmentation import copying, made_up, noise, shaping
from dragoman.training.augmentation.examples import Augmentation, AugmentationOptions
from dragoman.training.augmentation.phrases import WRITINGS, phrase
from dragoman.training.filters import digits
from dragoman.training.names import names_in

CODES = ("deu_Latn", "eng_Latn")
PAIR = (
    "Tom hat am 3. Mai 1987 in Boston 1.250,50 Euro bezahlt.",
    "Tom paid 1,250.50 euros in Boston on May 3, 1987.",
)
SEEDS = range(60)


def test_numbers_get_the_same_other_digits_on_both_sides() -> None:
    for seed in SEEDS:
        german, english = copying.other_numbers(PAIR, Random(seed))
        assert digits(german) == digits(english) != digits(PAIR[0])
        assert re.fullmatch(r"Tom hat am \d\. Mai \d{4} in Boston \d\.\d{3},\d\d Euro bezahlt\.", german)
        assert re.fullmatch(r"Tom paid \d,\d{3}\.\d\d euros in Boston on May \d, \d{4}\.", english)


@pytest.mark.parametrize(
    "pair",
    [
        ("Es sind 5.", "There are five."),
        ("5 von 5", "5 of 5"),
        ("Python 3.12", "Python 3.13"),
        ("utf8 und x86_64", "utf8 and x86_64"),
        ("1 Tag", "1 day"),
    ],
)
def test_numbers_that_are_not_alone_and_equal_stay(pair: tuple[str, str]) -> None:
    assert copying.other_numbers(pair, Random(1)) == pair


def test_names_change_on_both_sides_and_keep_a_genitive() -> None:
    pair = ("Das ist Toms Hund, sagte Mary.", "That's Tom's dog, Mary said.")
    for seed in SEEDS:
        german, english = copying.other_names(pair, Random(seed), ["Ingrid", "Otto"], 1.0, 0.0)
        name = german.removeprefix("Das ist ").split("s Hund")[0]
        other = german.split("sagte ")[1].rstrip(".")
        assert "Tom" not in german + english
        assert "Mary" not in german + english
        assert english == f"That's {name}'s dog, {other} said." or "'s" in name


def test_a_word_that_only_begins_both_sentences_is_no_name() -> None:
    assert copying.shared_names(("Die Zeit vergeht.", "Die hard.")) == []
    assert copying.shared_names(("In Genua regnet es.", "It rains in Genua.")) == ["Genua"]


def test_names_are_found_that_come_often_enough() -> None:
    pairs = [
        ("Das ist Otto.", "This is Otto."),
        ("Ruf Otto an.", "Call Otto."),
        ("Das ist Eva.", "This is Eva."),
    ]
    assert names_in(pairs) == ["Otto"]
    assert names_in([("Ruf Tom an.", "Call Tom.")] * 5) == []


def changes(before: str, after: str) -> Counter[str]:
    found = Counter(after)
    found.subtract(before)
    return Counter({sign: count for sign, count in found.items() if count})


def test_things_are_put_into_both_sides() -> None:
    seen = set()
    for seed in range(300):
        german, english = copying.things(PAIR, Random(seed))
        assert (german, english) != PAIR
        seen.update(set(german.split()) - set(PAIR[0].split()))
        # The same letters and signs came, and went, on both sides.
        assert changes(PAIR[0], german) == changes(PAIR[1], english), (german, english)
    assert any("://" in word for word in seen)
    assert any("@" in word for word in seen)
    assert any("{" in word for word in seen)


def test_pure_copies_are_their_own_translation() -> None:
    texts = [copying.pure(Random(seed)) for seed in SEEDS]
    assert all(a == b and a.strip() for a, b in texts)
    assert len({a for a, _ in texts}) > 50


@pytest.mark.parametrize(
    "make", [made_up.name, made_up.address, made_up.email, made_up.identifier, made_up.path]
)
def test_made_up_things_have_no_spaces_and_vary(make) -> None:
    made = [make(Random(seed)) for seed in SEEDS]
    assert not any(" " in text for text in made)
    assert len(set(made)) > 30


def test_shapes_change_both_sides() -> None:
    pair = ("Das ist groß.", "This is large.")
    assert shaping.capitals(pair, Random(0), CODES) == ("DAS IST GROSS.", "THIS IS LARGE.")
    assert shaping.fragment(pair, Random(0), CODES) == ("Das ist groß", "This is large")
    german, english = shaping.item(pair, Random(3), CODES)
    assert german.removesuffix(pair[0]) == english.removesuffix(pair[1]) != ""
    forms = {shaping.quotation(pair, Random(seed), CODES) for seed in SEEDS}
    assert forms == {('"Das ist groß."', '"This is large."'), ("„Das ist groß.“", "“This is large.”")}
    assert shaping.quotation(('"A"', "A"), Random(0), CODES) == ('"A"', "A")


def test_noise_leaves_code_letter_by_letter() -> None:
    text = "Öffne {file_name} auf <b>Server</b>"
    for seed in range(200):
        found = noise.noisy(text, Random(seed))
        assert "{file_name}" in found
        assert "<b>" in found


@pytest.mark.parametrize(
    ("change", "before", "after"),
    [
        (noise.small, "Der Hund", "der hund"),
        (noise.without_accents, "Süße Äpfel, garçon", "Susse Apfel, garcon"),
        (noise.without_stop, "Geht das?", "Geht das"),
        (noise.curly, 'l\'"ami"', "l’“ami”"),
    ],
)
def test_kinds_of_noise(change, before: str, after: str) -> None:
    assert change(before, Random(0)) == after


def test_typos_change_a_letter_or_two() -> None:
    for seed in SEEDS:
        found = noise.typos("Wir gehen morgen zusammen", Random(seed))
        assert abs(len(found) - 25) <= 2
    assert noise.typos("a 1", Random(0)) == "a 1"


@pytest.mark.parametrize("code", sorted(WRITINGS))
def test_phrases_have_the_same_numbers_on_both_sides(code: str) -> None:
    clocks = 0
    for seed in range(400):
        text, english = phrase(code, Random(seed))
        assert text
        assert english
        if "pm" in english:
            clocks += 1  # 3:15 pm is 15:15
        elif "T" not in english and digits(text) != digits(english):
            raise AssertionError((text, english))
    assert clocks


def test_every_language_has_as_many_words_for_phrases() -> None:
    for writing in WRITINGS.values():
        assert len(writing.frames) == len(WRITINGS["eng_Latn"].frames)
        assert len(writing.units) == len(WRITINGS["eng_Latn"].units)
        assert (len(writing.months), len(writing.days)) == (12, 7)
        assert all("{x}" in frame for frame in writing.frames)


def test_german_writes_numbers_its_own_way() -> None:
    found = {phrase("deu_Latn", Random(seed)) for seed in range(3000)}
    texts = " ".join(text for text, _ in found)
    assert re.search(r"\d\d\.\d{3}\b", texts)
    assert re.search(r"\d,\d+ %", texts)
    assert re.search(r"\d\. Januar \d{4}", texts)


def test_noise_is_on_the_source_alone_and_nothing_happens_by_default() -> None:
    quiet = Augmentation(AugmentationOptions())
    assert quiet.example(PAIR, CODES, 0, Random(0), lambda rng: PAIR) == PAIR
    assert quiet.example(PAIR, CODES, 1, Random(0), lambda rng: PAIR) == PAIR[::-1]
    noisy = Augmentation(AugmentationOptions(noise=1.0))
    changed = 0
    for seed in SEEDS:
        source, target = noisy.example(PAIR, CODES, 1, Random(seed), lambda rng: PAIR)
        assert target == PAIR[0]
        changed += source != PAIR[1]
    assert changed > 30


def test_joined_pairs_stay_below_their_length() -> None:
    joining = Augmentation(AugmentationOptions(joined=1.0, joined_characters=120))
    more = ("Gut.", "Fine.")
    lengths = set()
    for seed in SEEDS:
        german, english = joining.example(PAIR, CODES, 0, Random(seed), lambda rng: more)
        assert german.count("Gut.") == english.count("Fine.") >= 1
        lengths.add(german.count("Gut."))
        assert len(german) <= 121
    assert lengths == {1, 2, 3}


def test_same_random_numbers_make_the_same_example() -> None:
    options = AugmentationOptions(0.5, 0.5, 0.5, 0.5, 300, 0.5, 0.5, 0.5)
    one, two = Augmentation(options, ["Eva"]), Augmentation(options, ["Eva"])
    for seed in SEEDS:
        assert one.example(PAIR, CODES, 0, Random(seed), lambda rng: PAIR) == two.example(
            PAIR, CODES, 0, Random(seed), lambda rng: PAIR
        )
