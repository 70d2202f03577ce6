"""Java properties: the values. In a value with numbered arguments ('{0}') an apostrophe is written twice."""

import re
from collections.abc import Iterator
from functools import partial

from dragoman.documents import messages
from dragoman.documents.document import Collector, Document, Form, Parts
from dragoman.documents.encodings import decode
from dragoman.documents.inline import tagged, untagged

_BLANK = re.compile(r"[ \t\f]*")
_COMMENT = re.compile(r"[ \t\f]*[#!][^\r\n]*")
_END = re.compile(r"\r\n|\r|\n|\Z")
_KEY = re.compile(r"(?:[^\\\s:=]|\\.)*+", re.DOTALL)
_SEPARATOR = re.compile(r"[ \t\f]*[:=]?[ \t\f]*")
_VALUE = re.compile(r"(?:[^\\\r\n]|\\(?:\r\n|.))*+", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(\r\n|\r|\n)[ \t\f]*|(.))", re.DOTALL)
_NAMED = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_ARGUMENT = re.compile(r"\{\d+[,}]")


def parse(data: bytes) -> Document:
    """A properties file, in UTF-8, or in ISO 8859-1 as of old. Raises InvalidDocument."""
    declared: str | None
    try:
        data.decode("utf-8")
        declared = "ascii" if data.isascii() else "utf-8"
    except UnicodeDecodeError:
        declared = None if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "iso-8859-1"
    found = Collector(decode(data, declared, lambda character: _unicode(character)))
    for key, start, end in _entries(found.text):
        message = _unescaped(found.text[start:end])
        doubled = _ARGUMENT.search(message) is not None
        texts = messages.texts(message)
        if texts is None or len(texts) > 1 or texts[0].end - texts[0].start < len(message):
            found.skip(start)
            continue
        parts = _read(found.text[start:end], doubled)
        found.add(parts, start, end, _DOUBLED if doubled else _FORM, key)
    return found.document()


def _entries(text: str) -> Iterator[tuple[str, int, int]]:
    """Keys, and where their values begin and end."""
    at = 0
    while at < len(text):
        comment = _COMMENT.match(text, at)
        if comment is None:
            key = _KEY.match(text, _matched(_BLANK, text, at))
            assert key is not None
            start = _matched(_SEPARATOR, text, key.end())
            end = _matched(_VALUE, text, start)
            if key[0]:
                yield _unescaped(key[0]), start, end
        else:
            end = comment.end()
        line_end = _END.search(text, end)
        assert line_end is not None
        at = max(line_end.end(), at + 1)


def _matched(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def _unescaped(raw: str) -> str:
    def character(match: re.Match[str]) -> str:
        if match[1]:
            return chr(int(match[1], 16))
        return "" if match[2] else _NAMED.get(match[3], match[3])

    text = _ESCAPE.sub(character, raw)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _read(written: str, doubled: bool) -> Parts:
    text = _unescaped(written)
    return tagged(text.replace("''", "'") if doubled else text)


def _write(parts: Parts, doubled: bool) -> str:
    text = untagged(parts).replace("\\", "\\\\")
    if doubled:
        text = text.replace("'", "''")
    for letter, character in _NAMED.items():
        text = text.replace(character, f"\\{letter}")
    return "\\" + text if text.startswith(" ") else text


def _unicode(character: str) -> str:
    data = character.encode("utf-16-be")
    return "".join(f"\\u{data[i]:02X}{data[i + 1]:02X}" for i in range(0, len(data), 2))


_FORM = Form(partial(_write, doubled=False), partial(_read, doubled=False))
_DOUBLED = Form(partial(_write, doubled=True), partial(_read, doubled=True))
