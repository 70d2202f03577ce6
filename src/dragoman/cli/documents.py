"""Files that `dragoman translate` takes as documents: which they are, where they go, what is said of them."""

import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dragoman import languages as table
from dragoman.cli.durable import Durable, Watched
from dragoman.cli.finding import Source, in_folder, is_file, is_folder, matching
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
    from dragoman.jobs import Job
    from dragoman.translation.files import DocumentTranslation
    from dragoman.translation.translator import Translator

DONE = "done"
"""The state of a job's file that has been written."""

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
    report: Path | None = None
    """Where it is told what became of each segment: .html for people, .json for programs."""


def as_documents(
    texts: Sequence[str] | None, file: str | None, format: str | None, is_folder_likely: bool = False
) -> list[Source] | None:
    """The files that are to be translated as documents, - for standard input; None if none are.

    With a format everything given is a file of it. Without one, arguments are files if all of them exist and
    have a document's extension, or are folders or patterns of such, and so is --input, except for plain text.
    is_folder_likely: take a folder's name for it even if it might be a word. Raises InvalidOption.
    """
    if format == LINES:
        return None
    if format is not None and texts and file is not None:
        raise InvalidOption("give files or --input, not both")
    only = None if format is None else by_name(format)
    given = [file] if file is not None else list(texts or ())
    found: list[Source] = []
    others = []
    for text in given:
        if is_folder(text, is_folder_likely or text == file):
            found += in_folder(text, only)
        elif sources := matching(text, only):
            found += sources
        elif format is not None or (text != STREAM and has_format(text) and is_file(text)):
            found.append(Source(text))
        else:
            others.append(text)
    if format is not None:
        return found or [Source(STREAM)]
    if file is not None:
        is_document = found and [find_by_extension(source.path) for source in found] != ["text"]
        return found if is_document and not texts else None
    if found and others:
        what = "a file of no known format" if is_file(others[0]) else "no file"
        raise InvalidOption(
            f"{found[0].path} is a document, but {others[0][:60]!r} is {what}; give one kind at a time"
        )
    return found or None


def find_by_extension(path: str) -> str | None:
    """The name of the first format with a file's extension."""
    return by_name(Path(path).suffix).name if has_format(path) else None


class DocumentSession:
    """One command: the documents it translates one after the other, and what it says of them."""

    def __init__(
        self, sources: Sequence[Source], format: str | None, reading: Mapping[str, Any], to: Destination
    ) -> None:
        """reading: options of `formats.parse`. Raises InvalidOption for what can't be, before any load."""
        self._format = None if format is None else by_name(format)
        self._reading, self._to = {**reading}, to
        files = [source.path for source in sources]
        if len(files) > 1 and to.output is not None:
            raise InvalidOption(f"{len(files)} files can't go to one --output; give a folder: --output-dir")
        if to.output is not None and to.folder is not None:
            raise InvalidOption("give --output or --output-dir, not both")
        if to.json and self._is_streamed(files):
            raise InvalidOption("--json tells of files that are written; give an --output")
        if STREAM in files and len(files) > 1:
            raise InvalidOption("'-' stands for standard input, so it can't be one of several files")
        if to.report is not None and to.report.suffix.lower() not in (".html", ".htm", ".json"):
            raise InvalidOption(f"--report {to.report}: it may be an .html or a .json file")
        self._sources = list(sources)
        self._results: list[tuple[str, str, DocumentTranslation]] = []
        self.is_durable = not self._is_streamed(files) and STREAM not in files
        """Whether it could be done again from its beginning."""
        # What can't be one document is said at once; of several each is read when its turn comes.
        self._first = self._parsed(files[0]) if len(files) == 1 else None
        self._failed = 0

    def run(self, translator: "Translator", options: dict[str, Any], durable: Durable) -> None:
        """Translate all files."""
        if "target" not in options:
            options["target"] = preferred_language([language.nllb for language in translator.languages])
        target = table.find(options["target"], translator.languages)
        work = self._work(target, options.get("source"))
        durable.begin(
            translator,
            options,
            [(source.path, place) for source, place in work],
            {"format": self._format and self._format.name, **self._reading},
            lambda job: self._check(work, job),
        )
        for number, (source, place) in enumerate(work):
            try:
                self._translate(translator, options, durable, (number, len(work)), source.path, place)
            except (InvalidDocument, _Unusable) as error:
                if len(work) == 1:
                    raise
                say(f"error: {error}")
                self._failed += 1
                if durable.run is not None:
                    durable.run.close_file(number, 0, 0, str(error))
        self._write_report()

    def _write_report(self) -> None:
        path = self._to.report
        if path is None:
            return
        if path.suffix.lower() == ".json":
            told = as_json([document_record(*one, is_whole=True) for one in self._results])
        else:
            from dragoman.translation.document_page import page

            told = page([(_named(file), result) for file, _, result in self._results])
        with OutputFile(path) as out:
            out.write(told.encode())
        say(f"what became of each segment is in {path}")

    def _work(self, target: table.Language, spoken: str | None) -> list[tuple[Source, str]]:
        """The files, and where the translation of each goes."""
        places = [self._place(source, target, spoken) for source in self._sources]
        repeated = [place for place, count in Counter(places).items() if count > 1]
        if repeated:
            raise InvalidOption(f"several files would become {repeated[0]}; translate them one at a time")
        made = {os.path.abspath(place) for place in places if place != STREAM}
        work = []
        for source, place in zip(self._sources, places, strict=True):
            if len(places) > 1 and os.path.abspath(source.path) in made:
                say(f"note: {source.path} is left out, as another file's translation goes there")
            else:
                work.append((source, place))
        return work

    def _check(self, work: Sequence[tuple[Source, str]], job: "Job | None") -> None:
        """Refuse to replace what isn't the same job's."""
        done = {file.output for file in job.files if file.digest is not None} if job else set()
        there = [
            place
            for _, place in work
            if place not in (STREAM, self._to.output)
            and os.path.exists(place)
            and Path(os.path.abspath(place)) not in done
        ]
        if there and not self._to.overwrite:
            others = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
            advice = "--overwrite replaces it, --output names another" if len(work) == 1 else "--overwrite"
            raise InvalidOption(f"{there[0]} exists already{others}; {advice}")

    def _translate(
        self,
        translator: "Translator",
        options: dict[str, Any],
        durable: Durable,
        number: tuple[int, int],
        file: str,
        place: str,
    ) -> None:
        """Translate one file, number[0] of number[1]."""
        watched = None if file == STREAM else Watched(file)
        data, document = self._first or self._parsed(file)
        is_new = durable.open_file(number[0], data, place)
        if not is_new:
            say(f"{file}: translated to {place} already")
            if not (self._to.json or self._to.report):
                return
        title = f"{Path(file).name} ({number[0] + 1}/{number[1]})" if number[1] > 1 else ""
        with sentences(title) as advance:

            def tell(done: int, known: int) -> None:
                advance(done, known)
                if durable.run is not None:
                    durable.run.tell((number[0] + done / max(known, 1)) / number[1])

            result = translator.translate_document(document, progress=tell, recall=durable.run, **options)
        if result.source == result.target:
            spoken = table.of_code(result.target).name
            raise _Unusable(f"{file} is {spoken} already; say what to translate it to (--to)")
        if is_new:
            self._write(place, result.data)
            if durable.run is not None:
                durable.run.close_file(number[0], len(result.segments), len(result.flagged))
        if watched is not None:
            watched.tell()
        self._tell(file, place, result)
        if self._to.report is not None:
            self._results.append((file, place, result))

    def close(self) -> None:
        """Fail if something couldn't be translated."""
        if self._failed:
            raise typer.Exit(SOME_FAILED)

    def _is_streamed(self, files: Sequence[str]) -> bool:
        """Whether a document goes to standard output."""
        to = self._to
        return to.output == STREAM or (STREAM in files and to.output is None)

    def _parsed(self, file: str) -> tuple[bytes, Document]:
        """What a file holds."""
        data, format = self._read(file)
        try:
            return data, parse(data, format, **self._reading)
        except InvalidDocument as error:
            raise InvalidDocument(f"{file}: {error}") from None

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
            raise _Unusable(f"{file} can't be read: {error.strerror}") from None
        return data, self._format or find_format(file, data)

    def _place(self, source: Source, target: table.Language, language: str | None) -> str:
        """Where the translation of a file goes."""
        from dragoman.translation.files import beside

        if self._is_streamed([source.path]):
            return STREAM
        if self._to.output is not None:
            return self._to.output
        spoken = table.find_source(language, table.known_languages()) if language else None
        path = beside(source.path, target, spoken)
        if self._to.folder is not None:
            path = self._to.folder / source.below / path.name
        return str(path)

    def _write(self, place: str, data: bytes) -> None:
        if place == STREAM:
            StandardOutput().write(data)
            return
        if self._to.folder is not None:
            Path(place).parent.mkdir(parents=True, exist_ok=True)
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
        kept, terms = result.terms
        if terms:
            say(f"glossary: {kept} of {terms} terms are as it has them")
        if failed:
            say(f"{failed} of {len(result.segments) + len(result.skipped)} segments stay as they were")
        if place != STREAM:
            say(f"{_named(file)}: translated to {place}")
        if self._to.json:
            StandardOutput().write((as_json(document_record(file, place, result)) + "\n").encode())


class _Unusable(InvalidOption):
    """A file that can't be translated, though others can."""


def _named(file: str) -> str:
    return "standard input" if file == STREAM else file
