"""Plain text: paragraphs that were wrapped by hand, and lines that were not."""

import pytest

from dragoman.documents import text

WRAPPED = (
    "We left the village early in the morning, when the\nlight was still grey, and nobody saw us go away.\n"
)


def texts(source: str) -> list[str]:
    return [segment.text for segment in text.parse(source.encode()).segments]


@pytest.mark.parametrize(
    ("source", "segments"),
    [
        (WRAPPED, [" ".join(WRAPPED.split())]),
        ("Roses are red,\nviolets are blue.\n", ["Roses are red,", "violets are blue."]),
        ("one\n\n  two  \n", ["one", "two"]),
        (WRAPPED + "- point\n", [" ".join(WRAPPED.split()), "- point"]),
        ("The first sentence stands alone on its line here.\nAnd this is the second one.\n" * 1,
         ["The first sentence stands alone on its line here.", "And this is the second one."]),
        ("a\fb\vc", ["a", "b", "c"]),
    ],
)  # fmt: skip
def test_segments(source, segments):
    assert texts(source) == segments


def test_a_wrapped_paragraph_is_wrapped_at_its_width():
    document = text.parse(("  " + WRAPPED.replace("\n", "\n  ").rstrip(" ")).encode())
    lines = document.render([("wort " * 40,)]).decode().split("\n")
    assert lines.pop() == ""
    assert len(lines) > 3
    assert all(line.startswith("  wort") and len(line) <= 54 for line in lines)


def test_utf16_stays_utf16():
    data = "Grüße\r\n".encode("utf-16")
    document = text.parse(data)
    assert document.render([("Ciao",)]) == data[:2] + "Ciao\r\n".encode("utf-16-le")
