"""Subtitles with styles: only what is said is translated."""

import pytest

from dragoman.documents import ass
from dragoman.documents.document import Mark
from dragoman.errors import InvalidDocument

HEAD = "[Script Info]\nTitle: A film\n\n[Events]\nFormat: Layer, Start, End, Style, Name, Text\n"
LINE = "Dialogue: 0,0:00:01.00,0:00:02.00,{},,{}\n"


def parsed(*lines: str, style: str = "Default"):
    return ass.parse((HEAD + "".join(LINE.format(style, line) for line in lines)).encode())


def test_the_fields_before_the_text_stay():
    document = parsed("Wait, my friend,\\Nhere!")
    assert [segment.text for segment in document.segments] == ["Wait, my friend, here!"]
    assert document.render([("Warte hier, mein Freund!",)]).decode() == HEAD + LINE.format(
        "Default", "Warte hier, mein Freund!"
    )


def test_overrides_are_marks_and_those_that_end_are_pairs():
    (segment,) = parsed("{\\an8}It was {\\i1}never{\\i0} there,{\\fs20\\b1} ever\\hagain").segments
    assert [part if isinstance(part, str) else part.kind for part in segment.parts] == [
        "kept", "It was ", "open", "never", "close", " there,", "kept", " ever\xa0again"
    ]  # fmt: skip


def test_a_drawing_is_one_mark_and_karaoke_stays():
    document = parsed("Look {\\p1}m 0 0 l 10 0 b{\\p0} here", "{\\k20}la {\\k30}le", "{\\p2}m 0 0 l 5 5")
    assert [segment.text for segment in document.segments] == ["Look  here"]
    assert [part.source for part in document.segments[0].parts if isinstance(part, Mark)] == [
        "{\\p1}m 0 0 l 10 0 b{\\p0}"
    ]


def test_a_sentence_goes_on_in_lines_of_one_style_only():
    document = parsed("When it was light,", "we left.")
    (segment,) = document.segments
    (mark,) = (part for part in segment.parts if isinstance(part, Mark))
    written = document.render([("Als es hell war,", mark, " gingen wir.")]).decode()
    assert written == HEAD + LINE.format("Default", "Als es hell war,") + LINE.format(
        "Default", "gingen wir."
    )
    two = HEAD + LINE.format("Default", "When it was light,") + LINE.format("Sign", "we left.")
    assert len(ass.parse(two.encode()).segments) == 2


def test_what_is_said_is_the_last_field_wherever_styles_have_commas():
    line = "Dialogue: Marked=0,0:00:01.00,0:00:02.00,*Default,Hi, you\n"
    older = f"[Events]\nFormat: Marked, Start, End, Style, Text\n{line}"
    assert [segment.text for segment in ass.parse(older.encode()).segments] == ["Hi, you"]


def test_braces_in_a_translation_are_not_accepted():
    document = parsed("Nothing")
    assert document.accepts(0, ("Nichts",))
    assert not document.accepts(0, ("Nichts {hier}",))


def test_a_file_without_sections_is_refused():
    with pytest.raises(InvalidDocument, match="no section"):
        ass.parse(b"Dialogue: 1,2,3\n")
