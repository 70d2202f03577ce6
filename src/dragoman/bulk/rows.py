"""A block of rows: what its columns hold, and how it is written with columns added."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from dragoman.bulk.formats import CSV, JSONL, PARQUET, TEXT, need_pyarrow
from dragoman.bulk.lines import LONGEST, Row
from dragoman.errors import InvalidText

Added = Mapping[str, Sequence[str | list[str] | None]]
"""New columns, in their order: a value for each row."""
INVALID = "invalid"
"""Where JSON lines keep a row that was no object."""
ERROR = "error"
"""The column that says why there is no translation."""
TEXT_COLUMN = "text"
"""What the only column of plain text is called."""


class Rows(Protocol):
    """The rows of a block."""

    def __len__(self) -> int:
        """How many there are."""

    def cells(self, column: str) -> list[object]:
        """What a column holds: of a row that can't be read an InvalidText."""

    def render(self, format: str, added: Added) -> bytes:
        """The file of these rows with columns added."""


class LineRows:
    """Rows of plain text or of a table."""

    def __init__(self, rows: Sequence[Row], names: Sequence[str], separator: str | None, end: str) -> None:
        """separator: of a table's cells; None for plain text. end: of a table's lines."""
        self._rows, self._names, self._separator, self._end = rows, list(names), separator, end

    def __len__(self) -> int:
        return len(self._rows)

    def cells(self, column: str) -> list[object]:
        place = self._names.index(column)
        return [self._cell(row, place) for row in self._rows]

    def render(self, format: str, added: Added) -> bytes:
        if format == TEXT:
            (translations,) = [values for name, values in added.items() if name.startswith("translation")]
            return b"".join(
                (row.raw if text is None else _line(str(text))) + b"\n"
                for row, text in zip(self._rows, translations, strict=True)
            )
        if format == CSV and self._separator is not None:
            return self._with_cells(added, self._separator)
        columns = {
            name: [_shown(cells[place]) for cells in self._filled()] for place, name in enumerate(self._names)
        }
        return _written(format, {**columns, **added}, len(self))

    def _cell(self, row: Row, place: int) -> object:
        if row.problem:
            return InvalidText(row.problem)
        if len(row.cells) > len(self._names) and self._separator is not None:
            return InvalidText(f"the row has {len(row.cells)} cells, and the head {len(self._names)}")
        text = self._of(row)[place] if place < len(self._of(row)) else None
        if text is not None and any("\udc80" <= char <= "\udcff" for char in text):
            return InvalidText("it is not UTF-8")
        return text

    def _of(self, row: Row) -> Sequence[str]:
        return row.cells if self._separator is not None else (row.raw.decode("utf-8", "surrogateescape"),)

    def _filled(self) -> list[list[str]]:
        """As many cells of each row as the head has; what is too much for it is in the last."""
        width = len(self._names)
        filled = []
        for row in self._rows:
            cells = list(self._of(row)) if not row.problem else [row.raw.decode("utf-8", "surrogateescape")]
            if len(cells) > width:
                rest = (self._separator or "").join(cells[width - 1 :])
                cells = [*cells[: width - 1], rest]
            filled.append(cells + [""] * (width - len(cells)))
        return filled

    def _with_cells(self, added: Added, separator: str) -> bytes:
        """The table as it was, with cells behind those of each row."""
        written = io.BytesIO()
        end = self._end.encode()
        written.write(_row([*self._names, *added], separator) + end)
        for number, (row, cells) in enumerate(zip(self._rows, self._filled(), strict=True)):
            more = separator.encode() + _row([_one(values[number]) for values in added.values()], separator)
            is_plain = not row.problem and len(row.cells) == len(self._names)
            if not is_plain or _cells(row.raw + more, separator)[: len(cells)] != cells:
                more = _row(cells, separator) + more
            else:
                more = row.raw + more
            written.write(more + end)
        return written.getvalue()


class JsonRows:
    """Rows that are JSON objects. What they hold stays as it is written."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._raw = [row.raw for row in rows]
        self._objects = [_parsed(row.raw) for row in rows]

    def __len__(self) -> int:
        return len(self._raw)

    def cells(self, column: str) -> list[object]:
        return [
            found
            if isinstance(found, InvalidText)
            else found.get(column, InvalidText(f"it has no {column!r}"))
            for found in self._objects
        ]

    def render(self, format: str, added: Added) -> bytes:
        assert format == JSONL
        written = []
        for number, raw in enumerate(self._raw):
            more = {name: values[number] for name, values in added.items()}
            if isinstance(self._objects[number], InvalidText):
                written.append(as_json({INVALID: raw.decode("utf-8", "backslashreplace"), **more}))
                continue
            before = raw.strip().removesuffix(b"}").rstrip()
            comma = b"" if before.endswith(b"{") else b", "
            written.append(before + comma + as_json(more)[1:])
        return b"".join(line + b"\n" for line in written)


def as_json(value: object) -> bytes:
    """One line of JSON; a lone surrogate is escaped."""
    return json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace")


def errors_in(data: bytes, format: str, separator: str | None = None) -> int:
    """How many rows of an output have an error. separator: of the cells, if not commas."""
    if format == PARQUET:
        from dragoman.bulk.tables import column_of

        return sum(value is not None for value in column_of(data, ERROR))
    if format == JSONL:
        return sum(json.loads(line)[ERROR] is not None for line in data.split(b"\n") if line)
    csv.field_size_limit(LONGEST)
    text = io.StringIO(data.decode("utf-8", "surrogateescape"), "")
    return sum(bool(row[ERROR]) for row in csv.DictReader(text, delimiter=separator or ","))


def _written(format: str, columns: Mapping[str, Sequence[Any]], count: int) -> bytes:
    """A file of columns."""
    if format == JSONL:
        rows = ({name: values[number] for name, values in columns.items()} for number in range(count))
        return b"".join(as_json(row) + b"\n" for row in rows)
    if format == PARQUET:
        from dragoman.bulk.tables import parquet_of

        need_pyarrow("Parquet")
        return parquet_of(columns)
    lines = [_row(list(columns), ",")]
    lines += [_row([_one(values[n]) for values in columns.values()], ",") for n in range(count)]
    return b"".join(line + b"\n" for line in lines)


def _parsed(raw: bytes) -> "dict[str, Any] | InvalidText":
    try:
        found = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return InvalidText("it is not UTF-8")
    except (ValueError, RecursionError) as error:
        return InvalidText(f"the row is no JSON: {error}")
    if not isinstance(found, dict):
        return InvalidText(f"the row is no JSON object, but {type(found).__name__}")
    return found


def _shown(text: str) -> str:
    """A cell for formats that are all UTF-8: bytes that are none are escaped."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _line(text: str) -> bytes:
    """A translation as one line."""
    return " ".join(text.splitlines()).encode("utf-8", "backslashreplace")


def _one(value: str | list[str] | None) -> str:
    """A value as a cell."""
    return "; ".join(value) if isinstance(value, list) else value or ""


def _cells(raw: bytes, separator: str) -> list[str]:
    """The cells of one row; none if it is not one."""
    try:
        found = list(csv.reader([raw.decode("utf-8", "surrogateescape")], delimiter=separator))
    except csv.Error:
        return []
    return found[0] if len(found) == 1 else []


def _row(cells: Sequence[str], separator: str) -> bytes:
    written = io.StringIO()
    # Which cells are quoted depends on the line end: those with any of its signs.
    csv.writer(written, delimiter=separator, lineterminator="\r\n").writerow(cells)
    return written.getvalue().removesuffix("\r\n").encode("utf-8", "surrogateescape")
