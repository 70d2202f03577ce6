"""HTML as people write it."""

import pytest

from dragoman.documents import html
from dragoman.documents.document import Mark, Parts


def parts(text: str) -> list[Parts]:
    return [segment.parts for segment in html.parse(text.encode()).segments]


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("<p>One<p>Two", ["One", "Two"]),
        ("a<br>b", ["a\nb"]),
        ("<p>a <b>b</b>\n  c</p>", ["a b c"]),
        ("<script>a('<p>x</p>')</script><STYLE>p{}</style>y", ["y"]),
        ("<!-- <p>x</p> -->y<!DOCTYPE z><?php echo 'w' ?>", ["y"]),
        ("<pre>x</pre><svg><a>x</a></svg><div translate=no>x<p>x</p></div>y", ["y"]),
        ("<textarea>x</textarea><title>a &lt; b</title>", ["a < b"]),
        ("x <code>y z</code> w", ["x y z w"]),
        ('<img alt="A cat" src="x">', ["A cat"]),
        ('<a title="T &quot;q&quot;" href=x>y</a>', ["y", 'T "q"']),
        ("a <b title=\"x>y\">c</b>", ["a c", "x>y"]),
        ("<p>1 < 2 <3</p>", []),
        ("<p>a < b <3 c</p>", ["a < b <3 c"]),
        ("text <b", ["text "]),
    ],
)  # fmt: skip
def test_segments(text, segments):
    assert [segment.text for segment in html.parse(text.encode()).segments] == segments


def test_an_attribute_within_a_text_is_translated_with_it_and_without_it():
    document = html.parse(b'<p>See <a title="Guide" href="x">here</a></p>')
    opening = Mark('<a title="Guide" href="x">', "open", 1)
    outer = ("Siehe ", opening, "hier", Mark("</a>", "close", 1))
    assert document.render([outer, ("Anleitung",)]) == b'<p>Siehe <a title="Anleitung" href="x">hier</a></p>'
    assert document.render([outer, None]) == b'<p>Siehe <a title="Guide" href="x">hier</a></p>'
    assert document.render([None, ('A "B"',)]) == b'<p>See <a title="A &quot;B&quot;" href="x">here</a></p>'


def test_words_never_become_markup():
    document = html.parse(b"<p>x</p>")
    assert document.render([("<script>alert(1)</script> & more",)]) == (
        b"<p>&lt;script&gt;alert(1)&lt;/script&gt; &amp; more</p>"
    )


def test_a_page_keeps_its_encoding_and_names_its_new_language():
    data = '<html lang="en"><meta charset="iso-8859-1"><p>café</p>'.encode("latin-1")
    document = html.parse(data)
    assert document.segments[0].text == "café"
    wanted = '<html lang="pl"><meta charset="iso-8859-1"><p>é za&#380;</p>'
    assert document.render([("é zaż",)], "pl") == wanted.encode("latin-1")


@pytest.mark.parametrize(
    "text",
    [
        "<a ",
        "<a b='",
        "<!--",
        "<b>",
        "</b>",
        "<code>",
        "<div translate=no>",
        "<svg>",
        "<",
        "&amp",
        "<p title='a'>",
    ],
)
def test_hostile_markup_ends_soon(text):
    data = (text * 30_000).encode()
    document = html.parse(data)
    assert document.render([None] * len(document.segments)) == data
