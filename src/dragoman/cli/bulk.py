"""`dragoman bulk`: tables and texts of any size, block by block, in this process or on many machines."""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dragoman.cli.aids import FallbackName, GlossaryFiles, read_glossaries
from dragoman.cli.commands import pick, takes
from dragoman.cli.messages import SOME_FAILED, put, say
from dragoman.cli.progress import Speed
from dragoman.errors import InvalidOption
from dragoman.generation.options import GenerationOptions
from dragoman.translation.options import LoadOptions, TextOptions

if TYPE_CHECKING:
    from dragoman.bulk.cluster import Cluster
    from dragoman.bulk.run import Run
    from dragoman.bulk.work import Counts

FORMATS = "parquet, jsonl, csv or text"
Tell = Callable[["Counts | None", float], None]
"""Is told what is done, if that has changed, and how many rows of the block under way."""


@takes(
    TextOptions,
    LoadOptions,
    GenerationOptions,
    but=(
        "target",
        "likely_source",
        "timeout",
        "glossary",
        "fallback",
        "translation_memory",
        "vocabulary_text",
        "parallel",
        "n_best",
        "early_stopping",
        "suppress",
    ),
)
def bulk(
    chosen: dict[str, Any],
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", help=f"Files ({FORMATS}), folders, patterns, or URLs of these."),
    ],
    targets: Annotated[
        str,
        typer.Option("--to", "-t", metavar="LANGUAGES", help="The languages to translate to, as in de,fr."),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FOLDER", help="A folder or URL for the results.")
    ],
    column: Annotated[str, typer.Option("--column", metavar="NAME", help="Where the texts are.")] = "text",
    source_column: Annotated[
        str | None,
        typer.Option("--from-column", metavar="NAME", help="Where each text's language is said."),
    ] = None,
    block: Annotated[
        int, typer.Option("--block", metavar="ROWS", min=1, help="Rows that are done, or lost, together.")
    ] = 1000,
    longest: Annotated[
        int,
        typer.Option(
            "--max-characters", metavar="NUMBER", min=1, help="A longer text is an error of its row."
        ),
    ] = 100_000,
    format: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="NAME", help=f"Of the results: {FORMATS}; that of the input, or jsonl."
        ),
    ] = None,
    input_format: Annotated[
        str | None,
        typer.Option("--input-format", metavar="NAME", help="Of the inputs, if their names don't tell."),
    ] = None,
    glossaries: GlossaryFiles = None,
    fallback: FallbackName = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="ADDRESS",
            help="Do it on this Ray cluster; auto is that of RAY_ADDRESS, or one that is started here.",
            rich_help_panel="Cluster",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            metavar="NUMBER",
            min=1,
            help="Processes with a model each; as many as there are processors for if left out.",
            rich_help_panel="Cluster",
        ),
    ] = None,
    threads_per_worker: Annotated[
        int | None,
        typer.Option(
            "--threads-per-worker",
            metavar="NUMBER",
            min=1,
            help="Processors of each; 1 if left out.",
            rich_help_panel="Cluster",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Start over, and remove what the folder holds of another run.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The figures as one line of JSON.")] = False,
) -> None:
    """Translate tables and texts of any size: Parquet, JSON lines, CSV, lines of text.

    The results are a folder of files, one for each block of rows, in the
    order of the input, with all its columns and new ones: translation (or
    translation_de, ... for several languages), source_language, warnings,
    error. A row that can't be translated has an error and no translation.

    Given again after any end the command does what is missing.
    """
    for name, value in (("--format", format), ("--input-format", input_format)):
        if value is not None and value not in ("parquet", "jsonl", "csv", "text"):
            raise InvalidOption(f"{name} is {value!r}; it must be {FORMATS}")
    where = _cluster(cluster, workers, threads_per_worker, chosen)
    texts = pick(chosen, TextOptions)
    spelled = texts.pop("source", None)
    TextOptions(**texts)
    options = texts | _generation(chosen)
    from dragoman.bulk.order import Order, languages_of
    from dragoman.bulk.places import Folder, absolute, find_inputs
    from dragoman.bulk.run import open_run
    from dragoman.checkpoints.catalog import EMBEDDED

    loading = pick(chosen, LoadOptions)
    source, goals = languages_of(loading.get("model", EMBEDDED), spelled, targets.split(","))
    model = loading.get("model", EMBEDDED)
    if "model" in loading:
        loading["model"] = _absolute_model(model)
    fallback = fallback and _absolute_model(fallback)
    output = absolute(output)
    order = Order(
        output,
        goals,
        column,
        source,
        source_column,
        format,
        input_format,
        block,
        longest,
        loading,
        options,
        read_glossaries(glossaries) if glossaries else None,
        fallback,
    )
    found = find_inputs(inputs, input_format, output)
    folder = Folder(output)
    with folder.alone():
        folder.clear()
        run = open_run(order, found, folder, force)
        counts = _done(run, where) if run.missing else None
        failed = run.failed_before() + (counts.failed if counts else 0)
        folder.clear()
    _close(run, counts, failed, as_json)


def _absolute_model(name: str) -> str:
    """A model's folder for processes elsewhere; other names as they are."""
    from dragoman.checkpoints.catalog import EMBEDDED

    path = Path(name).expanduser()
    return str(path.resolve()) if name != EMBEDDED and path.is_dir() else name


def _generation(chosen: dict[str, Any]) -> dict[str, Any]:
    """What was chosen for generation; InvalidOption if it is impossible or would be without effect."""
    generation = pick(chosen, GenerationOptions)
    if generation.get("sample"):
        generation.setdefault("beams", 1)
    GenerationOptions(**generation)
    if "seed" in generation and not generation.get("sample"):
        raise InvalidOption("--seed is for sampling; add --sample")
    return generation


def _cluster(
    address: str | None, workers: int | None, threads: int | None, chosen: dict[str, Any]
) -> "Cluster | None":
    """Where to work, if not in this process."""
    if address is None:
        if workers is not None or threads is not None:
            raise InvalidOption("--workers and --threads-per-worker go with --cluster; add --cluster auto")
        return None
    if "threads" in chosen:
        raise InvalidOption("--threads is for this process; with --cluster say --threads-per-worker")
    from dragoman.bulk.cluster import Cluster

    return Cluster(address, workers, threads or 1)


def _done(run: "Run", cluster: "Cluster | None") -> "Counts":
    """Do all that is missing."""
    from dragoman.bulk.work import Counts

    if run.is_resumed:
        say(f"{run.blocks - len(run.missing):,} of {run.blocks:,} blocks are done already")
    total = Counts()
    rows = sum(block.rows for block in run.missing)
    began = time.monotonic()
    with _bar(run.plan.rows, run.plan.rows - rows) as tell:
        for counts in _here(run, tell) if cluster is None else _there(run, cluster):
            total += counts
            tell(total, 0.0)
    seconds = time.monotonic() - began
    return Counts(total.rows, total.sentences, total.failed, total.warned, seconds, total.cpu_seconds)


def _here(run: "Run", tell: Tell) -> "Iterator[Counts]":
    """The blocks in this process."""
    from dragoman.bulk.run import run_here
    from dragoman.cli.model import load

    order = run.order
    translator = load(dict(order.loading))
    fallback = load({**order.loading, "model": order.fallback}) if order.fallback else None
    for _, counts in run_here(
        run, translator, fallback, lambda block, done, known: tell(None, block.rows * done / max(known, 1))
    ):
        yield counts


def _there(run: "Run", cluster: "Cluster") -> "Iterator[Counts]":
    """The blocks on a cluster."""
    from dragoman.bulk.cluster import run_on_cluster

    return run_on_cluster(run, cluster)


@contextlib.contextmanager
def _bar(rows: int, done: int) -> Iterator[Tell]:
    """A bar on standard error for people, of rows; none where no terminal is."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda counts, part: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        MofNCompleteColumn(),
        TextColumn("rows"),
        BarColumn(),
        TextColumn("{task.fields[speed]}, {task.fields[failed]:,} failed"),
        TimeRemainingColumn(),
    )
    speed = Speed()
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=600) as bar:
        task = bar.add_task("", total=rows, completed=done, speed="", failed=0)

        before = done

        def tell(counts: "Counts | None", part: float) -> None:
            nonlocal before
            if counts is not None:
                before = done + counts.rows
                told = speed.told(counts.sentences, "sentences")
                bar.update(task, failed=counts.failed, speed=told)
            bar.update(task, completed=before + int(part))

        yield tell


def _close(run: "Run", counts: "Counts | None", failed: int, as_json: bool) -> None:
    """Say what was done, and fail if any row did. failed: rows of all blocks, also of those done before."""
    if as_json:
        whole = {"output": run.folder.url, "rows": run.plan.rows, "blocks": run.blocks, "failed": failed}
        put(json.dumps({**whole, "done": None if counts is None else asdict(counts)}))
    if counts is None:
        said = f", {failed:,} failed" if failed else ""
        say(f"{run.folder.url} is finished: {run.plan.rows:,} rows in {run.blocks:,} blocks{said}")
    else:
        speed = counts.sentences / max(counts.seconds, 1e-3)
        say(
            f"{counts.rows:,} rows, {counts.sentences:,} sentences at {speed:.1f} a second: "
            f"{counts.failed:,} failed, {counts.warned:,} with warnings"
        )
        if failed > counts.failed:
            say(f"{failed:,} of all {run.plan.rows:,} rows failed")
    if failed:
        raise typer.Exit(SOME_FAILED)
