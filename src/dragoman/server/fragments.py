"""Pieces of HTML and XML, as requests bring them: their segments translated, their tags verified.

HTML is read as files are (`documents.html`). Of XML nothing says which tags are within a sentence and which
are around one: a tag with words of its own directly in it is around one, unless the request knows better.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from html import unescape
from itertools import accumulate
from typing import Literal

from dragoman.documents import html, xml
from dragoman.documents.document import Collector, Document, Form, Mark, Part, Parts, merged, paired
from dragoman.documents.encodings import Encoded
from dragoman.documents.inline import Pairs

Markup = Literal["html", "xml"]

UNREADABLE = "\ufffc"
"""What stands for something that a model must put in its place and can't read: as no model knows it, a number
is shown."""
_ENTITY = re.compile(r"&(?!(?:amp|lt|gt|quot|apos);)[A-Za-z][A-Za-z0-9]{1,30};")
_BREAK = re.compile(r"(?<![ \t])[ \t]*[\r\n]\s*")
"""A run of blanks is looked at from its beginning alone: from each blank it would take quadratic time."""


@dataclass(frozen=True)
class XmlRules:
    """What a request says of its tags; names as they are written in it."""

    ignored: frozenset[str] = frozenset()
    """What is in these is not translated."""
    splitting: frozenset[str] = frozenset()
    """These end a sentence wherever they stand."""
    inline: frozenset[str] = frozenset()
    """These never do."""
    outline: bool = True
    """Whether other tags do, if they have no words beside them."""
    line_breaks: bool = False
    """Whether a line break ends a sentence."""


def read(text: str, markup: Markup, rules: XmlRules) -> Document:
    """A fragment as a document. Raises InvalidDocument if it is no XML, or holds NUL characters."""
    if markup == "html":
        # The mark says that it is UTF-8, whatever a <meta> in it says.
        return html.parse(b"\xef\xbb\xbf" + text.encode())
    return _Reader(text, rules).document()


def joined_lines(text: str) -> str:
    """A text whose line breaks, and the blanks around them, are a space each."""
    return _BREAK.sub(" ", text)


def written(document: Document, translations: Sequence[Parts | None]) -> str:
    """The fragment with these translations."""
    return document.render(translations).decode().removeprefix("\ufeff")


class Joint(Document):
    """Several documents whose segments are translated together."""

    def __init__(self, documents: Iterable[Document]) -> None:
        self.documents = list(documents)
        self.segments = [segment for document in self.documents for segment in document.segments]
        self._homes = [
            (document, place) for document in self.documents for place in range(len(document.segments))
        ]

    def accepts(self, place: int, parts: Parts) -> bool:
        document, place = self._homes[place]
        return document.accepts(place, parts)

    def render(self, translations: Sequence[Parts | None], language: str | None = None) -> bytes:
        given = iter(translations)
        parts = [[next(given) for _ in document.segments] for document in self.documents]
        found = zip(self.documents, parts, strict=True)
        return b"".join(document.render(own, language) for document, own in found)


@dataclass
class _Reader:
    """Finds the segments of a piece of XML."""

    text: str
    rules: XmlRules
    _tokens: list[xml.Token] = field(init=False)
    _ends: dict[int, int] = field(init=False)

    def document(self) -> Document:
        found = Collector(Encoded(self.text.encode(), self.text, "utf-8"))
        self._tokens = list(xml.tokens(self.text))
        self._ends = xml.ends(self._tokens)
        splits = (token.kind != "close" and token.name in self.rules.splitting for token in self._tokens)
        counts = [0, *accumulate(splits)]
        ranges = [(0, len(self._tokens))]
        while ranges:
            first, last = ranges.pop()
            if self.rules.outline and not self._has_words(first, last):
                ranges += self._inner(first, last)
                continue
            begun = first
            for place in self._children(first, last):
                end = self._end(place)
                if counts[end] > counts[place] and self._tokens[place].name not in self.rules.ignored:
                    self._add(found, begun, place)
                    ranges.append((place + 1, max(place + 1, end - 1)))
                    begun = end
            self._add(found, begun, last)
        return found.document()

    def _end(self, place: int) -> int:
        """Behind the element that begins at a place."""
        return self._ends.get(place, place) + 1

    def _children(self, first: int, last: int) -> Iterable[int]:
        while first < last:
            yield first
            first = self._end(first)

    def _has_words(self, first: int, last: int) -> bool:
        for place in self._children(first, last):
            token = self._tokens[place]
            if token.kind in ("text", "cdata") and self.text[token.start : token.end].strip():
                return True
            if token.name in self.rules.inline:
                return True
        return False

    def _inner(self, first: int, last: int) -> list[tuple[int, int]]:
        return [
            (place + 1, self._end(place) - 1)
            for place in self._children(first, last)
            if self._tokens[place].kind == "open" and self._tokens[place].name not in self.rules.ignored
        ]

    def _add(self, found: Collector, first: int, last: int) -> None:
        if first >= last:
            return
        start, end = self._tokens[first].start, self._tokens[last - 1].end
        words = self.text[start:end]
        start += len(words) - len(words.lstrip())
        end -= len(words) - len(words.rstrip())
        if start < end:
            reading = partial(inline, rules=self.rules)
            found.add(reading(self.text[start:end]), start, end, Form(_write, reading))


def inline(text: str, rules: XmlRules) -> Parts:
    """The parts of a text with tags."""
    tokens = list(xml.tokens(text))
    ends = xml.ends(tokens)
    pairs = Pairs()
    parts: list[Part] = []
    place = 0
    while place < len(tokens):
        token = tokens[place]
        source = text[token.start : token.end]
        if token.kind in ("open", "empty") and token.name in rules.ignored:
            last = ends.get(place, place)
            words = "".join(xml.words(text, each) for each in tokens[place:last])
            reads = " ".join(words.split()) or UNREADABLE
            parts.append(Mark(text[token.start : tokens[last].end], reads=reads))
            place = last
        elif token.kind == "open":
            parts.append(pairs.opening(source, token.name))
        elif token.kind == "close":
            parts.append(pairs.closing(source, token.name))
        elif token.kind == "text":
            parts += _words(source, rules)
        else:
            parts.append(Mark(source, reads="\n" if token.name == "br" else ""))
        place += 1
    return paired(merged(parts))


def _words(source: str, rules: XmlRules) -> list[Part]:
    """The words of a text; entities that XML doesn't know stay as they are written."""
    parts: list[Part] = []
    done = 0
    for match in _ENTITY.finditer(source):
        reads = unescape(match[0])
        parts += [xml.unescaped(source[done : match.start()]), Mark(match[0], reads=reads)]
        done = match.end()
    parts.append(xml.unescaped(source[done:]))
    if rules.line_breaks:
        return parts
    return [joined_lines(part) if isinstance(part, str) else part for part in parts]


def _write(parts: Parts) -> str:
    return "".join(part.source if isinstance(part, Mark) else xml.escaped(part) for part in parts)
