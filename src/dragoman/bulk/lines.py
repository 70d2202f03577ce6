"""The rows of files of lines: plain text, JSON lines, and tables whose cells a sign separates."""

import csv
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from dragoman.bulk.formats import CSV, JSONL, Readable
from dragoman.errors import InvalidDocument

LONGEST = 64 << 20
"""Bytes that a line may have: more are a file of something else."""
_LONGEST_CELL = 16 << 20
_CHUNK = 1 << 20
_MARK = b"\xef\xbb\xbf"
_OTHER_MARKS = (b"\xff\xfe", b"\xfe\xff")
SEPARATORS = ",;\t|"


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it stands."""

    raw: bytes
    """Without its line end."""
    length: int
    """Bytes of the file from the end of the row before to the end of this one."""
    cells: tuple[str, ...] = ()
    """Of a table; bytes that are no UTF-8 are lone surrogates in it."""
    problem: str = ""
    """Why the row can't be told from its neighbours as it should."""


def read_rows(source: Readable, name: str, format: str, separator: str = ",") -> Iterator[Row]:
    """The rows from where `source` stands. name: of the file, for errors; separator: of a table's cells.

    A table's head is its first row. JSON lines that are blank are no rows. Raises InvalidDocument.
    """
    lines = _lines(source, name)
    if format == CSV:
        yield from _table_rows(lines, name, separator)
        return
    skipped = 0
    for line in lines:
        raw = line.removesuffix(b"\n").removesuffix(b"\r")
        if format == JSONL and not raw.strip():
            skipped += len(line)
            continue
        yield Row(raw, skipped + len(line))
        skipped = 0


def begin(source: Readable, name: str) -> tuple[bytes, int]:
    """The first bytes of a file, and how many of them are a mark of its encoding and no text.

    Raises InvalidDocument for an encoding other than UTF-8, and for a file that can't be unpacked.
    """
    head = _read(source, name, 4096)
    if head.startswith(_OTHER_MARKS):
        raise InvalidDocument(
            f"{name} is UTF-16 or UTF-32; convert it first, e.g. with: iconv -f utf-16 -t utf-8"
        )
    return head, len(_MARK) if head.startswith(_MARK) else 0


def separator_of(head: bytes) -> str:
    """The sign of which the first row has most, outside of quotation marks."""
    first = head.decode("utf-8", "replace").partition("\n")[0]
    outside = "".join(first.split('"')[::2])
    return max(SEPARATORS, key=outside.count)


def _lines(source: Readable, name: str) -> Iterator[bytes]:
    """Lines with their ends."""
    rest = b""
    while chunk := _read(source, name):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line + b"\n"
        if len(rest) > LONGEST:
            raise InvalidDocument(f"{name} has a line of more than {LONGEST >> 20} MB; is it text?")
    if rest:
        yield rest


def _read(source: Readable, name: str, size: int = _CHUNK) -> bytes:
    try:
        return source.read(size)
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise InvalidDocument(f"{name} is damaged or not whole: {error}") from None
    except OSError as error:
        if error.errno is None:  # of gzip, bz2 and pyarrow
            raise InvalidDocument(f"{name} is damaged or not whole: {error}") from None
        raise


def _table_rows(lines: Iterator[bytes], name: str, separator: str) -> Iterator[Row]:
    taken: list[bytes] = []
    count = size = 0

    def texts() -> Iterator[str]:
        nonlocal size
        for line in lines:
            taken.append(line)
            size += len(line)
            if size > _LONGEST_CELL:
                raise unclosed()
            yield line.decode("utf-8", "surrogateescape")
        if taken:  # only within quotation marks does a row go on behind its line
            raise unclosed()

    def unclosed() -> InvalidDocument:
        return InvalidDocument(
            f"{name} has a quotation mark that never closes, behind {count:,} rows (the head is one of them)"
        )

    source = texts()
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(source, delimiter=separator)
    while True:
        taken.clear()
        size = 0
        problem, cells = "", list[str]()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problem = f"the row can't be read: {error}"
            reader = csv.reader(source, delimiter=separator)
        count += 1
        raw = b"".join(taken)
        bare = raw.removesuffix(b"\n").removesuffix(b"\r")
        yield Row(bare, len(raw), tuple(cells or [""]), problem)
