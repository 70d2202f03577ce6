"""Is the simulator right? One process is measured, others predicted, run and compared, all in turns."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks import environment, report, rounded, table
from benchmarks.scale.calibration import (
    TEXTS,
    Sample,
    Speed,
    even,
    fit_costs,
    fit_machine,
    fit_speed,
    halves,
    read_texts,
    skewed,
)
from benchmarks.scale.runs import Run, beside, dispatch_seconds, plan_rate, run_bulk
from benchmarks.scale.simulation import simulate
from benchmarks.scale.world import Costs, Machines, steady_rate
from dragoman.limits import usable_threads

MEASURED = Path(__file__).with_name("measured.json")
"""The calibration that plans are made with."""
BOUND = 0.15


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--texts", type=Path, default=TEXTS, help="folder of de-en.tsv, ...; the tests' own")
    parser.add_argument("--languages", help="which of them, as in de,fr")
    parser.add_argument("--lines", type=int, default=2400, help="to predict; half as many to calibrate with")
    parser.add_argument("--block", type=int, default=50)
    parser.add_argument("--beams", default="4")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--sizes", default="", help="other sizes of blocks to time in one process, as in 20,1000"
    )
    parser.add_argument("--write", action="store_true", help=f"keep the calibration in {MEASURED.name}")


def main(args: argparse.Namespace) -> bool:
    """Whether every prediction is within the bound."""
    texts = read_texts(args.texts, args.languages.split(",") if args.languages else None)
    known, unknown = halves(texts)
    calibrating = even(known, args.lines // 2, args.block)
    predicted = skewed(unknown, args.lines, args.block)
    counts = [int(count) for count in args.workers.split(",")]
    options = ("--block", str(args.block), "--precision", args.precision, "--beams", args.beams)
    with TemporaryDirectory() as name:
        runs = _measure(Path(name), calibrating, predicted, counts, args.rounds, options)
        sizes = _sizes(Path(name), known, args)
        itself = {"plan_rate": plan_rate(Path(name)), "dispatch": dispatch_seconds(Path(name))}
    speed = fit_speed(calibrating, runs["alone"])
    costs, daemons = fit_costs(calibrating, speed, runs["one worker"])
    busy = (runs[name] for name in ("alone", "neighbour", "same core"))
    machine = fit_machine(usable_threads(), daemons, *busy)
    compared = [_compare(predicted, speed, costs, machine, count, runs[str(count)]) for count in counts]
    keys = list(compared[0])
    print(table(keys, [[one[key] for key in keys] for one in compared]))
    calibration = _calibration(texts, speed, costs, machine, sizes) | itself
    if args.write:
        if not args.sizes and MEASURED.exists():  # only their ratios count, which are of one time
            calibration["sizes"] = json.loads(MEASURED.read_text(encoding="utf-8"))["sizes"]
        kept = rounded(calibration | {"environment": environment()})
        MEASURED.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    is_right = all(max(abs(one["off"]), abs(one["off, all"])) <= BOUND for one in compared)
    report(
        {
            "benchmark": "scale validate",
            "lines": args.lines,
            "block": args.block,
            "beams": int(args.beams),
            "precision": args.precision,
            "rounds": args.rounds,
            "cores": usable_threads(),
            "predictions": rounded(compared),
            "calibration": rounded(calibration),
            "others_busy": rounded({name: [run.others for run in found] for name, found in runs.items()}),
            "within_bound": is_right,
        }
    )
    return is_right


def _measure(
    folder: Path,
    calibrating: Sample,
    predicted: Sample,
    counts: Sequence[int],
    rounds: int,
    options: Sequence[str],
) -> dict[str, list[Run]]:
    """All runs by name, in turns."""
    known, unknown = calibrating.write(folder / "known"), predicted.write(folder / "unknown")
    plain, on_ray = ("--threads", "1"), ("--cluster", "auto", "--workers")
    ways: dict[str, tuple[list[Path], tuple[str, ...], int | None]] = {
        "alone": (known, plain, None),
        "neighbour": (known, plain, 1),
        "same core": (known, plain, 0),
        "one worker": (known, (*on_ray, "1"), None),
        **{str(count): (unknown, (*on_ray, str(count)), None) for count in counts},
    }
    found: dict[str, list[Run]] = {name: [] for name in ways}
    for turn in range(rounds):
        for place, (name, (inputs, how, core)) in enumerate(ways.items()):
            with beside(core):
                found[name].append(run_bulk(inputs, folder / f"out-{turn}-{place}", *options, *how))
    return found


def _compare(
    sample: Sample, speed: Speed, costs: Costs, machine: Machines, workers: int, runs: Sequence[Run]
) -> dict[str, Any]:
    """Sentences a second, steady and of the whole command: medians of what was measured, and simulated."""
    sentences = runs[0].sentences
    corpus = sample.corpus(speed, sentences)
    outcome = simulate(corpus, replace(machine, workers=workers), costs=costs)
    measured = float(np.median([steady_rate(run.times, sentences) for run in runs]))
    simulated = outcome.rate(corpus.sentences)
    whole = float(np.median([sentences / run.seconds for run in runs]))
    return {
        "workers": workers,
        "measured": measured,
        "simulated": simulated,
        "off": simulated / measured - 1,
        "measured, all": whole,
        "simulated, all": sentences / outcome.seconds,
        "off, all": sentences / outcome.seconds / whole - 1,
        "cpu of blocks": float(np.median([run.blocks_cpu for run in runs])),
        "others busy": float(np.median([run.others for run in runs])),
    }


def _sizes(folder: Path, texts: dict[str, list[str]], args: argparse.Namespace) -> dict[str, float]:
    """Sentences a second of one process by the rows of a block."""
    found = {}
    for rows in sorted({args.block, *map(int, filter(None, args.sizes.split(",")))}):
        sample = even(texts, max(args.lines // 2, rows * len(texts)), rows)
        inputs = sample.write(folder / f"size-{rows}")
        options = ("--block", str(rows), "--precision", args.precision, "--beams", args.beams)
        run = run_bulk(inputs, folder / f"size-{rows}-out", *options, "--threads", "1")
        _, _, first, _ = sample.blocks()[0]
        total = sum(map(len, sample.lines.values()))
        found[str(rows)] = run.sentences * (1 - first / total) / float(run.times[-1] - run.times[0])
    return found


def _calibration(
    texts: dict[str, list[str]], speed: Speed, costs: Costs, machine: Machines, sizes: dict[str, float]
) -> dict[str, Any]:
    languages = {}
    for name, lines in texts.items():
        lengths = np.array([len(line) for line in lines], float)
        seconds = speed.block / speed.rows + speed.character[name] * lengths.mean()
        languages[name] = {
            "characters": lengths.mean(),
            "seconds": seconds,
            "spread": lengths.std() / lengths.mean(),
        }
    kept = {
        name: value
        for name, value in asdict(costs).items()
        if name in ("driver", "pool", "start", "block", "end")
    }
    return {
        "speed": asdict(speed),
        "languages": languages,
        "costs": kept,
        "machine": asdict(machine),
        "sizes": sizes,
    }
