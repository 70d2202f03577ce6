"""Files that `dragoman translate` takes as documents: which they are, where they go, what is said of them."""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dragoman import languages as table
from dragoman.cli.inputs import STREAM
from dragoman.cli.locales import preferred_language
from dragoman.cli.messages import SOME_FAILED, say, worded
from dragoman.cli.progress import sentences
from dragoman.cli.records import as_json, document_record
from dragoman.cli.report import Report
from dragoman.documents.document import Document
from dragoman.documents.formats import FORMATS, LARGEST, Format, by_name, find_format, has_format, parse
from dragoman.errors import InvalidDocument, InvalidOption
from dragoman.files import OutputFile, StandardOutput

if TYPE_CHECKING:
    from dragoman.translation.files import DocumentTranslation
    from dragoman.translation.translator import Translator

LINES = "lines"
"""What --format calls files that are translated line by line."""

FORMAT_NAMES = ", ".join([*(format.name for format in FORMATS), LINES])


@dataclass(frozen=True)
class Destination:
    """Where translated files go."""

    output: str | None = None
    folder: Path | None = None
    overwrite: bool = False
    json: bool = False


def as_documents(texts: Sequence[str] | None, file: str | None, format: str | None) -> list[str] | None:
    """The files that are to be translated as documents, - for standard input; None if none are.

    With a format everything given is a file of it. Without one, arguments are files if all of them exist and
    have a document's extension, and so is --input, except for plain text. Raises InvalidOption.
    """
    if format == LINES:
        return None
    if format is not None:
        if texts and file is not None:
            raise InvalidOption("give files or --input, not both")
        return [file] if file is not None else list(texts or [STREAM])
    if file is not None:
        is_document = has_format(file) and find_by_extension(file) != "text" and _is_file(file)
        return [file] if is_document and not texts else None
    found = [text for text in texts or () if has_format(text) and _is_file(text)]
    if not found:
        return None
    for text in texts or ():
        if text not in found:
            what = "a file of no known format" if _is_file(text) else "no file"
            raise InvalidOption(
                f"{found[0]} is a document, but {text[:60]!r} is {what}; give one kind at a time"
            )
    return found


def find_by_extension(path: str) -> str | None:
    """The name of the first format with a file's extension."""
    return by_name(Path(path).suffix).name if has_format(path) else None


class DocumentSession:
    """One command: the documents it translates one after the other, and what it says of them."""

    def __init__(
        self, files: Sequence[str], format: str | None, columns: Sequence[str] | None, to: Destination
    ) -> None:
        """Raises InvalidOption for what can't be, before anything is loaded."""
        self._format = None if format is None else by_name(format)
        self._columns, self._to = columns, to
        if len(files) > 1 and to.output is not None:
            raise InvalidOption(f"{len(files)} files can't go to one --output; give a folder: --output-dir")
        if to.output is not None and to.folder is not None:
            raise InvalidOption("give --output or --output-dir, not both")
        if to.json and self._is_streamed(files):
            raise InvalidOption("--json tells of files that are written; give an --output")
        if STREAM in files and len(files) > 1:
            raise InvalidOption("'-' stands for standard input, so it can't be one of several files")
        self._documents = [(file, *self._read(file)) for file in files]
        self._failed = 0

    def run(self, translator: "Translator", options: dict[str, Any]) -> None:
        """Translate all files."""
        if "target" not in options:
            options["target"] = preferred_language([language.nllb for language in translator.languages])
        target = table.find(options["target"], translator.languages)
        places = [self._place(file, target, options.get("source")) for file, *_ in self._documents]
        repeated = [place for place, count in Counter(places).items() if count > 1]
        if repeated:
            raise InvalidOption(f"several files would become {repeated[0]}; translate them one at a time")
        for (file, data, format), place in zip(self._documents, places, strict=True):
            document = self._parsed(file, data, format)
            with sentences() as advance:
                result = translator.translate_document(document, progress=advance, **options)
            if result.source == result.target:
                spoken = table.of_code(result.target).name
                raise InvalidOption(f"{file} is {spoken} already; say what to translate it to (--to)")
            self._write(place, result.data)
            self._tell(file, place, result)

    def close(self) -> None:
        """Fail if something couldn't be translated."""
        if self._failed:
            raise typer.Exit(SOME_FAILED)

    def _is_streamed(self, files: Sequence[str]) -> bool:
        """Whether a document goes to standard output."""
        to = self._to
        return to.output == STREAM or (STREAM in files and to.output is None)

    def _read(self, file: str) -> tuple[bytes, Format]:
        if file == STREAM:
            if self._format is None:
                raise InvalidOption("say what standard input is: --format")
            if sys.stdin is None:  # and 0 would be the next file that is opened
                raise InvalidOption("standard input is closed; give files")
            with open(0, "rb", closefd=False) as stream:
                return stream.read(LARGEST + 1), self._format
        try:
            with open(file, "rb") as stream:
                data = stream.read(LARGEST + 1)
        except OSError as error:
            raise InvalidOption(f"{file} can't be read: {error.strerror}") from None
        return data, self._format or find_format(file, data)

    def _parsed(self, file: str, data: bytes, format: Format) -> Document:
        try:
            return parse(data, format, self._columns)
        except InvalidDocument as error:
            raise InvalidDocument(f"{file}: {error}") from None

    def _place(self, file: str, target: table.Language, source: str | None) -> str:
        """Where the translation of a file goes."""
        from dragoman.translation.files import beside

        if self._is_streamed([file]):
            return STREAM
        if self._to.output is not None:
            return self._to.output
        spoken = table.find_source(source, table.known_languages()) if source else None
        path = beside(file, target, spoken)
        if self._to.folder is not None:
            path = self._to.folder / path.name
        if path.exists() and not self._to.overwrite:
            raise InvalidOption(f"{path} exists already; --overwrite replaces it, --output names another")
        return str(path)

    def _write(self, place: str, data: bytes) -> None:
        if place == STREAM:
            StandardOutput().write(data)
            return
        if self._to.folder is not None:
            self._to.folder.mkdir(parents=True, exist_ok=True)
        with OutputFile(Path(place)) as file:
            for part in file.left_behind:
                say(f"note: {part} holds what an earlier run did and did not complete; it stays as it is")
            file.write(data)

    def _tell(self, file: str, place: str, result: "DocumentTranslation") -> None:
        report = Report(f"{_named(file)}, {result.unit}")
        for one in result.segments:
            name = f"{one.segment.name}: " if one.segment.name else ""
            if one.error is not None:
                report.tell(one.segment.place, f"{name}{worded(one.error)}; it stays as it is", "error")
            for warning in one.warnings:
                report.tell(one.segment.place, f"{name}{warning}", warning.kind)
        for number in result.skipped:
            report.tell(number, "its markup can't be told from its words; it stays as it is", "skipped")
        report.close()
        failed = len(result.skipped) + sum(one.error is not None for one in result.segments)
        self._failed += failed
        if result.detected is not None and result.source is not None:
            say(f"detected: {table.of_code(result.source).name} ({result.source})")
        if failed:
            say(f"{failed} of {len(result.segments) + len(result.skipped)} segments stay as they were")
        if place != STREAM:
            say(f"{_named(file)}: translated to {place}")
        if self._to.json:
            StandardOutput().write((as_json(document_record(file, place, result)) + "\n").encode())


def _is_file(text: str) -> bool:
    try:
        return os.path.isfile(text)
    except ValueError:  # a NUL, or a lone surrogate
        return False


def _named(file: str) -> str:
    return "standard input" if file == STREAM else file
