"""Strings that programs show: their tags and, in ICU's MessageFormat, the branches of plurals and choices.

`{count, plural, one {# file} other {# files}}` is two texts; a message that has words around such an argument
as well can't be translated without rewriting it, so it stays.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from dragoman.documents.document import Mark, Part, Parts, merged
from dragoman.documents.inline import tagged

_CHOICE = re.compile(r"\{\s*[\w.-]{1,100}\s*,\s*(plural|select|selectordinal)\s*,")
_OFFSET = re.compile(r"\s*offset:\d+")
_SELECTOR = re.compile(r"\s*(?:=\d+|[\w-]{1,100})\s*\{")
_DEEPEST = 8


@dataclass(frozen=True, slots=True)
class Text:
    """A text to translate within a message."""

    start: int
    end: int
    parts: Parts


def texts(message: str) -> list[Text] | None:
    """The texts of a message; None if it has choices within other words, which can't be translated."""
    if _CHOICE.search(message) is None:
        return [Text(0, len(message), tagged(message))]
    try:
        return list(_branches(message, 0, len(message), False, 0))
    except ValueError:
        return None


def _branches(message: str, start: int, end: int, counts: bool, depth: int) -> Iterator[Text]:
    """The texts in message[start:end]; ValueError if they are no texts of their own."""
    inner = message[start:end]
    choice = _CHOICE.search(inner)
    if choice is None:
        yield Text(start, end, numbered(tagged(inner)) if counts else tagged(inner))
        return
    opening = start + choice.start()
    closing = _closing(message, opening, end)
    if inner[: choice.start()].strip() or message[closing + 1 : end].strip() or depth > _DEEPEST:
        raise ValueError("words around a choice")
    counts = counts or choice[1] != "select"
    at = start + choice.end()
    if offset := _OFFSET.match(message, at, closing):
        at = offset.end()
    while selector := _SELECTOR.match(message, at, closing):
        branch_end = _closing(message, selector.end() - 1, closing)
        yield from _branches(message, selector.end(), branch_end, counts, depth + 1)
        at = branch_end + 1
    if message[at:closing].strip():
        raise ValueError("no choice that ICU would read")


def _closing(message: str, opening: int, end: int) -> int:
    """Where the brace closes that opens there."""
    depth = 0
    for brace in re.finditer(r"[{}]", message[opening:end]):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return opening + brace.start()
    raise ValueError("a brace that never closes")


def numbered(parts: Parts) -> Parts:
    """Parts in which # stands for the number."""
    result: list[Part] = []
    for part in parts:
        if isinstance(part, Mark):
            result.append(part)
            continue
        words = part.split("#")
        for word in words[:-1]:
            result += [word, Mark("#", reads="#")]
        result.append(words[-1])
    return merged(result)
