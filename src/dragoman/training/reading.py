"""Parallel text from files of many forms, a row at a time. Bad rows are counted with their places.

| file | a row |
|---|---|
| `.tsv[.gz]` | text, tab, English, and perhaps tab, origin |
| any other text beside one of English lines (Moses) | a line of each |
| `.json[l][.gz]` | `{"translation": {"de": "...", "en": "..."}}` as of ALMA, in a list or one a line |
| `.tmx[.gz]` | a `tu` with a `tuv` in either language |
| `.parquet` | columns `de` and `en`, or a column `translation` of both |

Any other language may stand in the place of English.
"""

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any
from xml.etree import ElementTree

from dragoman.errors import InvalidOption

Row = tuple[str, str, str]
"""Text, English, origin."""
ENGLISH = "en"


@dataclass
class BadRows:
    """Rows that could not be used: how many by reason, and where the first ones are."""

    SHOWN = 3

    counts: Counter[str] = field(default_factory=Counter)
    places: dict[str, list[str]] = field(default_factory=dict)

    def add(self, path: Path, place: str, reason: str) -> None:
        """place: such as "line 7"."""
        self.counts[reason] += 1
        known = self.places.setdefault(reason, [])
        if len(known) < self.SHOWN:
            known.append(f"{path}, {place}")

    def __str__(self) -> str:
        """One line for each reason; empty if there is nothing bad."""
        return "\n".join(
            f"{count:,} with {reason}: " + "; ".join(self.places[reason] + ["..."] * (count > self.SHOWN))
            for reason, count in self.counts.most_common()
        )


def read_rows(
    path: str | Path,
    language: str,
    bad: BadRows,
    english: str | Path | None = None,
    other: str = ENGLISH,
) -> Iterator[Row]:
    """The rows of a file, in their order.

    language: the short code of the text that is not English. english: of Moses' pairs of files the other one.
    other: what stands there instead of English.
    Pairs whose origin ends in `+hant` mix Traditional script into Simplified Chinese and are left out.
    InvalidOption if a file can't be opened or its form is none of the above.
    """
    path = Path(path)
    for text, translation, origin, place in _found(path, (language, other), bad, english):
        sides = [" ".join(side.split()) for side in (text, translation)]
        if not all(sides):
            bad.add(path, place, "an empty side")
        elif origin.endswith("+hant"):
            bad.add(path, place, "Traditional script in Simplified Chinese")
        else:
            yield sides[0], sides[1], origin


_Found = Iterator[tuple[str, str, str, str]]
"""Text, English, origin, place."""


def kind_of(path: Path) -> str:
    """The end of a file's name, compressed or not: "tsv"."""
    return path.name.removesuffix(".gz").rpartition(".")[2].lower()


def _found(path: Path, codes: tuple[str, str], bad: BadRows, english: str | Path | None) -> _Found:
    if english is not None:
        return _moses(path, Path(english), bad)
    kind = kind_of(path)
    if kind == "tsv":
        return _tsv(path, bad)
    if kind in ("json", "jsonl"):
        return _pairs(path, json_rows(path, bad), codes, bad)
    if kind == "tmx":
        return _tmx(path, codes, bad)
    if kind == "parquet":
        return _pairs(path, parquet_rows(path, {"translation", *codes, "origin"}, bad), codes, bad)
    raise InvalidOption(
        f"{path} is no .tsv, .json, .jsonl, .tmx or .parquet; plain text needs a second file of English lines"
    )


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    try:
        raw = path.open("rb")
    except OSError as error:
        raise InvalidOption(f"{path} can't be read: {error}") from error
    with raw, gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw as file:
        yield file


def utf8_lines(path: Path, bad: BadRows) -> Iterator[tuple[int, str | None]]:
    """The lines with their numbers from 1, None for other bytes than UTF-8.

    A file that is cut off ends there. A byte order mark is none of the text.
    """
    number = 0
    with _opened(path) as file:
        while True:
            try:
                line = file.readline()
            except (EOFError, OSError, zlib.error) as error:
                bad.add(path, f"behind line {number}", f"a file that is damaged from there on ({error})")
                return
            if not line:
                return
            number += 1
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError:
                bad.add(path, f"line {number}", "other bytes than UTF-8")
                yield number, None


def _tsv(path: Path, bad: BadRows) -> _Found:
    for number, line in utf8_lines(path, bad):
        cells = (line or "").split("\t")
        if len(cells) > 1:
            yield cells[0], cells[1], cells[2] if len(cells) > 2 else "", f"line {number}"
        elif line:
            bad.add(path, f"line {number}", "no tab")


def _moses(path: Path, english: Path, bad: BadRows) -> _Found:
    for one, other in zip_longest(utf8_lines(path, bad), utf8_lines(english, bad)):
        if one is None or other is None:
            longer, number = (path, one[0]) if other is None else (english, other[0])
            bad.add(longer, f"line {number}", "no line beside it in the other file")
        elif one[1] is not None and other[1] is not None:
            yield one[1], other[1], "", f"line {one[0]}"


_Objects = Iterable[tuple[str, Any]]
"""Place and row."""


def json_rows(path: Path, bad: BadRows) -> _Objects:
    """The objects of a list, or one a line, with their places."""
    if path.name.removesuffix(".gz").endswith(".json"):
        try:
            with _opened(path) as file:
                return _listed(path, file.read(), bad)
        except (EOFError, OSError, zlib.error):
            pass  # cut off: what there is of lines is read, and the place told
    return _parsed(path, bad)


def _pairs(path: Path, rows: _Objects, codes: tuple[str, str], bad: BadRows) -> _Found:
    for place, row in rows:
        yield from _pair(path, place, row, codes, bad)


def _listed(path: Path, data: bytes, bad: BadRows) -> Iterable[tuple[str, Any]]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return _parsed(path, bad)  # one a line, whatever the file's name says
    rows = found.get("data") if isinstance(found, dict) else found
    if not isinstance(rows, list):
        rows = [found]
    return ((f"row {number}", row) for number, row in enumerate(rows, 1))


def _parsed(path: Path, bad: BadRows) -> Iterator[tuple[str, Any]]:
    for number, line in utf8_lines(path, bad):
        try:
            if line and line.strip():
                yield f"line {number}", json.loads(line)
        except (ValueError, RecursionError):
            bad.add(path, f"line {number}", "no JSON")


def _pair(path: Path, place: str, row: Any, codes: tuple[str, str], bad: BadRows) -> _Found:
    """The two texts of a row, in `translation` or in the row itself."""
    texts = row.get("translation", row) if isinstance(row, dict) else {}
    for code in codes:
        if not isinstance(texts, dict) or not isinstance(texts.get(code), str):
            bad.add(path, place, f"no text in {code}")
            return
    origin = row.get("origin", "")
    yield texts[codes[0]], texts[codes[1]], origin if isinstance(origin, str) else "", place


def _tmx(path: Path, codes: tuple[str, str], bad: BadRows) -> _Found:
    number = 0
    with _opened(path) as file:
        try:
            for _, element in ElementTree.iterparse(file):
                if element.tag.rpartition("}")[2] != "tu":
                    continue
                number += 1
                row = dict(_variants(element))
                element.clear()  # what was read takes no memory
                yield from _pair(path, f"unit {number}", row, codes, bad)
        except (ElementTree.ParseError, EOFError, OSError, zlib.error) as error:
            bad.add(path, f"behind unit {number}", f"a file that is damaged from there on ({error})")


def _variants(unit: ElementTree.Element) -> Iterator[tuple[str, str]]:
    """The short code of each language of a unit, and its text without the markup of its own."""
    for variant in unit:
        if variant.tag.rpartition("}")[2] != "tuv":
            continue
        names = ("{http://www.w3.org/XML/1998/namespace}lang", "lang")
        code = next((variant.attrib[name] for name in names if name in variant.attrib), "")
        segment = next((part for part in variant if part.tag.rpartition("}")[2] == "seg"), None)
        if segment is not None:
            yield code.replace("_", "-").split("-")[0].lower(), "".join(_words(segment))


def _words(segment: ElementTree.Element) -> Iterator[str]:
    """A segment's text; what stands inside bpt, ept, ph and it is code of the file it came from."""
    yield segment.text or ""
    for part in segment:
        if part.tag.rpartition("}")[2] == "hi":
            yield from _words(part)
        yield part.tail or ""


def parquet_rows(path: Path, wanted: Collection[str], bad: BadRows) -> _Objects:
    """The rows of a table, with their places; of its columns those that are wanted."""
    if path.suffix == ".gz":
        raise InvalidOption(f"{path}: Parquet is compressed as it is; unpack the file (gunzip)")
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise InvalidOption(f"{path}: Parquet needs pyarrow: pip install 'dragoman[parquet]'") from None
    number = 0
    try:
        with ParquetFile(path) as file:
            columns = [name for name in file.schema_arrow.names if name in wanted]
            for batch in file.iter_batches(columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except FileNotFoundError as error:
        raise InvalidOption(f"{path} can't be read: {error}") from error
    except (ArrowException, OSError) as error:
        bad.add(path, f"behind row {number}", f"a file that is damaged from there on ({error})")
