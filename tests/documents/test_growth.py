"""The work that a document takes grows with its size: counted in calls, as times differ from day to day."""

import sys

import pytest

from dragoman import documents
from dragoman.documents.document import Parts
from tests.documents.packages import open_document, paragraph, run, slides, word, workbook

LINK = '<p>Some <a href="#">words</a> and <b>more</b>.</p>\n<table><tr><td title="Two">2</td></tr></table>'
CUE = "1\n00:00:01,000 --> 00:00:02,000\nwords that go\non and on,\n\n"
MAKE = {
    "docx": lambda n: word(paragraph(run("One "), run("two", "<w:b/>"), run(" three")) * n),
    "pptx": lambda n: slides("<a:p><a:r><a:t>One</a:t></a:r></a:p>" * n),
    "xlsx": lambda n: workbook("<si><t>One</t></si>" * n, '<c r="A1" t="s"><v>0</v></c>' * n),
    "odf": lambda n: open_document('<text:p>One <text:span text:style-name="T">two</text:span></text:p>' * n),
    "html": lambda n: (LINK * n).encode(),
    "markdown": lambda n: ("One *two* [three](x).\n\n- four\n\n" * n).encode(),
    "csv": lambda n: ('One,"two, three",4\n' * n).encode(),
    "json": lambda n: ("[" + '{"a": "One"},' * n + '"two"]').encode(),
    "yaml": lambda n: ("- a: One\n  b: 'two'\n" * n).encode(),
    "po": lambda n: ('msgid "One"\nmsgstr ""\n\n' * n).encode(),
    "srt": lambda n: (CUE * n).encode(),
}
# Everything in one sentence, or around one.
DEEP = {
    "html": lambda n: ("<p>" + "some <b>bold</b> and <i>more</i> " * n + "</p>").encode(),
    "html within": lambda n: ("<p>" + '<img alt="One" src="x"> and ' * n + "</p>").encode(),
    "html unclosed": lambda n: ("<p>" + "<b>x" * n + "</i>" * n).encode(),
    "docx": lambda n: word(paragraph((run("One "), run("two", "<w:b/>"))[0] * n)),
    "odf": lambda n: open_document(
        f"<text:p>{'One <text:note><text:p>two</text:p></text:note>' * n}</text:p>"
    ),
    "srt": lambda n: f"1\n00:00:01,000 --> 00:00:02,000\n{'word ' * n}\n{'word ' * n}\n".encode(),
    "text": lambda n: ("word " * 15 + "\n").encode() * n,
}


def upper(parts: Parts) -> Parts:
    return tuple(part.upper() if isinstance(part, str) else part for part in parts)


def calls(data: bytes, format: str) -> int:
    """How many functions are called to read a document, to check all segments, and to write others."""
    count = 0

    def called(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        document = documents.parse(data, format)
        other = [upper(segment.parts) for segment in document.segments]
        fits = [document.accepts(number, parts) for number, parts in enumerate(other)]
        document.render([parts if fit else None for parts, fit in zip(other, fits, strict=True)], "de")
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("format", MAKE)
def test_ten_times_the_segments_take_ten_times_the_work(format):
    make = MAKE[format]
    calls(make(2), format)  # what is done once
    assert calls(make(400), format) < 11 * calls(make(40), format)


@pytest.mark.parametrize("kind", DEEP)
def test_ten_times_the_words_of_a_sentence_take_ten_times_the_work(kind):
    make, format = DEEP[kind], kind.split()[0]
    calls(make(2), format)
    assert calls(make(400), format) < 11 * calls(make(40), format)
