"""OpenDocument files: paragraphs, also those that stand within others, and cells."""

import pytest

from dragoman.documents import odf
from dragoman.documents.document import Document, Mark
from dragoman.errors import InvalidDocument
from tests.documents.packages import open_document, packed, unpacked

NOTE = (
    '<text:note text:id="n1"><text:note-citation>1</text:note-citation>'
    "<text:note-body><text:p>As we know.</text:p></text:note-body></text:note>"
)


def parsed(*paragraphs: str, **more: str) -> Document:
    return odf.parse(open_document("".join(f"<text:p>{one}</text:p>" for one in paragraphs), **more))


def content(data: bytes) -> str:
    return unpacked(data)["content.xml"].decode()


def texts(document: Document) -> list[str]:
    return [segment.text for segment in document.segments]


def test_a_note_is_a_mark_in_its_sentence_and_a_text_of_its_own():
    document = parsed(f"It left{NOTE} at six.")
    assert texts(document) == ["It left at six.", "As we know."]
    (mark,) = (part for part in document.segments[0].parts if isinstance(part, Mark))
    both = content(document.render([("Es fuhr um sechs", mark, " ab."), ("Wie man weiß.",)]))
    translated = NOTE.replace("As we know.", "Wie man weiß.")
    assert f"<text:p>Es fuhr um sechs{translated} ab.</text:p>" in both
    assert f"<text:p>It left{translated} at six.</text:p>" in content(
        document.render([None, ("Wie man weiß.",)])
    )
    assert f"Es fuhr um sechs{NOTE} ab." in content(
        document.render([("Es fuhr um sechs", mark, " ab."), None])
    )


def test_notes_in_frames_in_paragraphs_are_translated_where_they_stand():
    frame = f"<draw:frame><draw:text-box><text:p>Boxed{NOTE}</text:p></draw:text-box></draw:frame>"
    document = parsed(f"Around{frame} it")
    assert texts(document) == ["Around it", "Boxed", "As we know."]
    marks = [[part for part in s.parts if isinstance(part, Mark)] for s in document.segments]
    written = content(document.render([("Um", *marks[0], " sie"), ("Kasten", *marks[1]), ("So ist es.",)]))
    assert "<text:p>Um<draw:frame><draw:text-box><text:p>Kasten<text:note" in written
    assert "<text:p>So ist es.</text:p>" in written
    skipped = content(document.render([("Um", *marks[0], " sie"), None, ("So ist es.",)]))
    assert "<text:p>Boxed<text:note" in skipped
    assert "<text:p>So ist es.</text:p>" in skipped


def test_spans_and_links_are_pairs_and_blanks_are_as_they_are_seen():
    document = parsed(
        ' \n A <text:span text:style-name="T1">red</text:span>\n   lamp<text:s text:c="2"/>and<text:tab/>'
        '<text:a xlink:href="x">more</text:a>'
    )
    kinds = [part if isinstance(part, str) else part.kind for part in document.segments[0].parts]
    assert kinds == ["A ", "open", "red", "close", " lamp  and", "kept", "open", "more", "close"]
    assert document.accepts(0, document.segments[0].parts)


@pytest.mark.parametrize("words", [" before", "behind ", "two  blanks", "a < b & c"])
def test_all_blanks_come_back(words):
    document = parsed("Something")
    assert document.accepts(0, (words,))
    again = odf.parse(document.render([(words,)]))
    assert texts(again) == [words]


def test_spans_that_nobody_sees_are_no_marks():
    unseen = '<style:text-properties officeooo:rsid="0012"/>'
    styles = "".join(
        f'<style:style style:name="{name}" style:family="text">{properties}</style:style>'
        for name, properties in (("T1", unseen), ("T2", '<style:text-properties fo:font-weight="bold"/>'))
    )
    document = parsed(
        'One <text:span text:style-name="T1">and </text:span><text:span text:style-name="T2">two</text:span>',
        styles=styles,
    )
    assert [part if isinstance(part, str) else part.kind for part in document.segments[0].parts] == [
        "One and ", "open", "two", "close"
    ]  # fmt: skip


def test_deleted_text_stays():
    deleted = (
        "<text:tracked-changes><text:deletion><text:p>gone</text:p></text:deletion></text:tracked-changes>"
    )
    document = odf.parse(open_document(f"{deleted}<text:p>here</text:p>"))
    assert [(s.place, s.text) for s in document.segments] == [(2, "here")]


def test_of_cells_only_those_with_words_are_translated():
    def cell(text: str, about: str = 'office:value-type="string"') -> str:
        return f"<table:table-cell {about}><text:p>{text}</text:p></table:table-cell>"

    cells = [
        cell("A chair"),
        cell("twelve", 'office:value-type="float" office:value="12"'),
        cell("sold", 'table:formula="of:=IF([.A1]=&quot;Yes&quot;;1)" office:value-type="string"'),
        cell("yes"),
        cell("shown", 'office:value-type="string" office:string-value="meant"'),
    ]
    assert texts(odf.parse(open_document("".join(cells), "spreadsheet"))) == ["A chair"]


def test_a_package_without_changes_is_the_one_that_came():
    data = open_document("<text:p>One</text:p>")
    assert odf.parse(data).render([None]) == data
    changed = unpacked(odf.parse(data).render([("Eins",)]))
    assert list(changed) == list(unpacked(data))
    assert changed["Pictures/a.png"] == b"no picture"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: open_document("", manifest="<manifest:encryption-data/>"), "encrypted"),
        (lambda: packed({"mimetype": "application/epub+zip", "content.xml": "<a/>"}), "no OpenDocument"),
        (lambda: open_document("<text:p>"), "closes"),
    ],
)
def test_what_is_no_open_document_is_refused(make, message):
    with pytest.raises(InvalidDocument, match=message):
        odf.parse(make())
