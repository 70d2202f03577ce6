"""The table of formats: what they are called, and which files are theirs."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

from dragoman.documents.document import Document
from dragoman.errors import InvalidDocument, InvalidOption

LARGEST = 1 << 30
"""Bytes that a file may have."""


@dataclass(frozen=True)
class Format:
    """A format of files, whose module has `parse(data: bytes) -> Document`."""

    name: str
    title: str
    extensions: tuple[str, ...]
    module: str
    content: str | None = None
    """A regular expression for how such a file begins, where others have the same extension."""
    options: frozenset[str] = frozenset()
    """What `parse` takes beside the file: "columns" or "max_line"."""


_COLUMNS, _MAX_LINE = frozenset(("columns",)), frozenset(("max_line",))
_MEANT = {"columns": "columns are for tables", "max_line": "a longest line is for subtitles"}

FORMATS = (
    Format("text", "plain text", (".txt", ".text"), "text"),
    Format("markdown", "Markdown", (".md", ".markdown"), "markdown"),
    Format("html", "HTML", (".html", ".htm", ".xhtml"), "html"),
    Format("json", "JSON", (".json", ".arb"), "json"),
    Format("yaml", "YAML", (".yml", ".yaml"), "yaml"),
    Format("properties", "Java properties", (".properties",), "properties"),
    Format("po", "gettext catalogues", (".po", ".pot"), "po"),
    Format("srt", "SubRip subtitles", (".srt",), "subtitles", options=_MAX_LINE),
    Format("vtt", "WebVTT subtitles", (".vtt",), "subtitles", options=_MAX_LINE),
    Format("ass", "subtitles with styles", (".ass", ".ssa"), "ass", options=_MAX_LINE),
    Format("docx", "Word documents", (".docx", ".docm", ".dotx", ".dotm"), "docx"),
    Format("pptx", "presentations", (".pptx", ".pptm", ".ppsx", ".potx"), "pptx"),
    Format("xlsx", "spreadsheets", (".xlsx", ".xlsm", ".xltx"), "xlsx"),
    Format(
        "odf",
        "OpenDocument texts, spreadsheets and presentations",
        (".odt", ".ott", ".ods", ".ots", ".odp", ".otp"),
        "odf",
    ),
    Format("epub", "electronic books", (".epub",), "epub"),
    Format("android", "Android strings", (".xml",), "android", r"<resources[\s>]"),
    Format("xliff", "XLIFF", (".xlf", ".xliff"), "xliff"),
    Format("tmx", "translation memories", (".tmx",), "tmx"),
    Format("csv", "tables", (".csv", ".tsv"), "table", options=_COLUMNS),
    Format("parquet", "Parquet tables", (".parquet",), "parquet", options=_COLUMNS),
    Format("strings", "iOS strings", (".strings",), "strings"),
)


def by_name(name: str) -> Format:
    """The format of this name or extension. Raises InvalidOption."""
    wanted = name.lower().removeprefix(".")
    for format in FORMATS:
        if wanted == format.name or f".{wanted}" in format.extensions:
            return format
    known = [format.name for format in FORMATS]
    near = get_close_matches(wanted, known, n=1)
    hint = f"do you mean {near[0]!r}?" if near else f"the formats are {', '.join(known)}"
    raise InvalidOption(f"{name!r} is no format; {hint}")


def has_format(path: str | os.PathLike[str]) -> bool:
    """Whether a file's name has the extension of a document."""
    extension = Path(path).suffix.lower()
    return any(extension in format.extensions for format in FORMATS)


def find_format(path: str | os.PathLike[str], data: bytes) -> Format:
    """The format of a file, by its extension and how it begins. Raises InvalidDocument if it has none."""
    extension = Path(path).suffix.lower()
    found = [format for format in FORMATS if extension in format.extensions]
    for format in found:
        if format.content is None or re.search(format.content.encode(), data[:4096]):
            return format
    name = Path(path).name
    if found:
        titles = " or ".join(format.title for format in found)
        raise InvalidDocument(f"{name} doesn't look like {titles}; say what it is with a format")
    known = ", ".join(extension for format in FORMATS for extension in format.extensions)
    raise InvalidDocument(
        f"{name} has no extension of a known format ({known}); say what it is with a format"
    )


def parse(
    data: bytes, format: Format | str, columns: Sequence[str] | None = None, max_line: int | None = None
) -> Document:
    """The document in the bytes of a file.

    columns: of a table, those to translate, by name or number from 1 on; all if None. max_line: characters
    that no line of subtitles may have more than; None for as many lines as there were. Raises InvalidDocument
    and InvalidOption.
    """
    if isinstance(format, str):
        format = by_name(format)
    if len(data) > LARGEST:
        raise InvalidDocument(f"the file has {len(data):,} bytes; at most {LARGEST:,} are read")
    read: Callable[..., Document] = import_module(f"dragoman.documents.{format.module}").parse
    given = {
        name: value for name, value in (("columns", columns), ("max_line", max_line)) if value is not None
    }
    for name in given.keys() - format.options:
        raise InvalidOption(f"{_MEANT[name]}, not for {format.title}")
    return read(data, **given)


def open(
    path: str | os.PathLike[str],
    format: str | None = None,
    columns: Sequence[str] | None = None,
    max_line: int | None = None,
) -> Document:
    """The document in a file; its name tells the format if none is said. Raises as `parse`, and OSError."""
    with Path(path).open("rb") as file:
        data = file.read(LARGEST + 1)
    return parse(data, find_format(path, data) if format is None else format, columns, max_line)
