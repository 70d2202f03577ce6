"""Electronic books: their pages, as HTML has them, tables of contents, title and description.

The package's file says what is in the book, and its language is set.
"""

import posixpath
from urllib.parse import unquote

from dragoman.documents import html, xml
from dragoman.documents.document import Collector, Document, Form, Parts, TextDocument
from dragoman.documents.inline import untagged
from dragoman.documents.office import tags
from dragoman.documents.packaged import PackageDocument
from dragoman.documents.zipped import Package
from dragoman.errors import InvalidDocument

_CONTAINER, _ENCRYPTED = "META-INF/container.xml", "META-INF/encryption.xml"
_PAGES, _CONTENTS = ("application/xhtml+xml", "text/html"), "application/x-dtbncx+xml"
_SAID = frozenset(("dc:title", "dc:description", "dc:subject", "text", "ncx:text"))
"""Elements of a book's file and of its contents that are translated."""
_LANGUAGE = frozenset(("dc:language",))


def parse(data: bytes) -> Document:
    """A .epub file. Raises InvalidDocument if it is broken or its pages are encrypted."""
    package = Package(data)
    if _CONTAINER not in package.names or package.kind not in (b"", b"application/epub+zip"):
        raise InvalidDocument("the package is no book")
    document = PackageDocument(package, "text")
    locked = _locked(package)
    files: dict[str, str] = {}
    for book in tags(package, _CONTAINER, "rootfile"):
        name = book.get("full-path", "")
        files |= {name: _CONTENTS} | _files(package, name)
    if not files:
        raise InvalidDocument("the book doesn't say which of its files tells what is in it")
    for name, kind in files.items():
        if kind not in _PAGES and kind != _CONTENTS:
            continue
        if name in locked:
            raise InvalidDocument(f"the book is protected against copying: {name} is encrypted")
        content = package.read(name)
        document.add(name, _contents(content) if kind == _CONTENTS else html.parse(content), is_place=True)
    return document


def _locked(package: Package) -> set[str]:
    """The files that are encrypted."""
    if _ENCRYPTED not in package.names:
        return set()
    return {unquote(one.get("URI", "")) for one in tags(package, _ENCRYPTED, "CipherReference")}


def _files(package: Package, book: str) -> dict[str, str]:
    """The files of a book and their kinds, in the order in which they are read; what belongs to none last."""
    folder = posixpath.dirname(book)
    items = {}
    for item in tags(package, book, "item"):
        name = posixpath.normpath(posixpath.join(folder, unquote(item.get("href", ""))))
        if name in package.names:
            items[item.get("id", "")] = name, item.get("media-type", "")
    order = [reference.get("idref", "") for reference in tags(package, book, "itemref")]
    return dict(items[key] for key in dict.fromkeys([*order, *items]) if key in items)


def _contents(data: bytes) -> TextDocument:
    """What a book's file, or its table of contents, says of it."""
    found = Collector(xml.read(data))
    text = found.text
    for tokens in xml.elements(text, _SAID | _LANGUAGE):
        start, end = tokens[0].end, tokens[-1].start
        if tokens[0].name in _LANGUAGE and len(tokens) == 3:
            found.languages.append((start, end))
        elif all(token.kind in ("text", "cdata") for token in tokens[1:-1]):
            found.add(_read(text[start:end]), start, end, _FORM)
    return found.document()


def _read(written: str) -> Parts:
    return ("".join(xml.words(written, token) for token in xml.tokens(written)),)


def _write(parts: Parts) -> str:
    return xml.escaped(untagged(parts))


_FORM = Form(_write, _read)
