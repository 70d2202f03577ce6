"""What users are told of translations."""

from typing import Any

import pytest

from dragoman.generation.options import GenerationOptions
from dragoman.languages import find
from dragoman.text.checks import Alphabet
from dragoman.translation.options import TextOptions
from dragoman.translation.pipeline import Pipeline
from dragoman.translation.preparing import Preparing
from dragoman.translation.results import Translation
from dragoman.translation.running import Run


def translate(toy: Any, text: str, source: str = "en", target: str = "fr") -> Translation:
    toy.engine.submit_all = lambda jobs, left: [_finished(toy.engine, job) for job in jobs]
    languages = [find(code) for code in toy.card.languages]
    preparing = Preparing(toy, languages, TextOptions(source, target))
    run = Run(preparing, Pipeline(toy, GenerationOptions(), 8), Alphabet(toy.tokenizer))
    (result,) = run.translations([text])
    return result


def _finished(engine: Any, job: Any) -> Any:
    ticket = engine.submit(job)
    engine.finish()
    return ticket


def test_sentences_are_put_together_with_what_was_between_them(toy: Any) -> None:
    result = translate(toy, " One here.\n\nTwo there. ")
    assert result.text == " One here.>fr\n\nTwo there.>fr "
    assert result.source_text == " One here.\n\nTwo there. "
    assert [sentence.source for sentence in result.sentences] == ["One here.", "Two there."]
    assert (result.source, result.target, result.pivot) == ("eng_Latn", "fra_Latn", None)
    assert translate(toy, "Guten Tag.", "de", "fr").pivot == "eng_Latn"


@pytest.mark.parametrize(
    ("decoded", "kind"),
    [
        ("Bonjour !", "markup"),
        ("Hi {name}, how are you today", "untranslated"),
        ("{name} et ainsi de suite" * 20, "repetition"),
        ("", "length"),
    ],
)
def test_what_is_wrong_with_a_sentence_is_said_with_its_number(
    toy: Any, decoded: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = toy.decode
    monkeypatch.setattr(
        toy, "decode", lambda hyp, req: decoded if "{name}" in req.text else original(hyp, req)
    )
    result = translate(toy, "This is it.\nHi {name}, how are you today")
    assert kind in [warning.kind for warning in result.warnings]
    assert {warning.sentence for warning in result.warnings} == {2}
    assert all(str(warning).startswith("sentence 2: ") for warning in result.warnings)


def test_characters_that_the_model_lacks_are_named(toy: Any) -> None:
    (warning,) = translate(toy, "This is *it*.").warnings
    assert (warning.kind, warning.sentence) == ("unknown-characters", 1)
    assert "“*”" in str(warning)


def test_nothing_is_said_of_what_needs_no_translation(toy: Any) -> None:
    assert translate(toy, "* 12 *").warnings == ()
    assert translate(toy, "Stay as you are, and be * good.", "en", "en").warnings == ()


def test_the_limit_is_reported_for_the_sentence_that_met_it(
    toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy, "is_complete", lambda hypothesis: False)
    result = translate(toy, "One here.\nTwo there.")
    assert [(warning.kind, warning.sentence) for warning in result.warnings] == [("limit", 1), ("limit", 2)]
    assert "reached the limit of 2 tokens" in str(result.warnings[0])


def test_an_error_leaves_the_source_text(toy: Any) -> None:
    toy.unreadable = {"Two there."}
    result = translate(toy, "One here.\nTwo there.")
    assert result.error is not None
    assert result.text == result.source_text == "One here.\nTwo there."
    assert result.sentences == ()
