"""The command line: parse, call, print."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

import dragoman
from dragoman import cli_modules
from dragoman import languages as table
from dragoman.errors import DragomanError, InvalidOption, InvalidText
from dragoman.files import OutputFile, StandardOutput
from dragoman.streams import available_lines, decode_line

if TYPE_CHECKING:
    from dragoman.translation.translator import Translation, Translator

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Self-hosted translation with NLLB-200 and NLLB-MoE.",
)
app.add_typer(cli_modules.app, name="modules")
CHUNK = 256  # lines translated together

Model = Annotated[
    str, typer.Option("--model", "-m", envvar="DRAGOMAN_MODEL", help="A name, a folder, or a hub owner/name.")
]
Precision = Annotated[
    str,
    typer.Option(
        envvar="DRAGOMAN_PRECISION",
        help="fp32 (exact), fp16, int8, int4; auto: the most exact that fits memory.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per line, for programs.")]


def main() -> None:
    """Run the command line; errors meant for people become one line and exit status 2."""
    try:
        app()
    except DragomanError as error:
        _say(f"error: {error}")
        sys.exit(2)
    except BrokenPipeError:
        # The reader went away, as `head` does; nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        _say(f"error: {error.strerror or error}: {error.filename or 'standard output'}")
        sys.exit(2)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"dragoman {dragoman.__version__}")
        raise typer.Exit


@app.command()
def translate(
    text: Annotated[
        list[str] | None, typer.Argument(help="Texts; without any, standard input by lines.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--from", "-f", help="Its language; detected if left out, or auto.")
    ] = None,
    target: Annotated[
        str | None, typer.Option("--to", "-t", help="Default: your locale's, or English.")
    ] = None,
    model: Model = "mini",
    input_file: Annotated[
        Path | None, typer.Option("--input", "-i", help="Translate this file by lines.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write here.")] = None,
    as_json: AsJson = False,
    beams: Annotated[int, typer.Option(help="Beam width; 1 is greedy.")] = 4,
    n_best: Annotated[int, typer.Option(help="Translations per sentence (shown with --json).")] = 1,
    length_penalty: Annotated[float, typer.Option(help="Above 1 favours long translations.")] = 1.0,
    no_repeat_ngram: Annotated[int, typer.Option(help="No token sequence of this length twice.")] = 0,
    repetition_penalty: Annotated[float, typer.Option(help="Above 1 discourages used tokens.")] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(help="Most tokens per sentence.")] = 256,
    sample: Annotated[bool, typer.Option("--sample", help="Draw tokens at random.")] = False,
    temperature: Annotated[float, typer.Option(help="For --sample: below 1 is safer.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="For --sample: only the k likeliest tokens; 0 is all.")] = 0,
    top_p: Annotated[
        float, typer.Option(help="For --sample: only the likeliest tokens up to this mass.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="For --sample.")] = 0,
    direct: Annotated[
        bool, typer.Option("--direct", help="Not by way of English, even if the model learned no other way.")
    ] = False,
    batch_size: Annotated[int, typer.Option(help="Most sentences translated side by side.")] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    precision: Precision = "auto",
    vocabulary: Annotated[
        int | None,
        typer.Option(help="Choose from so many tokens of the target language: faster with NLLB; try 32000."),
    ] = None,
    vocabulary_text: Annotated[
        Path | None,
        typer.Option(help="For --vocabulary: a file in the language of --to, whose tokens count."),
    ] = None,
) -> None:
    """Translate texts, standard input, or a file, line by line."""
    if text and input_file:
        raise InvalidOption("give texts or --input, not both")
    if input_file and not input_file.is_file():
        raise InvalidOption(f"--input {input_file} is no file")
    options: dict[str, Any] = {
        "beams": 1 if sample else beams,
        "n_best": n_best,
        "length_penalty": length_penalty,
        "no_repeat_ngram": no_repeat_ngram,
        "repetition_penalty": repetition_penalty,
        "max_new_tokens": max_new_tokens,
        "sample": sample,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
        "batch_size": batch_size,
        "direct": direct,
    }
    # Before the second or so that loading takes: a misspelled language should be told at once.
    for spelling, read in ((source, table.find_source), (target, table.find)):
        if spelling is not None and not table.is_code(spelling):  # a code may be of this model alone
            read(spelling)
    from dragoman.translation.translator import Translator

    words = None if vocabulary_text is None else _vocabulary_text(vocabulary_text, vocabulary, target)
    translator = Translator.load(
        model, device=device, precision=precision, vocabulary=vocabulary, vocabulary_text=words
    )
    _say_precision(precision, translator)
    session = _Session(translator, source, target, as_json, options)
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(OutputFile(output)) if output else StandardOutput()
        # A bar between printed lines would garble both.
        measured = input_file if output or not sys.stdout.isatty() else None
        session.run(_chunks(text, input_file, stack), sink, measured)
    session.close()


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="The question, in the language of --lang.")],
    lang: Annotated[str, typer.Option("--lang", "-l", help="The language of question and answer.")],
    model: Annotated[str, typer.Option("--model", "-m", envvar="DRAGOMAN_MODEL", help="An X-ALMA model.")],
    beams: Annotated[int, typer.Option(help="Beam width; 1 is greedy.")] = 5,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.")] = 512,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    precision: Precision = "auto",
) -> None:
    """Ask a chat-tuned model (X-ALMA) an open question."""
    table.find(lang)
    from dragoman.translation.translator import Translator

    translator = Translator.load(model, device=device, precision=precision)
    _say_precision(precision, translator)
    options: dict[str, Any] = {"beams": beams, "max_new_tokens": max_new_tokens}
    if sys.stdout.isatty():
        for piece in translator.ask_live(question, lang, **options):
            print(piece, end="", flush=True)
        print()
    else:
        print(translator.ask(question, lang, **options))


def _say_precision(wanted: str, translator: "Translator") -> None:
    """Quality is not given up in silence."""
    found = translator.system.precision
    if wanted == "auto" and found != "fp32":
        _say(f"precision: {found}, as fp32 would take too much memory or time here; --precision fp32 insists")


def _vocabulary_text(path: Path, size: int | None, target: str | None) -> dict[str, list[str]]:
    """The lines of --vocabulary-text, by the language of --to."""
    if size is None or target is None:
        raise InvalidOption("--vocabulary-text goes with --vocabulary and --to")
    try:
        return {target: path.read_text(encoding="utf-8").splitlines()}
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidOption(f"--vocabulary-text {path} can't be read: {error}") from error


def _chunks(
    texts: list[str] | None, path: Path | None, stack: contextlib.ExitStack
) -> Iterator[list[str | InvalidText]]:
    """The texts to translate, in groups."""
    if texts:
        yield list(texts)
        return
    if path is None and sys.stdin.isatty():
        _say("reading standard input; end with Ctrl-D")
    stream: BinaryIO = stack.enter_context(path.open("rb")) if path else sys.stdin.buffer
    number = 0
    for group in available_lines(stream, CHUNK):
        yield [decode_line(line, number + i) for i, line in enumerate(group, 1)]
        number += len(group)


class _Session:
    """One `translate` command: what it has translated, and what it has to say about it."""

    def __init__(
        self,
        translator: "Translator",
        source: str | None,
        target: str | None,
        as_json: bool,
        options: dict[str, Any],
    ) -> None:
        self.translator, self.source, self.target = translator, source, target
        self.as_json, self.options = as_json, options
        self.detected: dict[str, int] = {}
        self.pivot: str | None = None
        self.lines = self.failed = 0

    def run(
        self,
        chunks: Iterator[list[str | InvalidText]],
        sink: OutputFile | StandardOutput,
        measured: Path | None,
    ) -> None:
        """Translate all chunks into `sink`, with a progress bar over the lines of `measured`."""
        with _progress(measured) as advance:
            for chunk in chunks:
                good = [text for text in chunk if isinstance(text, str)]
                target = self._target(good)
                likely = max(self.detected, key=lambda code: self.detected[code]) if self.detected else None
                stream = self.translator.stream(
                    good,
                    self.source,
                    target,
                    likely_source=likely,
                    progress=partial(self._advance, advance, self.lines, len(chunk)),
                    **self.options,
                )
                for text in chunk:
                    result = next(stream) if isinstance(text, str) else text
                    self._write(text, result, sink)
                advance(self.lines, 0)

    def _advance(
        self, advance: Callable[[int, float], None], before: int, size: int, done: int, known: int
    ) -> None:
        advance(before, size * done / known)

    def _target(self, texts: list[str]) -> str:
        """What --to says, or the language of the user's locale, or English."""
        if self.target is None:
            codes = [language.nllb for language in self.translator.languages]
            preferred = _locale_language(codes) or "eng_Latn"
            from dragoman.text.detect import detect

            given = table.find_source(self.source, self.translator.languages)
            found = detect("\n".join(texts)[:2000], codes) if given is None else None
            spoken = given.nllb if given else found.code if found and found.sure else None
            if spoken == preferred:
                choices = ", ".join(sorted(table.of_code(c).short_code for c in codes if c != preferred)[:12])
                name = table.find(preferred).name
                raise InvalidOption(
                    f"the text is {name} already; say what to translate it to: --to {choices}"
                )
            self.target = preferred
        return self.target

    def _write(
        self, text: object, result: "Translation | InvalidText", sink: OutputFile | StandardOutput
    ) -> None:
        self.lines += 1
        error = result if isinstance(result, InvalidText) else result.error
        if error is not None:
            self.failed += 1
            _say(str(error) if text is error else f"line {self.lines}: {error}")
        if isinstance(result, InvalidText):
            shown, fields = "", {"error": str(error)}
        else:
            self._note(result)
            shown, fields = result.text, _as_dict(str(text), result)
        line = json.dumps(fields, ensure_ascii=False) if self.as_json else shown
        # An argument that was no UTF-8 holds lone surrogates, which UTF-8 can't.
        sink.write(line.encode("utf-8", "backslashreplace") + b"\n")

    def _note(self, result: "Translation") -> None:
        if result.detected:
            self.detected[result.source] = self.detected.get(result.source, 0) + 1
        self.pivot = result.pivot or self.pivot
        for warning in result.warnings:
            _say(f"line {self.lines}: {warning}")

    def close(self) -> None:
        """Say how the languages were found, and fail if any line did."""
        if self.detected:
            found = [
                f"{table.find(code).name} ({code})"
                + (f" in {count} of {self.lines}" if self.lines > 1 else "")
                for code, count in sorted(self.detected.items(), key=lambda item: -item[1])
            ]
            _say(f"detected: {', '.join(found)}")
        if self.pivot:
            _say(f"translated by way of {table.find(self.pivot).name}: the model knows no direct way")
        if self.failed:
            _say(f"{self.failed} of {self.lines} lines could not be translated; they are empty in the output")
            raise typer.Exit(1)


def _as_dict(text: str, result: "Translation") -> dict[str, Any]:
    if result.error:
        return {"source_text": text, "error": str(result.error)}
    return {
        "source_text": text,
        "text": result.text,
        "source": result.source,
        "target": result.target,
        "detected": result.detected
        and {"language": result.detected.code, "confidence": result.detected.confidence},
        "pivot": result.pivot,
        "sentences": [
            {
                "source": sentence.source,
                "candidates": [
                    {"text": c.text, "score": c.score, "tokens": c.tokens, "complete": c.complete}
                    for c in sentence.candidates
                ],
            }
            for sentence in result.sentences
        ],
        "warnings": [
            {"kind": warning.kind, "sentence": warning.sentence, "message": str(warning)}
            for warning in result.warnings
        ],
    }


def _locale_language(spoken: list[str]) -> str | None:
    name = os.environ.get("LC_ALL") or os.environ.get("LANG", "")
    try:
        code = table.find(name).nllb
    except DragomanError:
        return None
    return code if code in spoken else None


@contextlib.contextmanager
def _progress(path: Path | None) -> Iterator[Callable[[int, float], None]]:
    """A progress bar on standard error over the lines of a file; nothing if there is no file."""
    if path is None:
        yield lambda lines, part: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    with open(path, "rb") as file:
        total = sum(1 for _ in file)
    columns = ("[progress.percentage]{task.percentage:>3.0f}%", BarColumn(), MofNCompleteColumn())
    with Progress(*columns, "lines", TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total)
        yield lambda lines, part: bar.update(task, completed=int(lines + part))


@app.command("languages")
def list_languages(
    model: Annotated[str | None, typer.Option("--model", "-m", help="Only those this model speaks.")] = None,
    as_json: AsJson = False,
) -> None:
    """List languages: codes, names, script, X-ALMA group."""
    rows = table.all_languages()
    if model is not None:
        from dragoman.checkpoints.catalog import ModelCard, locate

        card = ModelCard.from_folder(locate(model), 1024)
        rows = tuple(row for row in rows if row.nllb in card.languages)
    if as_json:
        for row in rows:
            fields: dict[str, Any] = {"code": row.nllb, "iso1": row.iso1, "iso3": row.iso3, "name": row.name}
            fields |= {"own_name": row.own_name, "script": row.script, "xalma_group": row.group}
            print(json.dumps(fields, ensure_ascii=False))
        return
    _table(
        ("code", "short", "name", "own name", "script", "X-ALMA group"),
        [(r.nllb, r.short_code, r.name, r.own_name, r.script_name, str(r.group or "")) for r in rows],
    )


@app.command("models")
def list_models(as_json: AsJson = False) -> None:
    """List models by name, with size and licence; any NLLB folder or hub repository works too."""
    from dragoman.checkpoints.catalog import KNOWN

    if as_json:
        for model in KNOWN:
            print(json.dumps(model.__dict__))
        return
    _table(
        ("name", "parameters", "download, about", "licence of the weights", ""),
        [(m.name, m.parameters, f"{m.size_gb:g} GB", m.licence, m.summary) for m in KNOWN],
    )


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    # Piped output keeps its full width, so that grep and cut see whole lines.
    console = Console(width=None if sys.stdout.isatty() else 160)
    grid = Table(*heads, box=None, pad_edge=False)
    for row in rows:
        grid.add_row(*row)
    console.print(grid)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
