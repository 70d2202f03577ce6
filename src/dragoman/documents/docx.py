"""Word documents: the paragraphs of text, headers, footers, notes and comments.

A paragraph's runs of one style are one text; a style of its own within it is a pair of marks, and so are
links. All other files of the package, and all of these but the runs that are translated, stay as they are.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from dragoman.documents import xml
from dragoman.documents.document import (
    Collector,
    Document,
    Mark,
    Part,
    Parts,
    Slot,
    TextDocument,
    merged,
    paired,
)
from dragoman.documents.inline import Pairs
from dragoman.documents.zipped import Package
from dragoman.errors import InvalidDocument

_TYPES = "[Content_Types].xml"
_KINDS = re.compile(
    r"wordprocessingml\.(?:document|template)\.main|document\.macroEnabled\.main|template\.macroEnabledTemplate\.main"
    r"|wordprocessingml\.(?:header|footer|footnotes|endnotes|comments)\+xml"
)
_DROPPED = frozenset(("w:proofErr", "w:lastRenderedPageBreak"))
_WRAPPERS = frozenset(
    ("w:hyperlink", "w:ins", "w:moveTo", "w:smartTag", "w:sdt", "w:sdtContent", "w:fldSimple", "w:customXml")
)
"""What may be around runs; anything else in a paragraph is kept as one."""
_READS = {"w:br": "\n", "w:cr": "\n", "w:tab": "\t", "w:noBreakHyphen": "-"}
_UNSTYLED = re.compile(r"<w:(?:lang|noProof)(?:\s[^<>]*)?/>")
"""Properties that say nothing of how words look."""
_SIGN = re.compile(r"<w:fldChar\s[^<>]*w:fldCharType=[\"'](begin|separate|end)")
_FIRST_STYLE = 1 << 20
"""Pairs of styles are numbered from here on, above those of links and fields."""
_STYLE = "style:"
"""Begins the source of a mark that stands for the properties of runs."""


def parse(data: bytes) -> Document:
    """A .docx, .docm or .dotx file. Raises InvalidDocument if it is broken or encrypted."""
    package = Package(data)
    parts = []
    paragraphs = 0
    for name in _names(package):
        part, count = _part(package.read(name), paragraphs)
        paragraphs += count
        parts.append((name, part))
    return WordDocument(package, parts)


class WordDocument(Document):
    """A package of which some files have segments."""

    unit = "paragraph"

    def __init__(self, package: Package, parts: Sequence[tuple[str, TextDocument]]) -> None:
        self._package, self._parts = package, parts
        self.segments = [segment for _, part in parts for segment in part.segments]
        self.skipped = [place for _, part in parts for place in part.skipped]

    def render(self, translations: Sequence[Parts | None], language: str | None = None) -> bytes:
        done = 0
        files = {}
        for name, part in self._parts:
            own = translations[done : done + len(part.segments)]
            done += len(part.segments)
            if (data := part.render(own)) != part.encoded.data:
                files[name] = data
        return self._package.replaced(files) if files else self._package.data

    def accepts(self, place: int, parts: Parts) -> bool:
        for _, part in self._parts:
            if place < len(part.segments):
                return part.accepts(place, parts)
            place -= len(part.segments)
        return False


def _names(package: Package) -> list[str]:
    """The files that have text, the document itself first."""
    types = xml.read(package.read("[Content_Types].xml")).text
    names = []
    for token in xml.tokens(types):
        if token.name.rpartition(":")[2] == "Override":
            found = xml.attributes(types[token.start : token.end])
            name, kind = found.get("PartName", "").lstrip("/"), found.get("ContentType", "")
            if _KINDS.search(kind) and name in package.names:
                names.append(("main+xml" not in kind, name))
    if all(is_other for is_other, _ in names):
        raise InvalidDocument("the package is no Word document")
    return [name for _, name in sorted(names)]


# ---- where the texts of a file are -------------------------------------------------------------------------


def _part(data: bytes, before: int) -> tuple[TextDocument, int]:
    """A file's texts, and how many paragraphs it has. before: how many the files before it have."""
    found = Collector(xml.read(data))
    text = found.text
    tokens = list(xml.tokens(text))
    for number, start, end in _chunks(tokens):
        try:
            items = list(_items(text[start:end]))
        except InvalidDocument:  # a link or an insertion that goes on behind a text box
            found.skip(start)
            continue
        base = _base(items)
        read, write = partial(_read, base=base), partial(_write, base=base)
        found.add(_styled(items, base), Slot(start, end, write, read), place=before + number)
    count = sum(token.name == "w:p" and token.kind != "close" for token in tokens)
    return found.document(), count


def _chunks(tokens: Sequence[xml.Token]) -> Iterator[tuple[int, int, int]]:
    """The number of each paragraph, and where its runs stand: those before and behind a text box apart."""
    ends = xml.ends(tokens)
    nested = [0]
    for token in tokens:
        nested.append(nested[-1] + (token.name == "w:p"))
    number = 0
    for place, token in enumerate(tokens):
        number += token.name == "w:p" and token.kind != "close"
        if token.name != "w:p" or token.kind != "open":
            continue
        at, last = place + 1, ends[place]
        run: list[int] = []
        while at < last:
            token = tokens[at]
            end = ends.get(at, at)
            if token.name == "w:pPr":
                at = end + 1
                continue
            whole = end > at and token.name not in _WRAPPERS
            if whole and nested[end + 1] > nested[at]:
                yield from _span(tokens, run, number)
                run = []
            elif token.kind != "text":
                run += [at, end] if whole else [at]
            at = end + 1 if whole else at + 1
        yield from _span(tokens, run, number)


def _span(tokens: Sequence[xml.Token], run: Sequence[int], number: int) -> Iterator[tuple[int, int, int]]:
    if run:
        yield number, tokens[run[0]].start, tokens[run[-1]].end


# ---- what is in a text -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Words:
    """Words of a run, and its properties as they are written."""

    text: str
    style: str


_Item = _Words | Mark


def _read(written: str, base: str) -> Parts:
    return _styled(list(_items(written)), base)


def _items(text: str) -> Iterator[_Item]:
    """The words and marks of a piece of a paragraph."""
    tokens = list(xml.tokens(text))
    ends = xml.ends(tokens)
    fields = _Fields()
    at = 0
    while at < len(tokens):
        token, end = tokens[at], ends.get(at, at)
        if token.name in _WRAPPERS:
            yield from fields.take(fields.pairs.tag(text[token.start : token.end]))
            at += 1
            continue
        if token.name == "w:r" and token.kind == "open":
            for item in _run(text, tokens, ends, at):
                yield from fields.take(item)
        elif token.kind != "text" and token.name not in _DROPPED:
            yield from fields.take(Mark(text[token.start : tokens[end].end]))
        at = end + 1
    yield from fields.rest()


def _run(text: str, tokens: Sequence[xml.Token], ends: Mapping[int, int], place: int) -> Iterator[_Item]:
    """What is in a run."""
    style = ""
    at = place + 1
    while at < ends[place]:
        token, end = tokens[at], ends.get(at, at)
        source = text[token.start : tokens[end].end]
        if token.name == "w:rPr":
            style = "" if token.kind == "empty" else _UNSTYLED.sub("", source)
            style = "" if style == "<w:rPr></w:rPr>" else style
        elif token.name == "w:t":
            yield _Words("".join(xml.words(text, one) for one in tokens[at + 1 : end]), style)
        elif token.kind != "text" and token.name not in _DROPPED:
            reads = "" if "w:type=" in source else _READS.get(token.name, "")
            yield Mark(f"<w:r>{style}{source}</w:r>", reads=reads)
        at = end + 1


class _Fields:
    """Makes pairs of fields: what they are, around what they show."""

    def __init__(self) -> None:
        self.pairs = Pairs()
        self._code: list[str] = []
        self._depth = 0  # of fields that are begun, in code

    def take(self, item: _Item) -> Iterator[_Item]:
        """What comes of the next word or mark; nothing within the code of a field."""
        source = _written(item) if isinstance(item, _Words) else item.source
        sign = _SIGN.search(source) if isinstance(item, Mark) else None
        kind = sign[1] if sign else ""
        if kind == "begin":
            self._depth += 1
        if not self._depth:
            yield self.pairs.closing(source, "field") if kind == "end" else item
            return
        self._code.append(source)
        if kind == "end":
            self._depth -= 1
        if kind == "separate" and self._depth == 1:
            self._depth = 0
            yield self.pairs.opening("".join(self._code), "field")
            self._code = []
        elif not self._depth:
            yield from self.rest()

    def rest(self) -> Iterator[_Item]:
        if self._code:
            yield Mark("".join(self._code))
            self._code = []


def _base(items: Sequence[_Item]) -> str:
    """The style of most words."""
    lengths: Counter[str] = Counter()
    for item in items:
        if isinstance(item, _Words):
            lengths[item.style] += len(item.text)
    return max(lengths, key=lengths.__getitem__, default="")


def _styled(items: Sequence[_Item], base: str) -> Parts:
    """Parts with a pair around words of another style than `base`."""
    parts: list[Part] = []
    current = base
    number = _FIRST_STYLE
    for item in items:
        wanted = item.style if isinstance(item, _Words) else base if item.kind != "kept" else current
        if wanted != current:
            if current != base:
                parts.append(Mark(_STYLE, "close", number))
            if wanted != base:
                number += 1
                parts.append(Mark(_STYLE + wanted, "open", number))
            current = wanted
        parts.append(item.text if isinstance(item, _Words) else item)
    if current != base:
        parts.append(Mark(_STYLE, "close", number))
    return paired(merged(parts))


def _write(parts: Parts, base: str) -> str:
    styles = [base]
    pieces = []
    for part in parts:
        if isinstance(part, str):
            pieces.append(_written(_Words(part, styles[-1])))
        elif not part.source.startswith(_STYLE):
            pieces.append(part.source)
        elif part.kind == "open":
            styles.append(part.source.removeprefix(_STYLE))
        elif part.kind == "close":
            styles.pop()
    return "".join(pieces)


def _written(words: _Words) -> str:
    return f'<w:r>{words.style}<w:t xml:space="preserve">{xml.escaped(words.text)}</w:t></w:r>'
