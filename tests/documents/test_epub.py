"""Books: their pages in the order in which they are read, and what is said about them."""

import io
import zipfile

import pytest

from dragoman.documents import epub
from dragoman.errors import InvalidDocument
from tests.documents.packages import book, packed, unpacked

PAGE = (
    '<html xmlns="http://www.w3.org/1999/xhtml" lang="en"><head><title/><script src="a.js"/></head>'
    "<body><p>{}</p></body></html>"
)
LOCKED = '<encryption><CipherReference URI="OEBPS/a.xhtml"/></encryption>'


def test_pages_and_what_is_said_of_the_book_are_segments():
    data = book(
        {"b.xhtml": PAGE.format("Second"), "a.xhtml": PAGE.format("Third")}, "<dc:title>First</dc:title>"
    )
    document = epub.parse(data)
    assert [(s.place, s.name, s.text) for s in document.segments] == [
        (1, "OEBPS/book.opf", "First"), (2, "OEBPS/b.xhtml", "Second"), (3, "OEBPS/a.xhtml", "Third")
    ]  # fmt: skip


def test_the_language_is_set_and_pages_stay_well_formed():
    document = epub.parse(book({"a.xhtml": PAGE.format("One")}))
    made = unpacked(document.render([("Ein\xa0& alles",)], "de"))
    assert b"<dc:language>de</dc:language>" in made["OEBPS/book.opf"]
    assert made["OEBPS/a.xhtml"].decode() == PAGE.replace('"en"', '"de"').format("Ein&#160;&amp; alles")


def test_the_first_entry_says_what_the_file_is_uncompressed():
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in unpacked(book({"a.xhtml": PAGE.format("One")})).items():
            kind = zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED
            archive.writestr(zipfile.ZipInfo(name), content, kind)
    made = epub.parse(target.getvalue()).render([("Eins",)])
    assert made[30:58] == b"mimetypeapplication/epub+zip"


def test_tables_of_contents_are_translated():
    contents = (
        "<ncx><navMap><navPoint><navLabel><text>One &amp; all</text></navLabel></navPoint></navMap></ncx>"
    )
    item = '<item id="c" href="toc.ncx" media-type="application/x-dtbncx+xml"/>'
    files = {name: content.decode() for name, content in unpacked(book({})).items()}
    files["OEBPS/toc.ncx"] = contents
    files["OEBPS/book.opf"] = files["OEBPS/book.opf"].replace("<manifest>", f"<manifest>{item}")
    document = epub.parse(packed(files))
    assert [s.text for s in document.segments] == ["One & all"]
    assert b"<text>Alles</text>" in unpacked(document.render([("Alles",)]))["OEBPS/toc.ncx"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: packed({"mimetype": "application/epub+zip"}), "no book"),
        (lambda: packed({"mimetype": "text/plain", "META-INF/container.xml": "<a/>"}), "no book"),
        (lambda: packed({"META-INF/container.xml": "<container/>"}), "doesn't say which"),
        (
            lambda: book(
                {"a.xhtml": PAGE.format("One")},
                more={"META-INF/encryption.xml": LOCKED},
            ),
            "protected against copying",
        ),
    ],
)
def test_what_is_no_readable_book_is_refused(make, message):
    with pytest.raises(InvalidDocument, match=message):
        epub.parse(make())
