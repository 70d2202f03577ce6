"""Plain text: paragraphs, with what is between them kept.

A paragraph that was wrapped by hand is one segment, and is wrapped again; of any other each line is one.
"""

import itertools
import re
from collections.abc import Callable

from dragoman.documents.document import Collector, Document, Form, Parts, plain
from dragoman.documents.encodings import decode

_LINE = re.compile(r"[^\r\n\v\f\x85\u2028\u2029]+")
_BULLET = re.compile(r"\s*(?:[-*+•–—·>#]|\(?\w{1,3}[.)])\s")
_ENDS = ".!?:;。！？…"
_NARROWEST, _WIDEST = 40, 120
"""Widths that people wrap text at."""

Line = tuple[int, int]
_LINE_FORM = Form(plain)


def parse(data: bytes) -> Document:
    """A plain text. Raises InvalidDocument if it is none."""
    found = Collector(decode(data))
    paragraph: list[Line] = []
    for match in _LINE.finditer(found.text):
        line = match.span()
        if not match[0].strip():
            _add(found, paragraph)
            paragraph = []
            continue
        if paragraph and not _follows(found.text, paragraph[-1], line):
            _add(found, paragraph)
            paragraph = []
        paragraph.append(line)
    _add(found, paragraph)
    return found.document()


def _follows(text: str, before: Line, line: Line) -> bool:
    """Whether a line may go on with the paragraph of the one before."""
    between = text[before[1] : line[0]]
    return between in ("\n", "\r\n") and not _BULLET.match(text, *line)


def _add(found: Collector, paragraph: list[Line]) -> None:
    """A paragraph as one segment or as one for each line."""
    text = found.text
    if len(paragraph) > 1 and _is_wrapped([text[start:end] for start, end in paragraph]):
        start, end = paragraph[0][0], paragraph[-1][1]
        words = text[start:end]
        start += len(words) - len(words.lstrip())
        end -= len(words) - len(words.rstrip())
        indent = re.match(r"\s*", text[slice(*paragraph[1])])
        assert indent is not None
        break_ = text[paragraph[0][1] : paragraph[1][0]] + indent[0]
        width = max(b - a for a, b in paragraph)
        form = Form(_wrap(width, start - paragraph[0][0], break_))
        found.add((" ".join(words.split()),), start, end, form)
        return
    for start, end in paragraph:
        words = text[start:end]
        start += len(words) - len(words.lstrip())
        end -= len(words) - len(words.rstrip())
        found.add((text[start:end],), start, end, _LINE_FORM)


def _is_wrapped(lines: list[str]) -> bool:
    """Whether these lines are one paragraph: each broken only where the next word had no room."""
    width = max(map(len, lines))
    if not _NARROWEST <= width <= _WIDEST or all(line.rstrip().endswith(tuple(_ENDS)) for line in lines[:-1]):
        return False
    return all(
        len(line.rstrip()) + 1 + len(following.split(None, 1)[0]) > width
        for line, following in itertools.pairwise(lines)
    )


def _wrap(width: int, first_indent: int, break_: str) -> Callable[[Parts], str]:
    """Write a paragraph in lines of this width at most, with `break_` between two."""

    def write(parts: Parts) -> str:
        indent = len(break_.lstrip("\r\n"))
        lines: list[str] = []
        for word in plain(parts).split():
            before = first_indent if len(lines) == 1 else indent
            if lines and before + len(lines[-1]) + 1 + len(word) <= width:
                lines[-1] += " " + word
            else:
                lines.append(word)
        return break_.join(lines)

    return write
