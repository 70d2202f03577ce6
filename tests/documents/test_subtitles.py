"""Subtitles: times stay, sentences run over cues."""

import pytest

from dragoman.documents import subtitles
from dragoman.documents.document import Mark
from dragoman.errors import InvalidDocument

BREAK = "\n\n2\n00:00:03,000 --> 00:00:04,000\n"
TWO = f"1\n00:00:01,000 --> 00:00:02,000\nWhen the light came\nup again,{BREAK}we left.\n"


def test_a_sentence_over_two_cues_is_one_segment():
    document = subtitles.parse(TWO.encode())
    (segment,) = document.segments
    assert segment.parts == ("When the light came up again, ", Mark(BREAK), "we left.")
    translation = ("Als es wieder hell wurde,", Mark(BREAK), " gingen wir los.")
    assert document.accepts(0, translation)
    assert document.render([translation]).decode() == (
        "1\n00:00:01,000 --> 00:00:02,000\nAls es wieder hell wurde,\n\n2\n"
        "00:00:03,000 --> 00:00:04,000\ngingen wir los.\n"
    )


def test_a_cue_that_would_be_empty_is_not_accepted():
    document = subtitles.parse(TWO.encode())
    assert not document.accepts(0, ("Alles davor", Mark(BREAK), " "))
    assert not document.accepts(0, (Mark(BREAK), "alles danach"))


@pytest.mark.parametrize("second", ["- we left.", "We left.", "♪ la la", "[door]"])
def test_other_cues_stand_alone(second):
    assert len(subtitles.parse(TWO.replace("we left.", second).encode()).segments) == 2


def test_lines_are_balanced_and_no_more_than_before():
    document = subtitles.parse(TWO.partition("\n\n2")[0].encode())
    written = document.render([("eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf",)]).decode()
    lines = written.split("\n")[2:]
    assert len(lines) == 2
    assert abs(len(lines[0]) - len(lines[1])) < 6
    assert document.render([("kurz",)]).decode().endswith("000\nkurz")


def test_vtt_escapes_what_would_be_a_tag():
    document = subtitles.parse(b"WEBVTT\n\n00:01.000 --> 00:02.000\nR&amp;D <i>a</i>\n")
    assert document.segments[0].text == "R&D a"
    parts = ("A < B & ", Mark("<i>", "open", 1), "c", Mark("</i>", "close", 1))
    assert document.accepts(0, parts)
    assert document.render([parts]).decode().endswith("A &lt; B &amp; <i>c</i>\n")


def test_windows_line_ends_stay():
    data = TWO.replace("\n", "\r\n").encode()
    document = subtitles.parse(data)
    (segment,) = document.segments
    assert document.render([None]) == data
    assert b"\n" not in document.render([segment.parts[:1] + segment.parts[1:2] + ("x " * 50,)]).replace(
        b"\r\n", b""
    )


@pytest.mark.parametrize("text", ["no cue", "1\n2\n", "00:00 -> 00:01\nx"])
def test_what_has_no_cue_is_refused(text):
    with pytest.raises(InvalidDocument, match="no cue"):
        subtitles.parse(text.encode())
