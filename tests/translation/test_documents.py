"""Documents through a translator that can do little: everything comes back all the same."""

import re
from collections.abc import Callable, Iterable, Iterator

import pytest

from dragoman.documents import markdown
from dragoman.documents.document import Document, Mark, Parts, Segment, is_well_formed
from dragoman.errors import TranslationFailed, TranslationWarning
from dragoman.translation.documents import AROUND, PIECES, TAGS, WHOLE, DocumentTranslator, SegmentTranslation
from dragoman.translation.results import Candidate, Sentence, Translation

NONSENSE = "* a|b ` **x** {y} <b> _ [z](w) 1. # > 4711 4712 \\ & &amp; $1 %s"
Speak = Callable[[str], list[str]]


class Model:
    """Translates a text as one sentence, by a function that gives its candidates."""

    def __init__(self, speak: Speak, fails: str | None = None) -> None:
        self.speak, self.fails = speak, fails
        self.asked: list[list[str]] = []

    def __call__(self, texts: Iterable[str]) -> Iterator[Translation]:
        self.asked.append(list(texts))
        for text in self.asked[-1]:
            if self.fails is not None and self.fails in text:
                yield Translation(
                    text, "eng_Latn", "deu_Latn", error=TranslationFailed("no"), source_text=text
                )
                continue
            found = tuple(Candidate(one, 0.0, (), True) for one in self.speak(text))
            warning = TranslationWarning("sentence 1: it lacks “4711”", "number", 1)
            yield Translation(
                found[0].text, "eng_Latn", "deu_Latn", (Sentence(text, found),), warnings=(warning,)
            )


def translated(source: str, model: Model, lacks: str = "") -> list[SegmentTranslation]:
    document = markdown.parse(source.encode())
    translator = DocumentTranslator(document, model, lambda text: "".join(set(text) & set(lacks)))
    results = translator.run()
    for result in results:
        assert result.parts is None or is_well_formed(result.parts, result.segment.parts)
    return results


def has_letters(parts: Parts) -> bool:
    return any(char.isalpha() for part in parts if isinstance(part, str) for char in part)


def written(result: SegmentTranslation) -> str:
    assert result.parts is not None
    return "".join(part if isinstance(part, str) else part.source for part in result.parts)


def upper(text: str) -> list[str]:
    return [re.sub(r"\{\w+\}|<.*?>|[^{}<>]", lambda m: m[0] if len(m[0]) > 1 else m[0].upper(), text)]


def test_whole_sentences_come_first():
    model = Model(upper)
    (result,) = translated("Click **save** to store {name}.", model)
    assert (written(result), result.way) == ("CLICK **SAVE** TO STORE {name}.", WHOLE)
    assert model.asked[0] == ["Click save to store {name}.", "save"]
    assert model.asked[1:] == []


def test_another_candidate_that_keeps_all_is_taken_and_stale_warnings_go():
    model = Model(lambda text: ["lost", text.upper().replace("{NAME}", "{name}")])
    (result,) = translated("Hello {name}", model)
    assert (written(result), result.way, result.warnings) == ("HELLO {name}", WHOLE, ())


def test_sentences_with_tags_come_second():
    model = Model(lambda text: upper(text) if "<" in text else ["SOMETHING ELSE"])
    (result,) = translated("Click **save** now", model)
    assert (written(result), result.way) == ("CLICK **SAVE** NOW", TAGS)
    (result,) = translated("Click **save** now", Model(model.speak), lacks="<")
    assert result.way == PIECES


def test_pieces_come_third_and_keep_every_mark():
    model = Model(lambda text: [re.sub(r"\W+|\d+", " ", text).upper().strip() + "."])
    source = "Hello {name}, *click* `ls`, then **go _on_ now**: see [it](http://a.b)."
    (result,) = translated(source, model)
    assert written(result) == "HELLO {name}, *CLICK* `ls`, THEN **GO _ON_ NOW**: SEE [IT](http://a.b)."
    assert result.way == PIECES


def test_tags_within_words_go_around_them():
    model = Model(lambda text: [f"x{len(text)}"])
    (result,) = translated("Un**believ**able it is", model)
    assert written(result) == "**x12** x5"


def test_what_can_be_done_in_no_way_stays_and_says_so():
    (result,) = translated("Hello **you** there", Model(lambda text: [""]))
    assert (result.parts, result.way) == (None, None)
    assert "keeps all" in str(result.error)
    assert result.text == "Hello you there"


def test_an_error_of_one_segment_is_its_own():
    bad, good = translated("One bad **thing**\n\nTwo", Model(upper, fails="bad"))
    assert str(bad.error) == "no"
    assert written(good) == "TWO"


def test_tags_around_all_of_it_are_a_last_resort_that_is_told():
    class Only(Document):
        """Takes marks at the ends alone."""

        segments = [Segment(("a ", Mark("<b>", "open", 1), "b", Mark("</b>", "close", 1), " c"), 1)]  # noqa: RUF012

        def render(self, translations, language=None):
            return b""

        def accepts(self, place, parts):
            return isinstance(parts[0], Mark)

    (result,) = DocumentTranslator(Only(), Model(lambda text: ["WORDS"]), lambda text: "<").run()
    assert (written(result), result.way) == ("<b>WORDS</b>", AROUND)
    assert [warning.kind for warning in result.warnings] == ["markup"]


@pytest.mark.parametrize("lacks", ["", "{}<>$%`"])
def test_a_model_that_says_anything_breaks_nothing(lacks):
    answers = iter(NONSENSE.split() * 1000)
    source = (
        "A *b* {c} `d` [e **f**](g) %s h[^1] ![i](j)\n\n" * 40 + "| **k** | l {m} |\n|---|---|\n| n | o |\n"
    )
    document = markdown.parse(source.encode())
    translator = DocumentTranslator(document, Model(lambda text: [next(answers)]), lambda text: lacks)
    results = translator.run()
    again = markdown.parse(document.render([result.parts for result in results]))
    wanted = [r.parts or r.segment.parts for r in results]
    assert [s.parts for s in again.segments] == [parts for parts in wanted if has_letters(parts)]
