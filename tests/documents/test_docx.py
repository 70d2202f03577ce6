"""Word documents: runs are merged, styles and links are marks, and nothing else is touched."""

import io
import zipfile

import pytest

from dragoman.documents import docx
from dragoman.documents.document import Document, Mark, Parts
from dragoman.errors import InvalidDocument
from tests.documents.packages import TYPES, packed, paragraph, run, unpacked, word

BOLD = "<w:b/>"
BOLD_MARK = Mark("style:<w:rPr><w:b/></w:rPr>", "open", 1), Mark("style:", "close", 1)


def parsed(*paragraphs: str) -> Document:
    return docx.parse(word("".join(paragraphs), ""))


def body(document: Document, *translations: Parts | None) -> str:
    text = unpacked(document.render(translations))["word/document.xml"].decode()
    return text.partition("<w:body>")[2].partition("</w:body>")[0]


def test_runs_of_one_style_are_one_text():
    split = (
        run("Hel"),
        "<w:proofErr w:type='x'/>",
        run("lo ", "<w:lang w:val='en-US'/>"),
        run("you", BOLD),
        run("!"),
    )
    (segment,) = parsed(paragraph(*split)).segments
    assert segment.text == "Hello you!"
    assert [part.source if isinstance(part, Mark) else part for part in segment.parts] == [
        "Hello ", "style:<w:rPr><w:b/></w:rPr>", "you", "style:", "!"
    ]  # fmt: skip


def test_the_style_of_most_words_is_no_mark():
    document = parsed(paragraph(run("All of it bold", BOLD)))
    assert document.segments[0].parts == ("All of it bold",)
    assert '<w:r><w:rPr><w:b/></w:rPr><w:t xml:space="preserve">Fett &lt;b&gt;</w:t></w:r>' in body(
        document, ("Fett <b>",)
    )


def test_only_the_runs_of_a_paragraph_are_rewritten():
    data = word(paragraph(run("One"), run("two", BOLD)) + paragraph(run("Three")))
    document = docx.parse(data)
    assert [segment.text for segment in document.segments] == ["Onetwo", "Three", "Page head"]
    assert [segment.place for segment in document.segments] == [1, 2, 3]
    changed = unpacked(document.render([None, ("Drei",), None]))
    for name, content in unpacked(data).items():
        if name != "word/document.xml":
            assert changed[name] == content
    before, after = unpacked(data)["word/document.xml"].decode(), changed["word/document.xml"].decode()
    assert after == before.replace(run("Three"), '<w:r><w:t xml:space="preserve">Drei</w:t></w:r>')


def test_order_dates_and_compression_of_the_package_stay():
    data = word(paragraph(run("One")))
    made = docx.parse(data).render([("Eins",), None])
    facts = [
        [(i.filename, i.date_time, i.compress_type) for i in zipfile.ZipFile(io.BytesIO(one)).infolist()]
        for one in (data, made)
    ]
    assert facts[0] == facts[1]


def test_links_notes_tabs_and_breaks_are_marks():
    note = '<w:r><w:rPr><w:rStyle w:val="N"/></w:rPr><w:footnoteReference w:id="2"/></w:r>'
    link = f'<w:hyperlink r:id="rId5">{run("here", BOLD)}</w:hyperlink>'
    document = parsed(paragraph(run("See "), link, note, "<w:r><w:br/><w:t>then</w:t><w:tab/></w:r>"))
    (segment,) = document.segments
    kinds = [part if isinstance(part, str) else (part.kind, part.reads) for part in segment.parts]
    assert kinds == [
        "See ", ("open", ""), ("open", ""), "here", ("close", ""), ("close", ""), ("kept", ""),
        ("kept", "\n"), "then", ("kept", "\t"),
    ]  # fmt: skip
    assert document.accepts(0, segment.parts)
    swapped = (*segment.parts[1:6], " siehe ", *segment.parts[6:8], "dann", segment.parts[9])
    assert document.accepts(0, swapped)
    assert body(document, swapped).index("rId5") < body(document, swapped).index("siehe")


def test_a_field_is_a_pair_around_what_it_shows():
    def sign(kind: str) -> str:
        return f'<w:r><w:fldChar w:fldCharType="{kind}"/></w:r>'

    code = sign("begin"), '<w:r><w:instrText>HYPERLINK "x"</w:instrText></w:r>', sign("separate")
    document = parsed(
        paragraph(run("See "), *code, run("the link"), sign("end"), run(" and "), sign("begin"), sign("end"))
    )
    (segment,) = document.segments
    assert segment.text == "See the link and "
    assert [p.kind for p in segment.parts if isinstance(p, Mark)] == ["open", "close", "kept"]
    assert document.accepts(0, segment.parts)


def test_deleted_text_is_kept_and_inserted_text_translated():
    deleted = "<w:del w:id='1'><w:r><w:delText>gone</w:delText></w:r></w:del>"
    document = parsed(paragraph(deleted, f"<w:ins w:id='2'>{run('new')}</w:ins>"))
    assert document.segments[0].text == "new"
    assert deleted in body(
        document, tuple(p if isinstance(p, Mark) else "neu" for p in document.segments[0].parts)
    )


def test_a_text_box_is_a_paragraph_of_its_own():
    box = f"<w:r><w:pict><w:txbxContent>{paragraph(run('inside'))}</w:txbxContent></w:pict></w:r>"
    document = parsed(paragraph(run("before"), box, run("after")))
    assert sorted(segment.text for segment in document.segments) == ["after", "before", "inside"]
    written = body(document, *[(segment.text.upper(),) for segment in document.segments])
    assert written.index("BEFORE") < written.index("INSIDE") < written.index("AFTER")


def zip_with(name: str, content: bytes = b"") -> bytes:
    target = io.BytesIO(word(paragraph(run("x"))))
    with zipfile.ZipFile(target, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return target.getvalue()


def with_document(content: str) -> bytes:
    return packed({"[Content_Types].xml": TYPES, "word/document.xml": content, "word/header1.xml": "<a/>"})


def encrypted() -> bytes:
    data = bytearray(word(paragraph(run("x"))))
    at = data.index(b"PK\x01\x02")
    while at >= 0:
        data[at + 8] |= 1
        at = data.find(b"PK\x01\x02", at + 4)
    return bytes(data)


def bomb() -> bytes:
    """40 MB of one letter in 40 KB."""
    return word(paragraph(run("x" * 40_000_000)))


def lying() -> bytes:
    """The same, with a size of a hundred bytes in its directory."""
    data = bomb()
    at = data.index(b"word/document.xml", data.index(b"PK\x01\x02")) - 46
    assert data[at : at + 4] == b"PK\x01\x02"
    return data[: at + 24] + (100).to_bytes(4, "little") + data[at + 28 :]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: b"PK\x03\x04 broken", "no package"),
        (lambda: word(paragraph(run("x")))[:-30], "no package"),
        (lambda: b"\xd0\xcf\x11\xe0" + bytes(600), "it is encrypted"),
        (lambda: zip_with("../evil"), "outside"),
        (lambda: zip_with("/evil"), "outside"),
        (lambda: zip_with("word/document.xml"), "two files of one name"),
        (encrypted, "encrypted; save it without a password"),
        (bomb, "too large"),
        (lying, "can't be read|too large"),
        (lambda: packed({"x": "y"}), "has no"),
        (lambda: packed({"[Content_Types].xml": "<Types/>"}), "no Word document"),
        (lambda: with_document("<w:p>"), "ends within <w:p>"),
        (lambda: with_document('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'), "DTD"),
        (lambda: with_document("<w:p>" * 600), "deeper"),
    ],
)  # fmt: skip
def test_hostile_packages_are_refused(make, message):
    with pytest.raises(InvalidDocument, match=message):
        docx.parse(make())


def test_control_characters_are_refused():
    with pytest.raises(InvalidDocument, match="control character"):
        parsed(paragraph(run("x"))).render([("a\x01",)])
