"""Hours and money for a corpus, and what makes them more."""

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import report, rounded, table
from benchmarks.scale.mixture import Language, draw, zipf
from benchmarks.scale.prices import MACHINE, STORE
from benchmarks.scale.simulation import simulate
from benchmarks.scale.validating import MEASURED
from benchmarks.scale.world import Corpus, Costs, Hazards, Machines, Outcome, Rules, Store

CALM = Hazards()
USUAL = Hazards(spread=0.05, slow=0.02, slowdown=2.0, failures=0.01, replacement=180.0, seed=1)
"""Assumed, not measured: machines differ by 5 %, one in 50 is half as fast, each fails every 100 hours."""
STORE_USED = Store(latency=0.03, bandwidth=12.5e9, link=MACHINE.link)
"""Assumed: 30 ms a request, 100 Gbit/s altogether."""


@dataclass(frozen=True)
class Scene:
    """All that a simulated run depends on."""

    languages: Sequence[Language]
    sentences: int = 10**9
    rows: int = 1000
    workers: int = 1024
    cores: int = MACHINE.cores
    """Of a machine; a worker of one thread has each."""
    skew: float = 1.0
    is_mixed: bool = False
    spread: float = 1.0
    """Of sentences' seconds."""
    rates: Mapping[int, float] = field(default_factory=dict)
    """How fast blocks of so many rows are, against those that the languages were measured in."""
    costs: Costs = field(default_factory=Costs)
    store: Store = STORE_USED
    hazards: Hazards = USUAL
    rules: Rules = field(default_factory=Rules)

    def corpus(self) -> Corpus:
        """Drawn from the first seed, whatever goes wrong later."""
        rows = sorted(self.rates)
        rate = np.interp(np.log(self.rows), np.log(rows), [self.rates[one] for one in rows]) if rows else 1.0
        languages = [replace(one, seconds=one.seconds / rate) for one in zipf(self.languages, self.skew)]
        return draw(languages, self.sentences, self.rows, spread=self.spread, is_mixed=self.is_mixed)

    def machines(self) -> Machines:
        each = min(self.workers, self.cores)
        return Machines(-(-self.workers // each), self.cores, each, 1)

    def run(self, corpus: Corpus | None = None) -> Outcome:
        return simulate(
            corpus or self.corpus(),
            self.machines(),
            costs=self.costs,
            store=self.store,
            hazards=self.hazards,
            rules=self.rules,
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sentences", type=float, default=1e9)
    parser.add_argument("--rows", type=int, default=1000, help="of a block")
    parser.add_argument("--workers", default="1,16,64,256,1024")
    parser.add_argument(
        "--faster", type=float, default=1.0, help="how many times as fast as the measured core one is"
    )
    parser.add_argument(
        "--model-bytes", type=float, default=0.0, help="each worker reads from the store to begin"
    )
    parser.add_argument("--price", type=float, default=MACHINE.price, help="dollars for an hour of a machine")
    parser.add_argument("--spot", type=float, default=MACHINE.spot)
    parser.add_argument("--cores", type=int, default=MACHINE.cores)
    parser.add_argument("--measured", type=Path, default=MEASURED, help="what `validate --write` has kept")
    parser.add_argument("--picture", type=Path, help="a PNG to draw")


def scene(args: argparse.Namespace) -> Scene:
    """What was asked for, with what was measured."""
    kept = json.loads(args.measured.read_text(encoding="utf-8"))
    languages = [
        Language(name, one["seconds"] / args.faster, one["characters"], 1.0, place)
        for place, (name, one) in enumerate(kept["languages"].items())
    ]
    costs = Costs(
        **kept["costs"], plan_rate=kept["plan_rate"], dispatch=kept["dispatch"], model=args.model_bytes
    )
    rates = {
        int(rows): rate / kept["sizes"][str(kept["speed"]["rows"])] for rows, rate in kept["sizes"].items()
    }
    spread = float(np.mean([one["spread"] for one in kept["languages"].values()]))
    return Scene(
        languages, int(args.sentences), args.rows, cores=args.cores, spread=spread, rates=rates, costs=costs
    )


def plan(args: argparse.Namespace) -> None:
    """A table by number of workers, calm and with what usually goes wrong."""
    base = scene(args)
    corpus = base.corpus()
    rows = []
    for workers in map(int, args.workers.split(",")):
        began = time.monotonic()
        one = replace(base, workers=workers)
        calm, usual = replace(one, hazards=CALM).run(corpus), one.run(corpus)
        rows.append(_row(one, corpus, calm, usual, args) | {"simulated in": time.monotonic() - began})
    print(table(list(rows[0]), [list(row.values()) for row in rows]))
    if args.picture:
        from benchmarks.scale.pictures import draw_plan

        draw_plan(args.picture, rows, corpus.total)
    report(
        {
            "benchmark": "scale plan",
            "sentences": corpus.total,
            "blocks": corpus.blocks,
            "rows": args.rows,
            "serial_hours": rounded(float(corpus.work.sum()) / 3600),
            "machine": MACHINE.name,
            "dollars_an_hour": args.price,
            "requests_dollars": rounded(requests(base, corpus)),
            "plan": rounded(rows),
        }
    )


def requests(base: Scene, corpus: Corpus) -> float:
    """Dollars that the store takes for the requests of all blocks."""
    return corpus.blocks * (STORE.puts + (base.costs.requests - 1) * STORE.gets)


def _row(
    one: Scene, corpus: Corpus, calm: Outcome, usual: Outcome, args: argparse.Namespace
) -> dict[str, Any]:
    machines = one.machines()
    share = machines.total / (machines.count * args.cores)  # of the machines that are paid
    hours = usual.machine_seconds / 3600 * share
    return {
        "workers": machines.total,
        "hours, calm": calm.seconds / 3600,
        "hours": usual.seconds / 3600,
        "sentences/s": corpus.total / usual.seconds,
        "of the ideal": float(corpus.work.sum()) / machines.total / usual.seconds,
        "machine hours": hours,
        "dollars": hours * args.price,
        "dollars, spot": hours * args.spot,
        "failures": usual.failures,
    }


def hazards(args: argparse.Namespace) -> None:
    """What each thing alone makes of a calm run with the most workers."""
    base = replace(scene(args), workers=max(map(int, args.workers.split(","))), hazards=CALM)
    drawn: dict[tuple[Any, ...], Corpus] = {}
    rows, calm = [], None
    for name, one in _changes(base):
        key = (one.rows, one.skew, one.is_mixed)
        if key not in drawn:
            drawn.clear()  # large, and used in turn
            drawn[key] = one.corpus()
        outcome = one.run(drawn[key])
        calm = calm or outcome.seconds
        ideal = float(drawn[key].work.sum()) / one.machines().total
        rows.append(
            {
                "what": name,
                "hours": outcome.seconds / 3600,
                "against calm": outcome.seconds / calm,
                "of the ideal": ideal / outcome.seconds,
                "lost": outcome.lost / outcome.busy,
                "failures": outcome.failures,
                "reruns": outcome.reruns,
                "modules read": outcome.misses,
            }
        )
    print(table(list(rows[0]), [list(row.values()) for row in rows]))
    if args.picture:
        from benchmarks.scale.pictures import draw_hazards

        draw_hazards(args.picture, rows)
    facts = {"sentences": base.sentences, "rows": base.rows, "workers": base.machines().total}
    report({"benchmark": "scale hazards", **facts, "hazards": rounded(rows)})


def _changes(base: Scene) -> Iterator[tuple[str, Scene]]:
    """Names, and scenes that differ in one thing from the first."""
    yield "calm", base
    slow = replace(CALM, slow=0.1, slowdown=2.0, seed=1)
    yield "10% of machines half as fast", replace(base, hazards=slow)
    yield (
        "one machine a tenth as fast",
        replace(base, hazards=replace(CALM, slow=0.03, slowdown=10.0, seed=4)),
    )
    yield "machines differ by 10 %", replace(base, hazards=replace(CALM, spread=0.1, seed=1))
    for each in (0.1, 1.0):
        yield (
            f"{each:g} failures a machine and hour",
            replace(base, hazards=replace(CALM, failures=each, seed=1)),
        )
    yield "blocks in 100,000 pieces", replace(base, rules=replace(base.rules, pieces=100_000))
    more = replace(base.rules, pieces=100_000)
    yield "the same, 10% half as fast", replace(base, rules=more, hazards=slow)
    yield "a store of 1 Gbit/s", replace(base, store=replace(base.store, bandwidth=1e9 / 8))
    yield "a model of 31 GB a worker", replace(base, costs=replace(base.costs, model=31e9))
    modules = replace(base.costs, module=4e9, resident=2)
    disk = replace(base.store, disk=2e9)
    yield "modules of 4 GB, 2 at a time", replace(base, costs=modules, store=disk)
    yield "equal languages", replace(base, skew=0.0)
    yield "all languages in each block", replace(base, is_mixed=True)
    yield "the same, modules of 4 GB, 2 at a time", replace(base, is_mixed=True, costs=modules, store=disk)
    yield "blocks of 10,000 rows", replace(base, rows=10_000)
