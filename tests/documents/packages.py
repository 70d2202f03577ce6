"""Word documents made for tests."""

import io
import zipfile

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml"
TYPES = (
    f'{HEAD}<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="xml" ContentType="application/xml"/>'
    f'<Override PartName="/word/document.xml" ContentType="{TYPE}.document.main+xml"/>'
    f'<Override PartName="/word/header1.xml" ContentType="{TYPE}.header+xml"/></Types>'
)
RELS = (
    f'{HEAD}<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="r1" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" '
    'Target="word/document.xml"/></Relationships>'
)


def word(body: str, header: str = "<w:p><w:r><w:t>Page head</w:t></w:r></w:p>") -> bytes:
    """A .docx with this content."""
    document = f"{HEAD}<w:document {W}><w:body>{body}</w:body></w:document>"
    return packed(
        {
            "[Content_Types].xml": TYPES,
            "_rels/.rels": RELS,
            "word/document.xml": document,
            "word/header1.xml": f"{HEAD}<w:hdr {W}>{header}</w:hdr>",
            "word/media/image1.png": "\x89PNG nothing to see",
        }
    )


def packed(files: dict[str, str]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 2, 3, 4, 6)), content, zipfile.ZIP_DEFLATED)
    return target.getvalue()


def unpacked(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def run(text: str, style: str = "") -> str:
    properties = f"<w:rPr>{style}</w:rPr>" if style else ""
    return f'<w:r w:rsidR="00A1">{properties}<w:t xml:space="preserve">{text}</w:t></w:r>'


def paragraph(*runs: str) -> str:
    return f'<w:p w:rsidP="00B2"><w:pPr><w:pStyle w:val="Text"/></w:pPr>{"".join(runs)}</w:p>'


SHEET = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
RELATIONS = 'xmlns="http://schemas.openxmlformats.org/package/2006/relationships"'
TO = 'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
TYPE_BASE = "application/vnd.openxmlformats-officedocument."


def typed(kinds: dict[str, str]) -> str:
    """The [Content_Types].xml of a package with files of these kinds."""
    files = "".join(
        f'<Override PartName="/{name}" ContentType="{TYPE_BASE}{kind}+xml"/>' for name, kind in kinds.items()
    )
    return f"{HEAD}<Types>{files}</Types>"


def related(targets: dict[str, str]) -> str:
    """A file of relations with these targets by their ids."""
    each = "".join(f'<Relationship Id="{id}" Target="{target}"/>' for id, target in targets.items())
    return f"{HEAD}<Relationships {RELATIONS}>{each}</Relationships>"


def workbook(strings: str, rows: str, more: dict[str, tuple[str, str]] | None = None) -> bytes:
    """A .xlsx with these shared strings and rows of one sheet; more: other files' kinds and contents."""
    kinds = {
        "xl/workbook.xml": "spreadsheetml.sheet.main",
        "xl/sharedStrings.xml": "spreadsheetml.sharedStrings",
    }
    files = {
        "xl/workbook.xml": f'<workbook {TO}><sheets><sheet name="Prices" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": related({"r1": "worksheets/sheet1.xml"}),
        "xl/worksheets/sheet1.xml": f"<worksheet {SHEET}><sheetData>{rows}</sheetData></worksheet>",
        "xl/sharedStrings.xml": f"<sst {SHEET}>{strings}</sst>",
    }
    for name, (kind, content) in (more or {}).items():
        kinds[name], files[name] = kind, content
    return packed({"[Content_Types].xml": typed(kinds)} | files)


DRAWING = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'


def slides(*bodies: str, notes: str = "") -> bytes:
    """A .pptx with these slides, shown last first; notes: of the first one."""
    kinds = {"ppt/presentation.xml": "presentationml.presentation.main"}
    ids = "".join(f'<p:sldId id="{n}" r:id="r{n}"/>' for n in range(len(bodies), 0, -1))
    files = {
        "ppt/presentation.xml": f"<p:presentation {TO}><p:sldIdLst>{ids}</p:sldIdLst></p:presentation>",
        "ppt/_rels/presentation.xml.rels": related(
            {f"r{n}": f"slides/slide{n}.xml" for n in range(1, len(bodies) + 1)}
        ),
    }
    for number, body in enumerate(bodies, 1):
        kinds[f"ppt/slides/slide{number}.xml"] = "presentationml.slide"
        files[f"ppt/slides/slide{number}.xml"] = f'<p:sld xmlns:p="p" {DRAWING}>{body}</p:sld>'
    if notes:
        kinds["ppt/notesSlides/notesSlide1.xml"] = "presentationml.notesSlide"
        files["ppt/notesSlides/notesSlide1.xml"] = f'<p:notes xmlns:p="p" {DRAWING}>{notes}</p:notes>'
        files["ppt/slides/_rels/slide1.xml.rels"] = related({"r1": "../notesSlides/notesSlide1.xml"})
    return packed({"[Content_Types].xml": typed(kinds)} | files)


def open_document(body: str, kind: str = "text", styles: str = "", manifest: str = "<manifest/>") -> bytes:
    """A .odt, or an OpenDocument file of another kind."""
    content = (
        f"{HEAD}<office:document-content>{styles}<office:body>{body}</office:body></office:document-content>"
    )
    return packed(
        {
            "mimetype": f"application/vnd.oasis.opendocument.{kind}",
            "content.xml": content,
            "META-INF/manifest.xml": manifest,
            "Pictures/a.png": "no picture",
        }
    )


def book(pages: dict[str, str], about: str = "", more: dict[str, str] | None = None) -> bytes:
    """A .epub with these pages and what its file says about it."""
    items = "".join(f'<item id="{n}" href="{n}" media-type="application/xhtml+xml"/>' for n in pages)
    order = "".join(f'<itemref idref="{name}"/>' for name in pages)
    package = (
        f"{HEAD}<package><metadata><dc:language>en</dc:language>{about}</metadata>"
        f"<manifest>{items}</manifest><spine>{order}</spine></package>"
    )
    container = '<container><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
    files = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": container,
        "OEBPS/book.opf": package,
    }
    return packed(files | {f"OEBPS/{name}": page for name, page in pages.items()} | (more or {}))
