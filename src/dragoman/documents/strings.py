"""Strings of iOS and macOS: `"key" = "value";`."""

import re

from dragoman.documents.document import Collector, Document, Form, Parts
from dragoman.documents.encodings import decode
from dragoman.documents.inline import tagged, untagged
from dragoman.errors import InvalidDocument

_STRING = r'"((?:[^"\\]|\\.)*+)"'
_ENTRY = re.compile(
    rf"\s*(?:/\*.*?\*/|//[^\n]*|(?:{_STRING}|([\w.-]+))\s*(?:/\*.*?\*/\s*)?=\s*{_STRING}\s*;|\Z)", re.DOTALL
)
_ESCAPE = re.compile(r"\\(?:[uU]([0-9a-fA-F]{4})|(.))", re.DOTALL)
_NAMED = {"n": "\n", "t": "\t", "r": "\r"}


def parse(data: bytes) -> Document:
    """A .strings file. Raises InvalidDocument if it isn't one."""
    found = Collector(decode(data))
    form = Form(_write, _read)
    at = 0
    while at < len(found.text):
        entry = _ENTRY.match(found.text, at)
        if entry is None:
            line = found.text.count("\n", 0, at) + 1
            raise InvalidDocument(f'line {line} is no entry of a .strings file: "key" = "value";')
        if entry[3] is not None:
            name = entry[2] or _unescaped(entry[1])
            found.add(_read(entry[3]), *entry.span(3), form, name)
        at = entry.end()
    return found.document()


def _unescaped(raw: str) -> str:
    return _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else _NAMED.get(m[2], m[2]), raw)


def _read(written: str) -> Parts:
    return tagged(_unescaped(written))


def _write(parts: Parts) -> str:
    text = untagged(parts).replace("\\", "\\\\").replace('"', '\\"')
    for letter, character in _NAMED.items():
        text = text.replace(character, f"\\{letter}")
    return text
