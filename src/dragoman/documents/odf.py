"""OpenDocument: texts, spreadsheets and presentations, as LibreOffice and others write them.

Paragraphs and headings are texts, with spans and links as pairs. A footnote, a comment or a frame stands in a
paragraph as a mark, and what it says is texts of its own. Cells that are computed or are numbers stay, and so
do those that formulas compare with.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from dragoman.documents import xml
from dragoman.documents.document import Collector, Document, Form, Mark, Part, Parts, paired, plain
from dragoman.documents.formulas import literals
from dragoman.documents.inline import Pairs
from dragoman.documents.packaged import PackageDocument
from dragoman.documents.zipped import Package
from dragoman.errors import InvalidDocument

_PARAGRAPHS = frozenset(("text:p", "text:h"))
_CELLS = frozenset(("table:table-cell", "table:covered-table-cell"))
_DELETED = "text:tracked-changes"
_WRAPPERS = frozenset(("text:span", "text:a", "text:meta"))
_DROPPED = "text:soft-page-break"
_READS = {"text:tab": "\t", "text:line-break": "\n"}
_UNREAD = re.compile(r"text:note|office:annotation|draw:|presentation:|svg:|anim:")
"""Elements whose words are no part of the sentence they stand in."""

_BLANKS = re.compile(r"[ \t\r\n]+")
_MOST_SPACES = 1000
_FORMULA = re.compile(r"""\stable:(?:formula|condition)=("[^"<]*"|'[^'<]*')""")
_STYLE = re.compile(r"<style:style\s([^<>]*[^/<>])>(.*?)</style:style>", re.DOTALL)
# What a style of words may say that nobody sees.
_UNSEEN = re.compile(
    r"""<style:text-properties(?:\s+(?:officeooo:(?:paragraph-)?rsid|(?:fo|style):(?:language|country|rfc-language-tag)"""
    r"""(?:-asian|-complex)?)=(?:"[^"<]*"|'[^'<]*'))*\s*/>"""
)


def parse(data: bytes) -> Document:
    """An OpenDocument file. Raises InvalidDocument if it is broken or encrypted."""
    package = Package(data)
    if not package.kind.startswith(b"application/vnd.oasis.opendocument."):
        raise InvalidDocument("the package is no OpenDocument file")
    if b"encryption-data" in package.read("META-INF/manifest.xml"):
        raise InvalidDocument("the file is encrypted; save it without a password")
    document = PackageDocument(package, "paragraph")
    count = 0
    for name in ("content.xml", "styles.xml"):
        # What the master pages of presentations say is for whoever writes slides.
        if name == "content.xml" or (name in package.names and b"presentation" not in package.kind):
            found = Collector(xml.read(package.read(name)))
            reader = _Reader(found, count)
            reader.read()
            count = reader.count
            document.add(name, found.document())
    return document


@dataclass
class _Reader:
    """Collects the paragraphs of a file."""

    found: Collector
    count: int
    """How many paragraphs have been seen."""
    kept: set[str] = field(default_factory=set)
    unseen: frozenset[str] = frozenset()
    form: Form | None = None

    def read(self) -> None:
        text = self.found.text
        self.kept = literals(match[1][1:-1] for match in _FORMULA.finditer(text))
        self.unseen = frozenset(_unseen_styles(text))
        self.form = Form(_write, partial(_read, unseen=self.unseen))
        for tokens in xml.elements(text, _PARAGRAPHS | _CELLS | {_DELETED}):
            self._walk(tokens, xml.ends(tokens), 0, len(tokens), None)

    def _walk(
        self,
        tokens: Sequence[xml.Token],
        ends: dict[int, int],
        at: int,
        last: int,
        outer: tuple[int, int, int] | None,
    ) -> None:
        """The paragraphs of tokens[at:last]. outer: the segment whose mark has them, and where it is."""
        while at < last:
            token, end = tokens[at], ends.get(at, at)
            if token.name == _DELETED or (token.name in _CELLS and not self._is_text(token)):
                self.count += sum(t.name in _PARAGRAPHS and t.kind != "close" for t in tokens[at:end])
                at = end
            elif token.name in _PARAGRAPHS:
                self.count += 1
                if end > at:
                    self._paragraph(tokens, ends, at, end, outer)
                at = end
            at += 1

    def _paragraph(
        self,
        tokens: Sequence[xml.Token],
        ends: dict[int, int],
        at: int,
        last: int,
        outer: tuple[int, int, int] | None,
    ) -> None:
        start, end = tokens[at].end, tokens[last].start
        assert self.form is not None
        parts = _read(self.found.text[start:end], self.unseen)
        number = None
        if plain(parts).casefold() not in self.kept:
            number = self.found.add(parts, start, end, self.form, place=self.count)
        if number is not None and outer is not None:
            self.found.within[number] = outer
        at += 1
        while at < last:
            token, end = tokens[at], ends.get(at, at)
            if end > at and token.name not in _WRAPPERS:
                around = outer if number is None else (number, token.start, tokens[end].end)
                self._walk(tokens, ends, at + 1, end, around)
                at = end
            at += 1

    def _is_text(self, cell: xml.Token) -> bool:
        """Whether a cell says what is in it, and no formula or number does."""
        about = xml.attributes(self.found.text[cell.start : cell.end])
        kind = about.get("office:value-type", "string")
        return kind == "string" and not {"table:formula", "office:string-value"} & about.keys()


def _unseen_styles(text: str) -> Iterator[str]:
    """The names of styles that don't change how words look."""
    for style in _STYLE.finditer(text):
        about = xml.attributes(style[1])
        is_plain = about.keys() <= {"style:name", "style:family"} and about.get("style:family") == "text"
        if is_plain and _UNSEEN.fullmatch(style[2].strip()):
            yield about.get("style:name", "")


# ---- what is in a text -------------------------------------------------------------------------------------


def _read(written: str, unseen: frozenset[str]) -> Parts:
    tokens = list(xml.tokens(written))
    ends = xml.ends(tokens)
    hidden = {
        ends[at] for at, token in enumerate(tokens) if at in ends and _is_unseen(written, token, unseen)
    }
    hidden |= {at for at, token in enumerate(tokens) if _is_unseen(written, token, unseen)}
    pairs = Pairs()
    parts: list[Part] = []
    is_blank = True  # Blanks are left out at the beginning, and behind others.
    at = 0
    while at < len(tokens):
        token, end = tokens[at], ends.get(at, at)
        if token.kind in ("text", "cdata"):
            words = _BLANKS.sub(" ", xml.words(written, token))
            words = words[1:] if is_blank and words.startswith(" ") else words
            parts.append(words)
            is_blank = words.endswith(" ") if words else is_blank
        elif token.name == "text:s":
            count = xml.attributes(written[token.start : token.end]).get("text:c", "1")
            parts.append(" " * min(int(count) if count.isdecimal() else 1, _MOST_SPACES))
            is_blank = False
        elif token.name in _WRAPPERS:
            if at not in hidden:
                parts.append(pairs.tag(written[token.start : token.end]))
            end = at
        elif token.name != _DROPPED:
            parts.append(_mark(written, tokens[at : end + 1]))
            is_blank = False
        at = end + 1
    return paired(parts)


def _is_unseen(written: str, token: xml.Token, unseen: frozenset[str]) -> bool:
    if token.name != "text:span" or token.kind != "open":
        return False
    return xml.attributes(written[token.start : token.end]).get("text:style-name") in unseen


def _mark(written: str, tokens: Sequence[xml.Token]) -> Mark:
    """An element that stays."""
    name = tokens[0].name
    reads = _READS.get(name, "")
    if not reads and not _UNREAD.match(name) and not any(token.name in _PARAGRAPHS for token in tokens):
        reads = _BLANKS.sub(" ", "".join(xml.words(written, token) for token in tokens)).strip()
    return Mark(written[tokens[0].start : tokens[-1].end], reads=reads)


def _write(parts: Parts) -> str:
    """Blanks that would be left out are elements."""
    pieces = []
    is_blank = True
    for number, part in enumerate(parts, 1):
        if isinstance(part, Mark):
            pieces.append(part.source)
            continue
        for place, words in enumerate(part.split(" ")):
            if place:
                pieces.append("<text:s/>" if is_blank else " ")
                is_blank = True
            if words:
                pieces.append(xml.escaped(words))
                is_blank = False
        if number == len(parts) and part.endswith(" ") and pieces[-1] == " ":
            pieces[-1] = "<text:s/>"
    return "".join(pieces)
