"""Tables of text."""

import csv
import io

import pytest

from dragoman.documents import table
from dragoman.errors import InvalidDocument, InvalidOption

TEXT = 'id,title,text\n1,A house,"x, ""y"""\n2,Two,\n'


def cells(text: str, columns: list[str] | None = None) -> list[tuple[str | None, str, int]]:
    return [(one.name, one.text, one.place) for one in table.parse(text.encode(), columns).segments]


def test_columns_are_chosen_by_name_or_number_and_the_head_stays():
    assert cells(TEXT, ["text", "2"]) == [("title", "A house", 2), ("text", 'x, "y"', 2), ("title", "Two", 3)]
    assert [text for _, text, _ in cells(TEXT)] == ["id", "title", "text", "A house", 'x, "y"', "Two"]
    with pytest.raises(InvalidOption, match="no column 'name'; it has id, title, text"):
        cells(TEXT, ["name"])


@pytest.mark.parametrize("words", ["a,b", 'say "x"', "two\nlines", '"x"', "x"])
def test_cells_are_quoted_where_they_have_to_be(words):
    document = table.parse(TEXT.encode(), ["title"])
    assert document.accepts(0, (words,))
    rows = list(csv.reader(io.StringIO(document.render([(words,), None]).decode(), newline="")))
    assert rows == [["id", "title", "text"], ["1", words, 'x, "y"'], ["2", "Two", ""]]


def test_cells_never_become_formulas():
    document = table.parse(b"a,=B1,+x,-y,@z,- point\n")
    assert [segment.text for segment in document.segments] == ["a", "- point"]
    for words in ("=a", "+a", "-a", "@a", "\ta"):
        assert not document.accepts(0, (words,))
    assert document.accepts(1, ("- Punkt",))


@pytest.mark.parametrize(
    ("text", "found"), [("a;b;c,d\n", ["a", "b", "c,d"]), ("a\tb\n", ["a", "b"]), ("a|b", ["a", "b"])]
)
def test_the_separator_is_found(text, found):
    assert [cell for _, cell, _ in cells(text)] == found


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r", ""])
def test_line_ends_stay(ending):
    data = f"a,b{ending}".encode()
    document = table.parse(data)
    assert document.render([("x",), ("y",)]) == f"x,y{ending}".encode()


def test_a_quotation_mark_that_never_closes_is_refused():
    with pytest.raises(InvalidDocument, match="line 2 has a quotation mark"):
        table.parse(b'a,b\n"c,d\ne,f\n')


def test_many_rows_and_many_quotation_marks_end_soon():
    assert len(table.parse(b"a,b\n" * 50_000).segments) == 100_000
    assert table.parse(b'""' * 200_000 + b"\n").segments == []
