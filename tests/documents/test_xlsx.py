"""Spreadsheets: cells with words are translated, and nothing that refers to them breaks."""

import pytest

from dragoman.documents import xlsx
from dragoman.documents.document import Document, Mark
from dragoman.errors import InvalidDocument
from tests.documents.packages import DRAWING, SHEET, packed, typed, unpacked, workbook


def strings(*texts: str) -> str:
    return "".join(f"<si><t>{text}</t></si>" for text in texts)


def row(*cells: str) -> str:
    return f'<row r="1">{"".join(cells)}</row>'


def texts(document: Document) -> list[str]:
    return [segment.text for segment in document.segments]


def test_cells_with_words_are_segments_that_say_where_they_are():
    cells = row(
        '<c r="A1" t="s"><v>1</v></c>', '<c r="B1"><v>12</v></c>', '<c t="s" r="C1" s="2"><v>0</v></c>'
    )
    document = xlsx.parse(workbook(strings("A chair", "A lamp", "12.5"), cells))
    assert [(s.place, s.name, s.text) for s in document.segments] == [
        (1, "Prices!C1", "A chair"),
        (2, "Prices!A1", "A lamp"),
    ]


def test_only_the_strings_are_rewritten():
    data = workbook(strings("A chair", "A lamp"), row('<c r="A1" t="s"><v>0</v></c>'))
    changed = unpacked(xlsx.parse(data).render([("Ein <Stuhl>",), None]))
    assert changed["xl/sharedStrings.xml"].decode() == (
        f'<sst {SHEET}><si><t xml:space="preserve">Ein &lt;Stuhl&gt;</t></si><si><t>A lamp</t></si></sst>'
    )
    assert {n: c for n, c in changed.items() if "shared" not in n} == {
        n: c for n, c in unpacked(data).items() if "shared" not in n
    }


def test_styles_in_a_cell_are_marks_and_how_it_is_read_aloud_goes():
    rich = "<si><r><t>A </t></r><r><rPr><b/></rPr><t>green</t></r><r><t> lamp</t></r><rPh><t>x</t></rPh></si>"
    document = xlsx.parse(workbook(rich, ""))
    (segment,) = document.segments
    assert [p if isinstance(p, str) else p.kind for p in segment.parts] == [
        "A ",
        "open",
        "green",
        "close",
        " lamp",
    ]
    pair = [part for part in segment.parts if isinstance(part, Mark)]
    written = unpacked(document.render([("Eine ", pair[0], "grüne", pair[1], " Lampe")]))
    assert "rPh" not in written["xl/sharedStrings.xml"].decode()
    assert "<r><rPr><b/></rPr>" in written["xl/sharedStrings.xml"].decode()


def test_formulas_and_what_they_had_computed_stay():
    cell = '<c r="A1" t="str"><f>"for "&amp;B1</f><v>for sale</v></c>'
    data = workbook(strings("A chair"), row(cell))
    assert texts(xlsx.parse(data)) == ["A chair"]
    assert cell.encode() in unpacked(xlsx.parse(data).render([("Ein Stuhl",)]))["xl/worksheets/sheet1.xml"]


@pytest.mark.parametrize(
    "formula",
    [
        '<c r="B1"><f>IF(A1="Yes",1,0)</f><v>1</v></c>',
        '<c r="B1"><f>COUNTIF(A:A,&quot;yes&quot;)</f><v>1</v></c>',
        '<dataValidation><formula1>"Yes, No"</formula1></dataValidation>',
        '<autoFilter><filterColumn><filters><filter val="Yes"/></filters></filterColumn></autoFilter>',
    ],
)
def test_what_formulas_and_filters_compare_with_stays(formula):
    assert texts(xlsx.parse(workbook(strings("Yes", "Yes please"), row(formula)))) == ["Yes please"]


def test_heads_of_tables_stay():
    table = '<table ref="A1:B2"><tableColumns><tableColumn id="1" name="Price"/></tableColumns></table>'
    more = {"xl/tables/table1.xml": ("spreadsheetml.table", table)}
    assert texts(xlsx.parse(workbook(strings("Price", "The price"), "", more))) == ["The price"]


def test_strings_in_cells_comments_and_text_boxes_are_segments():
    comments = "<comments><comment><text><r><t>Too dear</t></r></text></comment></comments>"
    box = f"<xdr:wsDr {DRAWING}><a:p><a:r><a:t>In a box</a:t></a:r></a:p></xdr:wsDr>"
    inline = row('<c r="A1" t="inlineStr"><is><t>A chair</t></is></c>')
    more = {
        "xl/comments1.xml": ("spreadsheetml.comments", comments),
        "xl/drawings/drawing1.xml": ("drawing", box),
    }
    document = xlsx.parse(workbook("", inline, more))
    assert [(s.name, s.text) for s in document.segments] == [
        ("Prices!A1", "A chair"), (None, "Too dear"), (None, "In a box")
    ]  # fmt: skip


def test_other_prefixes_are_read_too():
    data = workbook("", "")
    files = {name: content.decode() for name, content in unpacked(data).items()}
    files["xl/sharedStrings.xml"] = '<x:sst xmlns:x="s"><x:si><x:t>A chair</x:t></x:si></x:sst>'
    document = xlsx.parse(packed(files))
    assert texts(document) == ["A chair"]
    assert b"<x:t xml:space" in unpacked(document.render([("Ein Stuhl",)]))["xl/sharedStrings.xml"]


def test_characters_that_only_spreadsheets_escape_come_back():
    document = xlsx.parse(workbook(strings("one_x000D_\ntwo"), ""))
    assert texts(document) == ["one\r\ntwo"]
    assert document.accepts(0, ("eins\r\n_x0041_",))


def test_a_cell_that_would_be_too_long_is_not_accepted():
    document = xlsx.parse(workbook(strings("A chair"), ""))
    assert document.accepts(0, ("x" * 32_767,))
    assert not document.accepts(0, ("x" * 32_768,))


def test_other_packages_are_refused():
    with pytest.raises(InvalidDocument, match="no workbook"):
        xlsx.parse(packed({"[Content_Types].xml": typed({})}))
