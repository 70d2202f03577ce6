"""Tables of text, separated by commas, semicolons or tabs: cells, of all columns or of those that are named.

With columns the first row is the head, which says what they are called, and stays. A cell that a spreadsheet
would compute stays as well, and no translation becomes one.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from dragoman.documents.document import Collector, Document, Form, Parts
from dragoman.documents.encodings import decode
from dragoman.documents.inline import tagged, untagged
from dragoman.errors import InvalidDocument, InvalidOption

_COMPUTED = ("=", "+", "-", "@", "\t", "\r")
_LONGEST = 10_000_000
"""Characters that a cell may have: more are a quotation mark that never closes."""

Cell = tuple[int, int]


def parse(data: bytes, columns: Sequence[str] | None = None) -> Document:
    """A table. columns: names, or numbers from 1 on; all if None.

    Raises InvalidDocument, and InvalidOption for a column that isn't there.
    """
    found = Collector(decode(data))
    text = found.text
    separator = _separator(text)
    rows = _rows(text, separator)
    forms = {
        (quoted, computed): Form(
            partial(_write, separator=separator, is_quoted=quoted), partial(_read, is_computed=computed)
        )
        for quoted in (False, True)
        for computed in (False, True)
    }
    chosen: set[int] | None = None
    names: list[str] = []
    if columns is not None:
        names = [_said(text[start:end]) for start, end in next(rows, [])]
        chosen = {_column(column, names) for column in columns}
    for row in rows:
        for number, (start, end) in enumerate(row):
            if chosen is None or number in chosen:
                name = names[number] if number < len(names) else str(number + 1)
                _add(found, start, end, name, forms)
    return found.document()


def _add(found: Collector, start: int, end: int, name: str, forms: Mapping[tuple[bool, bool], Form]) -> None:
    raw = found.text[start:end]
    words = _said(raw)
    if words.startswith(_COMPUTED) and words[1:2] != " ":
        return
    form = forms[raw.startswith('"'), words.startswith(_COMPUTED)]
    found.add(tagged(words), start, end, form, name)


def _column(column: str, names: Sequence[str]) -> int:
    if column in names:
        return names.index(column)
    if column.isdecimal() and 1 <= int(column) <= len(names):
        return int(column) - 1
    raise InvalidOption(f"the table has no column {column!r}; it has {', '.join(names[:50])}")


def _separator(text: str) -> str:
    """The sign of which the first row has most, outside of quotation marks."""
    first = re.sub(r'"[^"]*"', "", text[:20_000]).partition("\n")[0]
    return max(",;\t|", key=first.count)


def _rows(text: str, separator: str) -> Iterator[list[Cell]]:
    """Where the cells of each row stand, quotation marks included."""
    plain = re.compile(rf"[^{re.escape(separator)}\r\n]*")
    quoted = re.compile(r'"(?:[^"]|"")*+"')
    at = 0
    row: list[Cell] = []
    while at < len(text):
        match = quoted.match(text, at) if text[at] == '"' else plain.match(text, at)
        if match is None or match.end() - at > _LONGEST:
            line = text.count("\n", 0, at) + 1
            raise InvalidDocument(f"line {line} has a quotation mark that never closes")
        end = match.end()
        if text[at] == '"' and end < len(text) and text[end] not in f"{separator}\r\n":
            rest = plain.match(text, end)  # "a"b, as no standard has it, is one cell all the same
            end = rest.end() if rest else end
        row.append((at, end))
        at = end
        if at < len(text) and text[at] == separator:
            at += 1
            if at == len(text):
                row.append((at, at))
        else:
            yield row
            row = []
            at += 2 if text.startswith("\r\n", at) else 1
    if row:
        yield row


def _said(raw: str) -> str:
    if raw.startswith('"') and raw.endswith('"') and len(raw) > 1:
        return raw[1:-1].replace('""', '"')
    return raw


def _read(written: str, is_computed: bool) -> Parts:
    words = _said(written)
    return () if words.startswith(_COMPUTED) and not is_computed else tagged(words)


def _write(parts: Parts, separator: str, is_quoted: bool) -> str:
    words = untagged(parts)
    if is_quoted or separator in words or words.startswith('"') or "\n" in words or "\r" in words:
        return '"' + words.replace('"', '""') + '"'
    return words
