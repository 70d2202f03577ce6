"""Subtitles: times stay, sentences run over cues."""

import pytest

from dragoman.documents import subtitles
from dragoman.documents.document import Mark
from dragoman.errors import InvalidDocument, InvalidOption

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


@pytest.mark.parametrize("longest", [8, 12, 20, 42])
def test_no_line_is_longer_than_is_allowed(longest):
    document = subtitles.parse(TWO.encode(), max_line=longest)
    translation = ("Als es wieder hell wurde, weil die Sonne schien,", Mark(BREAK), " gingen wir alle los.")
    written = document.render([translation]).decode()
    lines = [line for line in written.splitlines() if line and line[0].isalpha()]
    assert max(map(len, lines)) <= longest
    assert " ".join(lines) == "Als es wieder hell wurde, weil die Sonne schien, gingen wir alle los."
    assert document.accepts(0, translation)


def test_a_word_that_is_longer_than_a_line_stays_whole():
    document = subtitles.parse(TWO.encode(), max_line=4)
    written = document.render([("Am Donaudampfschiff", Mark(BREAK), " los.")]).decode()
    assert "Am\nDonaudampfschiff\n" in written


def test_lines_are_of_about_the_same_length():
    document = subtitles.parse(TWO.encode())
    written = document.render([("a " * 30, Mark(BREAK), " los.")]).decode()
    first, second = written.splitlines()[2:4]
    assert (first, second) == (" ".join("a" * 15), " ".join("a" * 15))


def test_the_time_that_a_very_long_cue_takes_grows_with_its_words():
    words = "word " * 50_000
    document = subtitles.parse(f"1\n00:00:01,000 --> 00:00:02,000\n{words}\n{words}\n".encode(), max_line=40)
    assert document.accepts(0, (words.upper(),))


def test_no_line_can_have_less_than_a_character():
    with pytest.raises(InvalidOption, match="can't be"):
        subtitles.parse(TWO.encode(), max_line=0)
