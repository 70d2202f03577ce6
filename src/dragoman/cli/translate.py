"""`dragoman translate`: texts, lines of a file, or standard input, as they come."""

import contextlib
import sys
from collections import Counter, deque
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dragoman import languages as table
from dragoman.cli.aids import FallbackName, GlossaryFiles, read_glossaries
from dragoman.cli.commands import pick, takes
from dragoman.cli.documents import FORMAT_NAMES, Destination, DocumentSession, as_documents
from dragoman.cli.durable import Durable, Watched
from dragoman.cli.inputs import STREAM, Input, Item, open_input
from dragoman.cli.locales import preferred_language
from dragoman.cli.memories import open_memory
from dragoman.cli.messages import SOME_FAILED, say, worded
from dragoman.cli.model import load, serve_rank, vocabulary_text
from dragoman.cli.progress import progress
from dragoman.cli.records import as_json, error_record, translation_record
from dragoman.cli.report import Report
from dragoman.errors import DragomanError, InvalidOption, InvalidText, LanguageModuleError, RankFailed
from dragoman.files import OutputFile, StandardOutput
from dragoman.generation.options import GenerationOptions
from dragoman.limits import written_size
from dragoman.translation.options import LoadOptions, TextOptions

if TYPE_CHECKING:
    from dragoman.jobs import Run
    from dragoman.translation.results import Translation
    from dragoman.translation.translator import Translator

Sink = OutputFile | StandardOutput


@takes(
    TextOptions,
    LoadOptions,
    GenerationOptions,
    but=(
        "likely_source",
        "vocabulary_text",
        "early_stopping",
        "suppress",
        "glossary",
        "fallback",
        "translation_memory",
    ),
)
def translate(
    chosen: dict[str, Any],
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT|FILE",
            help="Texts, or files of a known format; without any, or for -, the lines of standard input.",
        ),
    ] = None,
    input_file: Annotated[
        str | None, typer.Option("--input", "-i", metavar="FILE", help="Translate this file; text by lines.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write here; complete, or not at all."),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--output-dir", metavar="FOLDER", help="Write documents here, not beside their sources."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace documents that were translated before.")
    ] = False,
    format: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="NAME", help=f"What the files are, if their names don't tell: {FORMAT_NAMES}."
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns",
            metavar="NAMES",
            help="Of tables: the columns to translate, as in title,3; all if left out.",
        ),
    ] = None,
    max_line: Annotated[
        int | None,
        typer.Option(
            "--max-line",
            metavar="NUMBER",
            min=1,
            help="Of subtitles: characters that no line may have more than, though cues get more lines.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object per line, for programs.")] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="FILE",
            help="Of documents: tell here what became of each segment, in an .html or a .json file.",
        ),
    ] = None,
    is_durable: Annotated[
        bool,
        typer.Option(
            "--job/--no-job",
            help="Keep what is done of files on the disk until all is written, to go on after any end.",
        ),
    ] = True,
    glossaries: GlossaryFiles = None,
    known: Annotated[
        Path | None,
        typer.Option(
            "--tm",
            metavar="FILE",
            help="A translation memory: .tmx, or a .sqlite file that is also told what is translated now.",
            rich_help_panel="Texts",
        ),
    ] = None,
    fallback: FallbackName = None,
    words: Annotated[
        Path | None,
        typer.Option(
            "--vocabulary-text",
            metavar="FILE",
            help="For --vocabulary: lines in the language of --to, whose tokens are in the vocabulary.",
            rich_help_panel="Model",
        ),
    ] = None,
) -> None:
    """Translate texts, standard input, or a file line by line; or documents.

    Files whose names say that they are documents (report.md) keep their form,
    and their translations lie beside them (report.de.md).

    Other input is UTF-8, or UTF-16 and UTF-32 with a byte order mark, and may be
    compressed by gzip; output is UTF-8. Every line has one in the output.
    One that can't be translated stays as it is, one that is no text is
    empty; both are reported, and the exit status is 1.
    """
    serve_rank(pick(chosen, LoadOptions))
    generation = _generation(chosen, json)
    # All that can be checked before the second or so that loading takes.
    _check_languages(chosen)
    options = pick(chosen, TextOptions) | generation
    TextOptions(**pick(chosen, TextOptions))
    loading = pick(chosen, LoadOptions)
    if words is not None:
        loading["vocabulary_text"] = vocabulary_text(words, chosen.get("vocabulary"), chosen.get("target"))
    if known is not None:
        options["translation_memory"] = open_memory(known)
    if glossaries:
        options["glossary"] = read_glossaries(glossaries)
    files = as_documents(texts, input_file, format, is_folder_likely=folder is not None)
    to = Destination(output, folder, overwrite, json, report)
    if files is not None:
        reading = {"columns": columns.split(",") if columns else None, "max_line": max_line}
        documents = DocumentSession(files, format, reading, to)
        with Durable(is_durable and documents.is_durable) as durable:
            documents.run(_loaded(loading, fallback, options), options, durable)
        documents.close()
        return
    of_documents = {
        "--output-dir": folder,
        "--overwrite": overwrite,
        "--columns": columns,
        "--max-line": max_line,
        "--report": report,
    }
    for name, value in of_documents.items():
        if value:
            raise InvalidOption(f"{name} is for documents; texts and lines have none")
    with contextlib.ExitStack() as stack:
        given = stack.enter_context(open_input(texts, input_file))
        durable = stack.enter_context(Durable(is_durable and given.size is not None))
        sink = StandardOutput() if output in (None, STREAM) else stack.enter_context(OutputFile(Path(output)))
        session = _Session(_loaded(loading, fallback, options), given, sink, json)
        session.run(options, durable)
    session.close()


def _loaded(loading: dict[str, Any], fallback: str | None, options: dict[str, Any]) -> "Translator":
    """The model, and the other one among the options if there is to be one."""
    if "source" not in options:
        from dragoman.text.langid import prepare

        prepare()
    if fallback is not None:
        options["fallback"] = load({**loading, "model": fallback, "parallel": False})
    return load(loading)


def _check_languages(chosen: dict[str, Any]) -> None:
    """Raise UnknownLanguage for what is the name of none; "auto" is as if nothing were chosen."""
    for name, find in (("source", table.find_source), ("target", table.find)):
        spelling = chosen.get(name)
        # A code may be of this model alone.
        if spelling is None or table.is_code(spelling):
            continue
        if find(spelling, table.known_languages()) is None:
            del chosen[name]


def _generation(chosen: dict[str, Any], json: bool) -> dict[str, Any]:
    """What was chosen for generation; InvalidOption if it is impossible or would be without effect."""
    generation = pick(chosen, GenerationOptions)
    if generation.get("sample"):
        generation.setdefault("beams", 1)
    GenerationOptions(**generation)
    if generation.get("n_best", 1) > 1 and not json:
        raise InvalidOption(f"--n-best {generation['n_best']} is shown with --json only; add --json")
    if "seed" in generation and not generation.get("sample"):
        raise InvalidOption("--seed is for sampling; add --sample")
    return generation


class _Session:
    """One command: what it has translated, and what it has to say about it."""

    def __init__(self, translator: "Translator", given: Input, sink: Sink, json: bool) -> None:
        self.translator, self.given, self.sink, self.json = translator, given, sink, json
        self.report = Report(given.unit)
        self.detected: Counter[str] = Counter()
        self.pivot: str | None = None
        self.terms: Counter[bool] = Counter()
        self.lines = self.failed = 0
        self.is_seen = isinstance(sink, StandardOutput) and sys.stdout.isatty()

    def run(self, options: dict[str, Any], durable: Durable) -> None:
        """Translate all that was given."""
        items = iter(self.given)
        if "target" not in options:
            options["target"], items = self._target(items, options.get("source"))
        job = self._job(options, durable)
        watched = None if job is None or self.given.path is None else Watched(self.given.path)
        waiting: deque[Item] = deque()

        def texts() -> Iterator[Any]:
            for item in items:
                waiting.append(item)
                # What is no text comes back as an error, in its place.
                yield item.text

        # A bar between printed lines would garble both.
        with progress(None if self.is_seen else self.given.size) as advance:
            results = self.translator.stream(texts(), recall=job, **options)
            with contextlib.closing(results):
                for result in results:
                    item = waiting.popleft()
                    self._take(item, result, "source" in options)
                    advance(item.position, self.lines)
                    if job is not None and self.given.size:
                        job.tell(min(item.position / self.given.size, 1.0))
        if watched is not None:
            watched.tell()
        if job is not None:
            job.close_file(0, self.lines, self.failed)

    def _job(self, options: dict[str, Any], durable: Durable) -> "Run | None":
        """What keeps the work, if a file becomes a file."""
        sink, path = self.sink, self.given.path
        if not isinstance(sink, OutputFile):
            return None
        if path is not None and sink.part is not None:
            how = {"lines": True, "json": self.json}
            durable.begin(self.translator, options, [(path, sink.name)], how)
        durable.open_file(0, path or b"", sink)
        return durable.run

    def _target(self, items: Iterator[Item], source: str | None) -> tuple[str, Iterator[Item]]:
        """The language of the user's locale, or English, unless the text is in that already."""
        codes = [language.nllb for language in self.translator.languages]
        preferred = preferred_language(codes)
        spoken: str | None
        if source:
            spoken, read = table.find(source, self.translator.languages).nllb, list[Item]()
        else:
            spoken, read = self._first_language(items, codes)
        if spoken == preferred:
            choices = ", ".join(sorted(table.of_code(c).short_code for c in codes if c != preferred)[:12])
            name = table.of_code(preferred).name
            raise InvalidOption(f"the text is {name} already; say what to translate it to: --to {choices}")
        return preferred, chain(read, items)

    def _first_language(self, items: Iterator[Item], codes: list[str]) -> tuple[str | None, list[Item]]:
        """The language of the first text with letters, and what was read for it."""
        from dragoman.text.detect import detect

        read = []
        for item in items:
            read.append(item)
            if isinstance(item.text, str) and any(char.isalpha() for char in item.text):
                found = detect(item.text[:2000], codes)
                return (found.code if found and found.sure else None), read
        return None, read

    def _take(self, item: Item, result: "Translation", source_is_given: bool) -> None:
        """Write a result, and say or remember what there is to say."""
        self.lines += 1
        error = item.text if isinstance(item.text, InvalidText) else result.error
        if error is not None:
            if isinstance(error, RankFailed) or (isinstance(error, LanguageModuleError) and source_is_given):
                raise error  # no other line can fare better
            self.failed += 1
            self.report.tell(item.number, worded(error))
        if result.detected:
            self.detected[result.source] += 1
        self.pivot = result.pivot or self.pivot
        self.terms.update(is_there for _, is_there in result.terms)
        for warning in result.warnings:
            self.report.tell(item.number, str(warning), warning.kind)
        self._write(item, result, error)

    def _write(self, item: Item, result: "Translation", error: DragomanError | None) -> None:
        if self.json:
            record = error_record(item, error) if error else translation_record(item, result)
            line = as_json(record) + "\n"
        else:
            # At a terminal the next prompt needs a line of its own.
            line = result.text + (item.end or ("\n" if self.is_seen else ""))
        encoding = sys.stdout.encoding if self.is_seen else "utf-8"
        # An argument that was no UTF-8 holds lone surrogates, which UTF-8 can't.
        self.sink.write(line.encode(encoding, "backslashreplace"))

    def close(self) -> None:
        """Say how the languages were found, and fail if any line did."""
        self.report.close()
        if self.detected:
            found = [
                f"{table.of_code(code).name} ({code})"
                + (f" in {count} of {self.lines}" if self.lines > 1 else "")
                for code, count in self.detected.most_common()
            ]
            say(f"detected: {', '.join(found)}")
        if self.pivot:
            say(f"translated by way of {table.of_code(self.pivot).name}: the model knows no direct way")
        if total := self.terms.total():
            say(f"glossary: {self.terms[True]} of {total} terms are as it has them")
        tally = self.translator.system.tally()
        if tally is not None and tally.uses:
            there = 1 - tally.misses / tally.uses
            say(
                f"experts: {there:.0%} were in memory when they were needed; {written_size(tally.bytes)} "
                f"were read from the disk, {tally.waited:.1f} s of waiting"
            )
        if self.failed:
            units = f"{self.lines} {self.given.unit}s"
            say(f"{self.failed} of {units} could not be translated and stay as they were")
            raise typer.Exit(SOME_FAILED)
