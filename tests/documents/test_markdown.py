"""Markdown: what is a segment, and what is written so that it is read as meant."""

import pytest

from dragoman.documents import markdown
from dragoman.documents.document import Mark, Parts
from dragoman.errors import InvalidDocument


def parts(text: str) -> list[Parts]:
    return [segment.parts for segment in markdown.parse(text.encode()).segments]


def sources(text: str) -> list[str]:
    """Each segment as it could be written on one line."""
    return ["".join(p if isinstance(p, str) else p.source for p in one) for one in parts(text)]


def rendered(text: str, *translations: str) -> str:
    return markdown.parse(text.encode()).render([(one,) for one in translations]).decode()


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("# One\n\nTwo *three*.\n", ["One", "Two *three*."]),
        ("Title\n=====\n\n> quoted\n> on\n", ["Title", "quoted on"]),
        ("- one\n  goes on\n- two\n", ["one goes on", "two"]),
        ("| a | b \\| c |\n|---|---|\n| d | `e\\|f` g |\n", ["a", "b | c", "d", "`e|f` g"]),
        ("```\ncode\n```\n\n    more code\n\ntext\n", ["text"]),
        ("---\ntitle: x\n---\n\ntext\n", ["text"]),
        ("<!-- note -->\n\ntext\n\n***\n", ["text"]),
        ("[a]: http://b.c\n\n::: warning\ntext\n", []),
        ("See [the guide].\n\n[the guide]: http://b.c\n", ["See [the guide][the guide]."]),
        ("a\r\nb\r\n", ["a b"]),
        ("- [x] done\n- all [ ] of\n  [ ] it\n", ["[x] done", "all [ ] of [ ] it"]),
        ("<p align=center>\n  A <b>centred</b> line\n</p>\n\nB\n", ["A <b>centred</b> line", "B"]),
    ],
)
def test_segments(text, segments):
    assert sources(text) == segments


def test_code_links_and_footnotes_are_marks():
    (found,) = parts('Run `make` for [the *docs*](x.md "T")[^1] and <http://a.b>.')
    assert found == (
        "Run ",
        Mark("`make`", reads="make"),
        " for ",
        Mark("[", "open", 1),
        "the ",
        Mark("*", "open", 2),
        "docs",
        Mark("*", "close", 2),
        Mark('](x.md "T")', "close", 1),
        Mark("[^1]"),
        " and ",
        Mark("<http://a.b>", reads="http://a.b"),
        ".",
    )


def test_a_hard_break_keeps_what_begins_its_next_line():
    text = "> one  \n> two\n> three\\\n> four\n"
    document = markdown.parse(text.encode())
    (segment,) = document.segments
    upper = tuple(p if isinstance(p, Mark) else p.upper() for p in segment.parts)
    assert document.accepts(0, upper)
    assert document.render([upper]).decode() == "> ONE  \n> TWO THREE\\\n> FOUR\n"


@pytest.mark.parametrize("words", ["1. Mai", "- nein", "# Nummer", "> mehr", "+ plus", "2) zwei", "| Strich"])
def test_words_never_begin_a_block(words):
    text = rendered("One\n\nTwo\n", words, "Zwei")
    assert sources(text) == [words, "Zwei"]
    assert text.endswith("\n\nZwei\n")


@pytest.mark.parametrize(
    "words", ["a * 3 * 4", "a*b*c", "`x", "[a](b)", "x <b> y", "a_b_ _c_", "AT&amp;T", "a\\*"]
)
def test_words_are_escaped_where_they_would_be_markup(words):
    assert parts(rendered("One\n", words)) == [(words,)]


def test_words_are_not_escaped_without_need():
    assert rendered("One\n", "a * b, c_d & e < f [g]") == "a * b, c_d & e < f [g]\n"


def test_a_pipe_in_a_cell_is_escaped():
    assert rendered("| a |\n|---|\n| b |\n", "A|B", "C") == "| A\\|B |\n|---|\n| C |\n"


def test_emphasis_that_would_not_be_read_as_such_is_not_accepted():
    document = markdown.parse(b"One **two** three")
    opening, closing = Mark("**", "open", 1), Mark("**", "close", 1)
    assert document.accepts(0, ("Eins ", opening, "zwei", closing, " drei"))
    assert not document.accepts(0, ("Eins ", opening, " zwei ", closing, " drei"))


@pytest.mark.parametrize(
    "text", [">" * 100_000 + "a", "[" * 50_000, "*a " * 30_000, "- " * 5_000 + "x", "`" * 50_000]
)
def test_hostile_nesting_ends_soon(text):
    try:
        document = markdown.parse(text.encode())
    except InvalidDocument:
        return
    assert document.render([None] * len(document.segments)) == text.encode()
