"""Languages, ways and sentences of texts, before anything is translated."""

import random
from typing import Any

import pytest

from dragoman.errors import InvalidText, UnknownLanguage
from dragoman.languages import find
from dragoman.translation.options import TextOptions
from dragoman.translation.preparing import Preparing, Recent, TextJob
from dragoman.translation.results import Text, Translation

FRENCH = ["Je ne sais pas où il habite.", "Elle est très gentille.", "Nous sommes arrivés hier soir."]
GERMAN = ["Ich weiß es nicht.", "Wo ist der Bahnhof?", "Das Haus ist sehr alt."]


def preparing(toy: Any, **options: Any) -> Preparing:
    return Preparing(toy, [find(code) for code in toy.card.languages], TextOptions(**options))


def prepare(toy: Any, text: object, **options: Any) -> TextJob:
    job = preparing(toy, **options).prepare(text)
    assert isinstance(job, TextJob)
    return job


def sources(one: Preparing, texts: list[Any]) -> list[str]:
    return [getattr(job.source, "nllb", job.source) for job in map(one.prepare, texts)]


def test_a_pair_without_english_stops_in_english(toy: Any) -> None:
    job = prepare(toy, "Guten Morgen.", source="de", target="fr")
    assert [stop.nllb for stop in job.stops] == ["deu_Latn", "eng_Latn", "fra_Latn"]
    assert [stop.nllb for stop in prepare(toy, "Hello.", source="en", target="fr").stops] == [
        "eng_Latn",
        "fra_Latn",
    ]
    assert prepare(toy, "Guten Morgen.", source="de", target="fr", direct=True).pivot is None
    assert prepare(toy, "Guten Morgen.", source="de", target="de").pivot is None


def test_a_text_may_have_languages_of_its_own(toy: Any) -> None:
    job = prepare(toy, Text("Guten Morgen.", "German", "fr"), source="en", target="de")
    assert (job.source.nllb, job.target.nllb) == ("deu_Latn", "fra_Latn")
    job = prepare(toy, Text("Hello."), source="en", target="de")
    assert (job.source.nllb, job.target.nllb) == ("eng_Latn", "deu_Latn")


def test_auto_is_a_source_that_is_detected(toy: Any) -> None:
    assert prepare(toy, FRENCH[0], source="auto", target="en").source.nllb == "fra_Latn"
    assert prepare(toy, Text(FRENCH[0], "auto"), source="de", target="en").source.nllb == "fra_Latn"


@pytest.mark.parametrize(
    ("item", "error", "kept"),
    [
        (None, InvalidText, ""),
        (b"Hello", InvalidText, ""),
        (Text(5), InvalidText, ""),  # type: ignore[arg-type]
        ("bad \ud800", InvalidText, "bad \ud800"),
        (Text("Hello.", target="klingon"), UnknownLanguage, "Hello."),
        (Text("Hello.", source="it"), UnknownLanguage, "Hello."),
        (Text("Hello.", source=5), InvalidText, "Hello."),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_translated_keeps_its_source_text(
    toy: Any, item: object, error: type, kept: str
) -> None:
    failed = preparing(toy, source="en", target="fr").prepare(item)
    assert isinstance(failed, Translation)
    assert isinstance(failed.error, error)
    assert failed.text == failed.source_text == kept


@pytest.mark.parametrize("options", [{"source": "xx"}, {"target": "it"}, {"likely_source": "klingon"}])
def test_languages_of_a_call_are_checked_before_any_text(toy: Any, options: dict[str, str]) -> None:
    with pytest.raises(UnknownLanguage):
        preparing(toy, **options)


def test_an_unsure_text_follows_the_texts_before_it_and_says_so(toy: Any) -> None:
    one = preparing(toy)
    for text in FRENCH:
        assert prepare(toy, text).source.nllb == "fra_Latn"
        one.prepare(text)
    job = one.prepare("Menu")
    assert isinstance(job, TextJob)
    assert job.source.nllb == "fra_Latn"
    (warning,) = job.warnings
    assert warning.kind == "language"
    assert "French, like most texts before it" in str(warning)


def test_texts_behind_it_change_nothing(toy: Any) -> None:
    texts = [*FRENCH[:2], "OK", "Menu", *GERMAN, "OK", "12", "Taxi", "Good luck!", *FRENCH, "Radio"]
    together = sources(preparing(toy), texts)
    for end in range(1, len(texts) + 1):
        assert sources(preparing(toy), texts[:end]) == together[:end]


def test_equal_input_gives_equal_languages_however_often(toy: Any) -> None:
    chance = random.Random(3)
    texts = chance.choices([*FRENCH, *GERMAN, "OK", "Menu", "Taxi", "Hotel Roma", "Anna"], k=300)
    assert sources(preparing(toy), texts) == sources(preparing(toy), texts)


@pytest.mark.parametrize("text", ["Hello", "OK", "Settings", "Good luck!", "Anna", "Zzyzx"])
def test_a_short_text_gets_a_best_guess_and_never_nothing(toy: Any, text: str) -> None:
    job = prepare(toy, text, target="fr")
    assert job.text == text
    assert job.source.nllb in toy.card.languages


def test_english_is_the_guess_for_words_of_user_interfaces(toy: Any) -> None:
    assert sources(preparing(toy, target="fr"), ["Hello", "Settings", "Good luck!"]) == ["eng_Latn"] * 3


def test_likely_source_decides_for_what_does_not_tell(toy: Any) -> None:
    job = prepare(toy, "Taxi", target="fr", likely_source="de")
    assert job.source.nllb == "deu_Latn"
    assert prepare(toy, "12", target="fr", likely_source="de").source.nllb == "deu_Latn"


def test_what_the_model_cannot_read_stays_as_it_is_with_a_warning(toy: Any) -> None:
    job = prepare(toy, "Γειά σου Κόσμε", target="fr")
    assert job.source == job.target
    (warning,) = job.warnings
    assert "Greek" in str(warning)
    assert "left as it is" in str(warning)


def test_what_has_no_letters_stays_without_a_word(toy: Any) -> None:
    job = prepare(toy, "12 345 …", target="fr")
    assert job.source == job.target
    assert job.warnings == ()


def test_only_so_many_texts_are_looked_back_on() -> None:
    recent, english, french = Recent(), find("en"), find("fr")
    assert recent.languages() == []
    for _ in range(500):
        recent.add(english)
    for _ in range(Recent.SPAN - 13):
        recent.add(french)
    assert recent.languages() == [french, english]
    recent.add(french)
    assert recent.languages() == [french]
    for _ in range(Recent.SPAN):
        recent.add(french)
    assert recent.languages() == [french]
    assert len(recent._latest) == Recent.SPAN
    assert len(recent._counts) == 1


def test_one_sentence_is_what_a_text_is_taken_for_as_long_as_it_can_be_read(toy) -> None:
    text = "Good morning. Good\nnight."
    assert [each.text for each in prepare(toy, text, source="en", one_sentence=True).parts.segments] == [text]
    long = "Good morning. " * 200
    assert len(prepare(toy, long, source="en", one_sentence=True).parts.segments) > 1
