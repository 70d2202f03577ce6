"""The texts by which a command finds out what experts languages use."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dragoman.cli.messages import say
from dragoman.errors import InvalidOption
from dragoman.languages import Language, find, known_languages, of_code

if TYPE_CHECKING:
    from dragoman.evaluation.experts import ExpertStatistics
    from dragoman.translation.translator import Translator

TEXT = typer.Option(
    "--text",
    metavar="[LANGUAGE[:LANGUAGE]=]FILE",
    help="Lines in a language, fr=FILE; with translations behind a tab, fr:en=FILE; or lines whose "
    "languages are detected, FILE. Repeat.",
)


@dataclass(frozen=True)
class Text:
    """A file of lines, and what is said of its languages, in the user's spelling."""

    lines: tuple[str, ...]
    file: Path
    source: str | None = None
    target: str | None = None

    def pairs(self) -> list[tuple[str, str]]:
        """Lines and translations; InvalidOption for a line that has none. Further columns don't count."""
        found = []
        for number, line in enumerate(self.lines, 1):
            columns = line.split("\t")
            if len(columns) < 2 or not columns[0].strip() or not columns[1].strip():
                raise InvalidOption(
                    f"{self.file}, line {number}: there must be a text, a tab and a translation"
                )
            found.append((columns[0], columns[1]))
        return found


def read_text(item: str, option: str = "--text") -> Text:
    """FILE, LANGUAGE=FILE, or LANGUAGE:LANGUAGE=FILE.

    InvalidOption for one that can't be read, UnknownLanguage. option: named in errors.
    """
    languages, sign, name = item.partition("=")
    if not sign or Path(item).is_file():
        return Text(_lines(Path(item), option), Path(item))
    spellings = languages.split(":")
    if len(spellings) > 2:
        raise InvalidOption(f"{option} {item}: say fr=FILE, or fr:en=FILE for lines with translations")
    for spelling in spellings:
        find(spelling, known_languages())
    path = Path(name).expanduser()
    return Text(_lines(path, option), path, *spellings)


def observed(translator: "Translator", texts: Sequence[Text], to: Sequence[str]) -> "ExpertStatistics":
    """What the model's routers do with the texts. to: languages to translate to, in any spelling.

    InvalidOption or UnknownLanguage for what can't be.
    """
    from dragoman.systems.routing import Observer

    observer = Observer(translator.system)
    spoken = translator.languages
    pairs = [
        (find(str(text.source), spoken), find(text.target, spoken), text)
        for text in texts
        if text.target is not None
    ]
    alone = _by_language([text for text in texts if text.target is None], translator)
    named = [language for source, target, _ in pairs for language in (source, target)]
    wanted = [find(spelling, spoken) for spelling in to] or [*dict.fromkeys([*alone, *named])]
    total = sum(map(len, alone.values())) + 2 * sum(len(text.lines) for _, _, text in pairs)
    with _progress(total) as advance:
        for source, target, text in pairs:
            read = text.pairs()
            long = observer.read(source, target, read, advance)
            long += observer.read(target, source, [(b, a) for a, b in read], advance)
            if long:
                say(f"{text.file}: {long} sentences are too long for the model and were left out")
        for language, lines in alone.items():
            observer.translate(language, wanted, lines, advance)
    return observer.statistics()


def _by_language(texts: Sequence[Text], translator: "Translator") -> dict[Language, list[str]]:
    """All lines by their language; those that don't show theirs are left out."""
    from dragoman.text.detect import detect

    spoken, found, unsure = translator.languages, dict[Language, list[str]](), 0
    for text in texts:
        for line in text.lines:
            if text.source is not None:
                found.setdefault(find(text.source, spoken), []).append(line)
                continue
            guess = detect(line, translator.card.languages)
            if guess is None or not guess.sure or guess.foreign:
                unsure += bool(line.strip())
            else:
                found.setdefault(of_code(guess.code), []).append(line)
    if unsure:
        say(f"{unsure} lines don't show which of the model's languages they are in, and were left out")
    return found


def _lines(path: Path, option: str) -> tuple[str, ...]:
    try:
        lines = path.expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidOption(f"{option} {path} can't be read: {error}") from error
    kept = tuple(line for line in lines if line.strip())
    if not kept:
        raise InvalidOption(f"{option} {path} has no lines with text")
    return kept


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error that is told how many sentences are done further; none where no terminal is."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("reading texts", total=total)
        yield lambda count: bar.advance(task, count)
