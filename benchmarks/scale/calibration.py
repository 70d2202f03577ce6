"""What the simulator needs to know of translating and of bulk, from runs of one process."""

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import ROOT
from benchmarks.scale.runs import Run
from benchmarks.scale.world import Corpus, Costs, Machines

TEXTS = ROOT / "tests" / "data" / "tatoeba"


@dataclass(frozen=True)
class Speed:
    """Seconds of one worker for a block: `block + sum of character[language] * characters`."""

    block: float
    character: Mapping[str, float]
    spread: float
    """What the formula leaves over: the deviation of a block's seconds from it, as a share."""
    rows: int
    """Of the blocks that were measured; other blocks take other times, as batches fill otherwise."""

    def seconds(self, language: str, characters: np.ndarray) -> np.ndarray:
        """Of blocks with so many characters."""
        return self.block + self.character[language] * characters


@dataclass(frozen=True)
class Sample:
    """Lines in files by language, in blocks of so many rows."""

    lines: Mapping[str, Sequence[str]]
    rows: int

    def write(self, folder: Path) -> list[Path]:
        """The files, in their order."""
        folder.mkdir(parents=True)
        paths = [folder / f"{number:02}-{name}.txt" for number, name in enumerate(self.lines)]
        for path, lines in zip(paths, self.lines.values(), strict=True):
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return paths

    def blocks(self) -> list[tuple[str, str, int, int]]:
        """Each block's name in the results, language, rows and characters."""
        found = []
        for place, (language, lines) in enumerate(self.lines.items()):
            for number in range(-(-len(lines) // self.rows)):
                part = lines[number * self.rows : (number + 1) * self.rows]
                name = f"{place:05}-{number:06}.jsonl"
                found.append((name, language, len(part), sum(map(len, part))))
        return found

    def corpus(self, speed: Speed, sentences: int) -> Corpus:
        """As the simulator has it; sentences: how many all rows are."""
        blocks = self.blocks()
        rows = np.array([count for _, _, count, _ in blocks], float)
        characters = np.array([count for *_, count in blocks], float)
        work = [float(speed.seconds(language, np.array(count))) for _, language, _, count in blocks]
        zeros = np.zeros(len(blocks))
        return Corpus(
            rows, rows * sentences / rows.sum(), np.array(work), characters, zeros, zeros.astype(int)
        )


def read_texts(folder: Path, languages: Sequence[str] | None = None) -> dict[str, list[str]]:
    """Lines by language, out of `de-en.tsv` or `de-en.tsv.gz` with a translation behind a tab."""
    found = {}
    for path in sorted(folder.glob("??-en.tsv*")):
        language = path.name[:2]
        if languages and language not in languages:
            continue
        with (
            gzip.open(path, "rt", encoding="utf-8")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8") as file
        ):
            found[language] = [line.split("\t")[0].strip() for line in file]
    return found


def halves(texts: Mapping[str, Sequence[str]]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Every other line to calibrate with, and those between to predict; none is in both."""
    return (
        {name: list(lines[0::2]) for name, lines in texts.items()},
        {n: list(x[1::2]) for n, x in texts.items()},
    )


def skewed(texts: Mapping[str, Sequence[str]], count: int, rows: int) -> Sample:
    """So many lines, each language half as many as the one before; they begin anew where they end."""
    weights = [0.5**place for place in range(len(texts))]
    lines = {}
    for weight, (name, given) in zip(weights, texts.items(), strict=True):
        wanted = max(round(count * weight / sum(weights)), 1)
        lines[name] = [given[number % len(given)] for number in range(wanted)]
    return Sample(lines, rows)


def even(texts: Mapping[str, Sequence[str]], count: int, rows: int) -> Sample:
    """So many lines, the same number of each language."""
    each = max(count // len(texts), 1)
    return Sample({name: [given[n % len(given)] for n in range(each)] for name, given in texts.items()}, rows)


def fit_speed(sample: Sample, runs: Sequence[Run]) -> Speed:
    """Least squares over all blocks but the first of each run of one process, which has no beginning."""
    blocks = sample.blocks()
    languages = list(sample.lines)
    seconds = np.median([np.diff([run.written[name] for name, *_ in blocks]) for run in runs], axis=0)
    table = np.zeros((len(seconds), 1 + len(languages)))
    table[:, 0] = 1
    for row, (_, language, _, characters) in enumerate(blocks[1:]):
        table[row, 1 + languages.index(language)] = characters
    # Shares of a block's time count alike, whatever its size.
    table /= seconds[:, None]
    block, *character = _least_squares(table)
    left = table @ np.array([block, *character]) - 1
    return Speed(block, dict(zip(languages, character, strict=True)), float(left.std()), sample.rows)


def _least_squares(table: np.ndarray) -> list[float]:
    """What makes every row 1, none of it negative: a block has no more than nothing that isn't text."""
    ones = np.ones(len(table))
    found = np.linalg.lstsq(table, ones)[0]
    if found[0] < 0:
        found = np.concatenate([[0.0], np.linalg.lstsq(table[:, 1:], ones)[0]])
    return found.tolist()


def fit_costs(sample: Sample, speed: Speed, runs: Sequence[Run]) -> tuple[Costs, float]:
    """What a run on a cluster costs besides translating, and the cores that Ray's processes keep busy.

    runs: of one worker on the sample.
    """
    work = sample.corpus(speed, 1).work
    found = []
    for run in runs:
        first = run.times[0] - run.planned
        start = max(run.cpu["workers"] / 2 - run.blocks_cpu / 2, 0.0)  # the probe has loaded the model, too
        pool = max(first - start - work[0], 0.0)
        between = max((run.times[-1] - run.times[0] - work[1:].sum()) / (len(work) - 1), 0.0)
        daemons = run.cpu["daemons"] / run.seconds
        found.append((run.planned, pool, start, between, run.seconds - run.times[-1], daemons))
    driver, pool, start, between, end, daemons = np.median(found, axis=0).tolist()
    return Costs(driver=driver, pool=pool, start=start, block=between, end=end), daemons


def fit_machine(
    cores: int, daemons: float, alone: Sequence[Run], neighbour: Sequence[Run], same_core: Sequence[Run]
) -> Machines:
    """This machine with one worker. The runs are of one process: alone, and beside another program."""
    cpu = [float(np.median([run.blocks_cpu for run in runs])) for runs in (alone, neighbour, same_core)]
    crowding, sharing = (max(busy / cpu[0] - 1, 0.0) for busy in cpu[1:])
    return Machines(1, cores, 1, 1, daemons, crowding, sharing)
