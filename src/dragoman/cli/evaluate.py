"""`dragoman evaluate`: how well a model translates test sets, or how well somebody else did."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dragoman.cli.commands import pick, takes
from dragoman.cli.messages import put, say
from dragoman.cli.model import load, serve_rank
from dragoman.cli.progress import sentences
from dragoman.cli.tables import print_table
from dragoman.errors import InvalidOption
from dragoman.evaluation.testsets import ENGLISH, NAMES, TestSet, find_testset, read_lines
from dragoman.generation.options import GenerationOptions
from dragoman.languages import find
from dragoman.translation.options import LoadOptions

if TYPE_CHECKING:
    from dragoman.evaluation.comparing import Comparison
    from dragoman.evaluation.scoreboard import Result
    from dragoman.translation.translator import Translator

FIGURES, PAGE, OUTPUTS = "scores.json", "scores.html", "outputs"
"""What is in the folder of --out."""


@takes(
    LoadOptions,
    GenerationOptions,
    but=("model", "vocabulary", "vocabulary_text", "early_stopping", "suppress", "n_best"),
)
def evaluate(
    chosen: dict[str, Any],
    testset: Annotated[
        list[str],
        typer.Option(
            metavar="NAME", help="ntrex, flores, tatoeba, a folder of <xx>-en.tsv, or a .tsv. Repeat."
        ),
    ],
    model: Annotated[
        str | None,
        typer.Argument(help="A model's name, folder or hub owner/name; none to score --outputs alone."),
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option(metavar="PAIRS", help="en-de,de-en; else all of the model's with English."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help=f"Where {', '.join(NAMES)} are: ntrex/, flores200-devtest/, held-out/."
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(metavar="LINES", help="Only so many lines of each.", min=1, show_default=False),
    ] = None,
    outputs: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PATH",
            help="Translations that are there: a folder as --out writes it, or a file. Repeat.",
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Compare all others with this one by paired bootstrap.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A folder for all figures, a page and the translations."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All figures as one line of JSON.")] = False,
) -> None:
    """Score translations of test sets: chrF++, BLEU and spBLEU, loops, lost numbers.

    Scores are sacrebleu's, with its signatures. spBLEU needs the file
    that sacrebleu --tokenize flores200 downloads, and is left out
    without it.
    """
    if model is not None:
        serve_rank({"model": model, **pick(chosen, LoadOptions)})
    from dragoman.evaluation.metrics import need_sacrebleu

    need_sacrebleu()
    given = dict(map(_named_path, outputs or ()))
    _check(model, given, pairs, baseline, out)
    translator = None if model is None else load({"model": model, **pick(chosen, LoadOptions)})
    sets = list(_testsets(testset, data, limit, _pairs(pairs, translator)))
    if not sets:
        raise InvalidOption(
            f"no test set has any of these pairs: {', '.join(testset)}; check --pairs and --data"
        )
    board = _Board(out)
    for chosen_set in sets:
        _evaluate(board, chosen_set, model, translator, pick(chosen, GenerationOptions), given, len(sets))
    comparisons = {} if baseline is None else board.compared(baseline)
    _write(board, comparisons, as_json)


def _check(
    model: str | None, given: Mapping[str, Path], pairs: str | None, baseline: str | None, out: Path | None
) -> None:
    if model is None and not given:
        raise InvalidOption(
            "name a model to evaluate, or translations that are there with --outputs NAME=PATH"
        )
    if model is None and pairs is None:
        raise InvalidOption("without a model say which directions are meant: --pairs en-de,de-en")
    systems = [*given] if model is None else [model, *given]
    if baseline is not None and (baseline not in systems or len(systems) < 2):
        raise InvalidOption(
            f"--baseline {baseline} must be one of at least two systems; there are {', '.join(systems)}"
        )
    if out is not None and out.exists() and not out.is_dir():
        raise InvalidOption(f"--out {out} is a file; give a folder")


def _named_path(item: str) -> tuple[str, Path]:
    name, equals, path = item.partition("=")
    if not (name and equals and path):
        raise InvalidOption(f"--outputs {item}: write NAME=PATH")
    found = Path(path).expanduser()
    if not found.exists():
        raise InvalidOption(f"--outputs {item}: there is no {path}")
    return name, found


def _pairs(pairs: str | None, translator: "Translator | None") -> list[tuple[str, str]]:
    """NLLB codes of each direction."""
    if pairs is None:
        assert translator is not None
        codes = [language.nllb for language in translator.languages if language.nllb != ENGLISH]
        return [pair for code in codes for pair in ((ENGLISH, code), (code, ENGLISH))]
    found = []
    for item in pairs.split(","):
        sides = item.strip().split("-") if item.count("-") == 1 else item.strip().split(":")
        if len(sides) != 2 or not all(sides):
            raise InvalidOption(
                f"--pairs {item}: write two languages with a hyphen, such as en-de (zh-Hans:en with a colon)"
            )
        found.append((find(sides[0]).nllb, find(sides[1]).nllb))
    return found


def _testsets(
    names: Sequence[str], data: Path | None, limit: int | None, pairs: Sequence[tuple[str, str]]
) -> Iterator[TestSet]:
    for name in names:
        if Path(name).is_file() and len(pairs) != 1:
            raise InvalidOption(f"--testset {name} is a file and has one direction; say which: --pairs en-de")
        for source, target in pairs:
            found = find_testset(name, data, source, target)
            if found is None:
                say(f"{name} has no {source} with {target}")
            elif len(found):
                yield found if limit is None else found.first(limit)


class _Board:
    """What has been scored so far, and where the translations are kept."""

    def __init__(self, out: Path | None) -> None:
        self.out = out
        self.results: list[Result] = []
        self.translations: dict[str, tuple[TestSet, dict[str, list[str]]]] = {}
        """By test set and direction: the translations of each system."""

    def add(self, system: str, testset: TestSet, texts: list[str], seconds: float | None) -> None:
        from dragoman.evaluation.scoreboard import result

        self.results += result(system, testset, texts, seconds)
        name = f"{testset.name} {testset.pair}"
        self.translations.setdefault(name, (testset, {}))[1][system] = texts
        if seconds is not None and self.out is not None:
            folder = self.out / OUTPUTS
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _file_name(testset)).write_text(
                "".join(f"{text}\n" for text in texts), encoding="utf-8"
            )

    def compared(self, baseline: str) -> dict[str, "list[Comparison]"]:
        """Every test set's systems beside the baseline."""
        from dragoman.evaluation.comparing import compare

        found = {}
        for name, (testset, texts) in self.translations.items():
            systems = {baseline: texts[baseline], **texts}
            found[name] = compare(systems, testset.references, testset.target)
        return found


def _file_name(testset: TestSet) -> str:
    return f"{testset.name}.{testset.pair}.txt"


def _evaluate(
    board: _Board,
    testset: TestSet,
    model: str | None,
    translator: "Translator | None",
    options: dict[str, Any],
    given: Mapping[str, Path],
    sets: int,
) -> None:
    if translator is not None:
        assert model is not None
        texts, seconds = _translated(translator, testset, options)
        board.add(model, testset, texts, seconds)
    for name, path in given.items():
        board.add(name, testset, _read_outputs(path, testset, sets), None)


def _translated(
    translator: "Translator", testset: TestSet, options: dict[str, Any]
) -> tuple[list[str], float]:
    """The translations, each on one line, and the seconds they took."""
    began = time.monotonic()
    texts = []
    with sentences() as progress:
        results = translator.stream(
            list(testset.sources), testset.source, testset.target, progress=progress, **options
        )
        for number, found in enumerate(results, 1):
            if found.error is not None:
                say(f"{testset.name} {testset.pair}, line {number}: {found.error}")
            texts.append(" ".join(found.text.split()) if found.error is None else "")
    return texts, time.monotonic() - began


def _read_outputs(path: Path, testset: TestSet, sets: int) -> list[str]:
    if path.is_dir():
        names = (path / OUTPUTS / _file_name(testset), path / _file_name(testset))
        file = next((name for name in names if name.exists()), names[1])
    elif sets > 1:
        raise InvalidOption(
            f"--outputs {path} is one file, but there are {sets} test sets and directions; give a folder"
        )
    else:
        file = path
    lines = list(read_lines(file))
    if len(lines) < len(testset):
        raise InvalidOption(
            f"{file} has {len(lines)} lines, {testset.name} {testset.pair} has {len(testset)}"
        )
    return lines[: len(testset)]


def _write(board: _Board, comparisons: Mapping[str, "Sequence[Comparison]"], as_json: bool) -> None:
    from dragoman.evaluation.score_page import page
    from dragoman.evaluation.scoreboard import HEADS, figures, rows

    content = figures(board.results, comparisons)
    if board.out is not None:
        board.out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(content, indent=1, ensure_ascii=False)
        (board.out / FIGURES).write_text(text + "\n", encoding="utf-8")
        (board.out / PAGE).write_text(page(board.results, comparisons), encoding="utf-8")
        say(f"wrote {board.out / FIGURES} and {board.out / PAGE}")
    if as_json:
        put(json.dumps(content, ensure_ascii=False))
        return
    print_table(HEADS, rows(board.results))
    for name, found in comparisons.items():
        for row in found:
            if row.p_value is not None:
                shown = f"{row.value:.2f} ± {row.interval:.2f}, p = {row.p_value:.4f}"
                say(f"{name}, {row.metric}: {row.system} {shown}")
