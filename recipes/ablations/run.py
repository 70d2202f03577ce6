"""Train and score the systems of the ablations, one after the other.

    python recipes/ablations/texts.py DATA TEXTS
    python recipes/ablations/run.py TEXTS OUT --seeds 3
    python recipes/ablations/table.py OUT

Each system that is scored is a line of OUT/results.jsonl. The same command goes on after an interruption. One
seed of everything comes first.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from systems import EVERY, System, Work

from dragoman import Translator
from dragoman.evaluation.metrics import length_ratio, score
from dragoman.languages import find


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("texts", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="comparisons; all if left out")
    parser.add_argument("--made-up", action="store_true", help="the texts are those of `texts.py made-up`")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    work = Work(args.texts, args.out, args.made_up)
    results = args.out / "results.jsonl"
    for seed in range(1, args.seeds + 1):
        for system in EVERY:
            if args.made_up and system.comparison == "experts":
                continue
            if args.only and system.comparison not in args.only:
                continue
            key = {"comparison": system.comparison, "system": system.name, "seed": seed}
            if any(key.items() <= row.items() for row in rows(results)):
                continue
            model = system.make(work, seed)
            row = {**key, **scored(system, work, model, args.out / "outputs", seed)}
            with results.open("a", encoding="utf-8") as file:
                file.write(f"{json.dumps(row)}\n")
            print(f"{key}: chrF++ {row['chrF++']:.2f}, BLEU {row['BLEU']:.2f}", flush=True)


def rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


def scored(system: System, work: Work, model: Path, outputs: Path, seed: int) -> dict[str, Any]:
    """Scores of greedy translations of the test lines in each direction, and their means."""
    translator = Translator.load(model, device="cpu", precision="fp32", threads=1)
    directions: dict[str, dict[str, float]] = {}
    for code in system.codes:
        lines = (work.texts / "test" / f"{code}-en.tsv").read_text(encoding="utf-8").splitlines()
        pairs = [line.split("\t")[:2] for line in lines]
        for source, target, side in ((code, "en", 0), ("en", code, 1)):
            texts = translator.translate(
                [pair[side] for pair in pairs], source=source, target=target, beams=1, max_new_tokens=40
            )
            name = outputs / f"{system.comparison}-{system.name}-{seed}.{source}-{target}.txt"
            name.parent.mkdir(parents=True, exist_ok=True)
            name.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
            references = [pair[1 - side] for pair in pairs]
            language = find(target).nllb
            found = {part.metric: round(part.value, 3) for part in score(texts, references, language)}
            ratio = round(length_ratio(texts, references, language), 4)
            directions[f"{source}-{target}"] = {**found, "length": ratio}
    names = ("chrF++", "BLEU", "length")
    means = {name: sum(row[name] for row in directions.values()) / len(directions) for name in names}
    return {**{name: round(value, 3) for name, value in means.items()}, "directions": directions}


if __name__ == "__main__":
    main()
