"""JSON with texts for a screen: i18next and the like, Flutter's ARB, messages of browser extensions.

All strings that are values are translated; of ARB those of messages, not what is said about them (`@key`),
and of an extension's messages.json the `message` of each.
"""

import json
import re
from collections.abc import Iterator, Sequence
from functools import partial

from dragoman.documents import messages
from dragoman.documents.document import Collector, Document, Form, Parts
from dragoman.documents.encodings import decode
from dragoman.documents.inline import tagged, untagged
from dragoman.errors import InvalidDocument

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)
_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.|.", re.DOTALL
)

Path = tuple[str, ...]


def parse(data: bytes) -> Document:
    """A JSON file. Raises InvalidDocument if it is none."""
    found = Collector(decode(data))
    text = found.text
    if not text.strip():
        return found.document()
    try:
        content = json.loads(text)
    except RecursionError:
        raise InvalidDocument("the JSON is nested too deeply") from None
    except ValueError as error:
        raise InvalidDocument(f"the file is no JSON: {error}") from None
    is_extension = isinstance(content, dict) and bool(content) and all(map(_is_message, content.values()))
    write = partial(_write, ascii_only=text.isascii() and "\\u" in text)
    forms = [Form(write, partial(_read, counts=counts)) for counts in (False, True)]
    for path, start, end in strings(text):
        if path == ("@@locale",):
            found.languages.append((start, end))
        elif any(key.startswith("@") for key in path) or (is_extension and path[1:] != ("message",)):
            continue
        else:
            _add(found, ".".join(path), start, end, forms)
    return found.document()


def _is_message(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("message"), str)


def _add(found: Collector, name: str, start: int, end: int, forms: Sequence[Form]) -> None:
    """The texts of a message. forms: of texts in which # is a sign like others, and stands for a number."""
    raw = found.text[start:end]
    message = json.loads(f'"{raw}"')
    texts = messages.texts(message)
    if texts is None:
        found.skip(start)
        return
    places = _places(raw) if len(texts) > 1 or texts[0].end - texts[0].start < len(message) else [0, len(raw)]
    for one in texts:
        first, last = (places[one.start], places[one.end]) if len(places) > 2 else places
        counts = one.parts != tagged(message[one.start : one.end])
        found.add(one.parts, start + first, start + last, forms[counts], name)


def _read(written: str, counts: bool) -> Parts:
    parts = tagged(json.loads(f'"{written}"'))
    return messages.numbered(parts) if counts else parts


def _write(parts: Parts, ascii_only: bool) -> str:
    return json.dumps(untagged(parts), ensure_ascii=ascii_only)[1:-1]


def _places(raw: str) -> list[int]:
    """Where each character of a string begins in how it is written, and where the last one ends."""
    return [*(match.start() for match in _ESCAPE.finditer(raw)), len(raw)]


def strings(text: str) -> Iterator[tuple[Path, int, int]]:
    """The strings that are values: their path, and where they begin and end within the quotation marks."""
    path: list[str] = []  # for each container the key or number of what comes in it
    is_object: list[bool] = []
    key: str | None = None
    for token in _TOKEN.finditer(text):
        sign = token[0]
        if sign in "{[":
            is_object.append(sign == "{")
            path.append("" if sign == "{" else "0")
        elif sign in "}]":
            is_object.pop()
            path.pop()
        elif sign == ":":
            path[-1], key = key or "", None
        elif sign == ",":
            if is_object[-1]:
                path[-1] = ""
            else:
                path[-1] = str(int(path[-1]) + 1)
            key = None
        elif sign[0] == '"':
            if is_object and is_object[-1] and key is None and path[-1] == "" and _is_key(text, token.end()):
                key = json.loads(sign)
            else:
                yield tuple(path), token.start() + 1, token.end() - 1


def _is_key(text: str, at: int) -> bool:
    return re.compile(r"\s*:").match(text, at) is not None
