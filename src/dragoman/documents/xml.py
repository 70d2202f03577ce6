"""XML as a row of tokens that know where they stand.

Nothing is expanded or fetched: a file with a DTD of its own is refused.
"""

import html
import re
from collections.abc import Container, Iterator, Sequence
from typing import NamedTuple

from dragoman.documents.encodings import Encoded, decode
from dragoman.errors import InvalidDocument

_TOKEN = re.compile(
    r"<!--.*?-->|<!\[CDATA\[.*?\]\]>|<\?.*?\?>|<!DOCTYPE[^<>\[\]]*>"
    r"""|</?([^\s<>/!?"'=]+)[^<>"']*+(?:"[^"<]*+"[^<>"']*+|'[^'<]*+'[^<>"']*+)*+>|[^<]+""",
    re.DOTALL,
)
_ATTRIBUTE = re.compile(r"""([^\s"'<>/=]+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")
_ENCODING = re.compile(rb"""\A<\?xml\s[^>]*?encoding\s*=\s*["']([\w.-]+)["']""")
_BAD = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_DEEPEST = 500
_MOST_TOKENS = 1_000_000
"""Of an element that is looked at as a whole."""


class Token(NamedTuple):
    """A tag, a text, or something else (comments, instructions) between two places of a file."""

    kind: str  # "open", "close", "empty", "text", "cdata", "other"
    start: int
    end: int
    name: str = ""


def read(data: bytes) -> Encoded:
    """The text of an XML file. Raises InvalidDocument if its bytes are none."""
    match = _ENCODING.match(data)
    declared = match[1].decode("ascii") if match else None
    if declared and declared.lower().startswith("utf-16"):
        declared = None  # a byte order mark says which
    return decode(data, declared, lambda character: f"&#{ord(character)};")


def tokens(text: str) -> Iterator[Token]:
    """All of a file, or of a part of it. Raises InvalidDocument where it isn't well formed."""
    at = 0
    waiting: list[str] = []
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            what = "a DTD, which is not read" if text.startswith("<!DOCTYPE", at) else "no XML"
            raise InvalidDocument(f"line {_line(text, at)} has {what}")
        token = _token(match)
        if token.kind == "open":
            waiting.append(token.name)
            if len(waiting) > _DEEPEST:
                raise InvalidDocument(f"the XML is nested deeper than {_DEEPEST} elements")
        elif token.kind == "close" and (not waiting or waiting.pop() != token.name):
            raise InvalidDocument(f"line {_line(text, at)} closes <{token.name}>, which isn't open")
        yield token
        at = match.end()
    if waiting:
        raise InvalidDocument(f"the XML ends within <{waiting[-1]}>")


def elements(text: str, names: Container[str]) -> Iterator[list[Token]]:
    """The tokens of each element of one of these names that is in no other one. All of the text is looked at.

    Raises InvalidDocument as `tokens`, and for an element that is too large to be one text.
    """
    inside: list[Token] = []
    depth = 0
    for token in tokens(text):
        if not inside and (token.name not in names or token.kind == "close"):
            continue
        inside.append(token)
        depth += (token.kind == "open") - (token.kind == "close")
        if depth == 0:
            yield inside
            inside = []
        elif len(inside) > _MOST_TOKENS:
            raise InvalidDocument(f"line {_line(text, token.start)} is in a paragraph of too many tags")


def root(text: str) -> str:
    """The name of the outermost element; empty if there is none."""
    return next((token.name for token in tokens(text) if token.kind in ("open", "empty")), "")


def prefix(text: str) -> str:
    """What stands before the names of elements like the outermost one, such as "w:"."""
    name = root(text)
    return name[: name.find(":") + 1]


def _token(match: re.Match[str]) -> Token:
    source = match[0]
    if match[1] is not None:
        kind = "close" if source[1] == "/" else "empty" if source[-2] == "/" else "open"
        return Token(kind, *match.span(), match[1])
    kind = "cdata" if source.startswith("<![CDATA[") else "text" if source[0] != "<" else "other"
    return Token(kind, *match.span())


def name(tag: str) -> str:
    """The name of a tag."""
    match = _TOKEN.match(tag)
    return match[1] if match and match[1] else ""


def attributes(tag: str) -> dict[str, str]:
    """The attributes of a tag."""
    return {m[1]: unescaped(m[2] if m[2] is not None else m[3]) for m in _ATTRIBUTE.finditer(tag)}


def attribute_span(text: str, token: Token, name: str) -> tuple[int, int] | None:
    """Where the value of a tag's attribute stands."""
    for match in _ATTRIBUTE.finditer(text, token.start, token.end):
        if match[1] == name:
            return match.span(2) if match[2] is not None else match.span(3)
    return None


def ends(found: Sequence[Token]) -> dict[int, int]:
    """The numbers of the end tags of elements, by those of their start tags."""
    waiting: list[int] = []
    places = {}
    for place, token in enumerate(found):
        if token.kind == "open":
            waiting.append(place)
        elif token.kind == "close":
            places[waiting.pop()] = place
    return places


def words(text: str, token: Token) -> str:
    """What a token says."""
    source = text[token.start : token.end]
    if token.kind == "cdata":
        return source[9:-3]
    return unescaped(source) if token.kind == "text" else ""


def unescaped(raw: str) -> str:
    """The characters of a text; an entity that isn't XML's own stays as it is written."""
    return re.sub(
        r"&(?:amp|lt|gt|quot|apos|#\d{1,7}|#x[0-9a-fA-F]{1,6});", lambda m: html.unescape(m[0]), raw
    )


def escaped(words: str) -> str:
    """Words as an XML file writes them. Raises InvalidDocument for characters that it can't have."""
    if _BAD.search(words):
        raise InvalidDocument("the translation has a control character, which XML can't have")
    return html.escape(words, quote=False)


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1
