"""Word documents: the paragraphs of text, headers, footers, notes, comments, charts and diagrams.

A field is a pair around what it shows, and so are links. All other files of the package, and all of these but
the runs that are translated, stay as they are.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cache

from dragoman.documents import drawing, office, runs, xml
from dragoman.documents.document import Collector, Document, Mark
from dragoman.documents.inline import Pairs
from dragoman.documents.packaged import PackageDocument
from dragoman.documents.runs import Item, Markup
from dragoman.documents.zipped import Package
from dragoman.errors import InvalidDocument

_MAIN = re.compile(
    r"wordprocessingml\.(?:document|template)\.main\+xml"
    r"|ms-word\.(?:document|template)\.macroEnabled(?:Template)?\.main\+xml"
)
_OTHER = re.compile(r"wordprocessingml\.(?:header|footer|footnotes|endnotes|comments)\+xml")
_SIGN = re.compile(r"<(?:\w+:)?fldChar\s[^<>]*fldCharType=[\"'](begin|separate|end)")


def parse(data: bytes) -> Document:
    """A .docx, .docm or .dotx file. Raises InvalidDocument if it is broken or encrypted."""
    package = Package(data)
    types = office.types(package)
    names = [name for name, kind in types if _MAIN.search(kind)]
    if not names:
        raise InvalidDocument("the package is no Word document")
    names += sorted(name for name, kind in types if _OTHER.search(kind))
    document = PackageDocument(package, "paragraph")
    paragraphs = 0
    for name in names:
        found = Collector(xml.read(package.read(name)))
        paragraphs += runs.find(found, _markup(xml.prefix(found.text)), paragraphs + 1)
        document.add(name, found.document())
    for name in sorted(name for name, kind in types if drawing.KINDS.search(kind)):
        found = Collector(xml.read(package.read(name)))
        paragraphs += drawing.find(found, paragraphs + 1)
        document.add(name, found.document())
    return document


@cache
def _markup(prefix: str) -> Markup:
    def named(names: str) -> frozenset[str]:
        return frozenset(prefix + name for name in names.split())

    # Properties that say nothing of how words look.
    unstyled = re.compile(rf"<{prefix}(?:lang|noProof)(?:\s[^<>]*)?/>")
    none = (f"<{prefix}rPr></{prefix}rPr>", f"<{prefix}rPr/>")

    def style(source: str) -> str:
        source = unstyled.sub("", source)
        return "" if source in none else source

    return Markup(
        paragraphs=named("p"),
        run=f"{prefix}r",
        properties=f"{prefix}rPr",
        text=f"{prefix}t",
        style=style,
        skipped=named("pPr"),
        dropped=named("proofErr lastRenderedPageBreak"),
        wrappers=named("hyperlink ins moveTo smartTag sdt sdtContent fldSimple customXml"),
        reads={prefix + name: reads for name, reads in _READS.items()},
        arrange=_with_fields,
        space=' xml:space="preserve"',
    )


_READS = {"br": "\n", "cr": "\n", "tab": "\t", "noBreakHyphen": "-"}


def _with_fields(markup: Markup, items: Iterable[Item], pairs: Pairs) -> Iterator[Item]:
    """The same with pairs for fields: what they are, around what they show."""
    code: list[str] = []
    depth = 0  # of fields that are begun, in code
    for item in items:
        sign = _SIGN.search(item.source) if isinstance(item, Mark) else None
        kind = sign[1] if sign else ""
        depth += kind == "begin"
        if not depth:
            yield pairs.closing(item.source, "field") if isinstance(item, Mark) and kind == "end" else item
            continue
        code.append(item.source if isinstance(item, Mark) else runs.written(markup, item))
        depth -= kind == "end"
        if kind == "separate" and depth == 1:
            depth = 0
            yield pairs.opening("".join(code), "field")
            code = []
        elif not depth:
            yield Mark("".join(code))
            code = []
    if code:
        yield Mark("".join(code))
