"""Pieces of XML as words with marks, where tags stand around words."""

from collections.abc import Callable

from dragoman.documents import xml
from dragoman.documents.document import Mark, Part, Parts, paired
from dragoman.documents.inline import Pairs


def read(
    written: str,
    words: Callable[[str, xml.Token], Part],
    whole: Callable[[str, str, Pairs], Mark | None],
) -> Parts:
    """The parts of a piece of XML.

    words: what a text, a CDATA section or a comment is, by the piece and the token; whole: what an element is
    by its tag and what is in it, or None for a tag that is a pair with its end. Raises InvalidDocument.
    """
    tokens = list(xml.tokens(written))
    ends = xml.ends(tokens)
    pairs = Pairs()
    parts: list[Part] = []
    at = 0
    while at < len(tokens):
        token, end = tokens[at], ends.get(at, at)
        tag = written[token.start : token.end]
        inner = written[token.end : tokens[end].start] if end > at else ""
        mark = whole(tag, inner, pairs) if token.kind in ("open", "empty") else None
        if not token.name:
            parts.append(words(written, token))
        elif mark is None:
            parts.append(pairs.tag(tag))
        else:
            source = written[token.start : tokens[end].end]
            parts.append(Mark(source, mark.kind, mark.number, mark.reads))
            at = end
        at += 1
    return paired(parts)


def plain(written: str, token: xml.Token) -> Part:
    """A text as its words, anything else as a mark."""
    return (
        xml.words(written, token)
        if token.kind in ("text", "cdata")
        else Mark(written[token.start : token.end])
    )


def said(inner: str) -> str:
    """The words in an element; none if it has tags, or would show some."""
    reads = "".join(xml.words(inner, token) for token in xml.tokens(inner))
    return "" if "<" in inner or "<" in reads else reads


def write(parts: Parts) -> str:
    return "".join(part.source if isinstance(part, Mark) else xml.escaped(part) for part in parts)
