"""Score a model on the test lines: `python recipes/mini/evaluate.py MODEL --data DIR`.

Prints a table in Markdown and writes every figure with its signature to --json. `--peer en-es:COMMAND` adds a
peer, a command that reads sentences line by line and writes their translations,
scored on the same sentences.
"""

import argparse
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from dragoman import Translator, find
from dragoman.evaluation.metrics import score
from dragoman.evaluation.testsets import TestSet, read_aligned, read_tatoeba

ENGLISH = "eng_Latn"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    parser.add_argument("--beams", type=int, default=4)
    parser.add_argument("--sets", nargs="*", default=["Tatoeba", "NTREX", "FLORES"])
    parser.add_argument("--peer", action="append", default=[], metavar="PAIR:COMMAND")
    args = parser.parse_args()
    translator = Translator.load(args.model)
    peers = dict(peer.split(":", 1) for peer in args.peer)
    rows = []
    for language in translator.languages:
        if language.nllb == ENGLISH:
            continue
        for testset in load(args.data, language.short_code, language.nllb, args.sets):
            for row in evaluate(translator, testset, language.nllb, args.beams, peers):
                rows.append(row)
                print(json.dumps(row), flush=True)
    args.json.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))


def load(data: Path, short: str, code: str, names: list[str]) -> Iterator[TestSet]:
    """The test sets of one language."""
    if "Tatoeba" in names:
        yield read_tatoeba(data / "held-out" / f"{short}-en.tsv.gz")
    if "NTREX" in names:
        yield read_aligned("NTREX", data / "ntrex" / f"{short}.txt.gz", data / "ntrex" / "en.txt.gz")
    if "FLORES" in names:
        folder = data / "flores200-devtest"
        yield read_aligned("FLORES-200 devtest", folder / f"{code}.txt.gz", folder / f"{ENGLISH}.txt.gz")


def evaluate(
    translator: Translator, testset: TestSet, code: str, beams: int, peers: dict[str, str]
) -> Iterator[dict]:
    """A row of figures for each direction, part of the test set, and system."""
    directions = (
        (ENGLISH, code, testset.english, testset.foreign),
        (code, ENGLISH, testset.foreign, testset.english),
    )
    for source, target, texts, references in directions:
        pair = f"{find(source).short_code}-{find(target).short_code}"
        began = time.monotonic()
        outputs = {"dragoman": translator.translate(list(texts), source, target, beams=beams)}
        seconds = time.monotonic() - began
        if pair in peers:
            done = subprocess.run(
                peers[pair], shell=True, input="\n".join(texts), text=True, capture_output=True, check=True
            )
            outputs[peers[pair]] = done.stdout.rstrip("\n").split("\n")
        parts: dict[str, list[int]] = {testset.name: list(range(len(texts)))}
        if testset.near is not None:
            parts[testset.name + " far"] = [i for i, near in enumerate(testset.near) if not near]
        for system, hypotheses in outputs.items():
            for part, kept in parts.items():
                chrf, bleu = score([hypotheses[i] for i in kept], [references[i] for i in kept], target)
                yield {
                    "system": system,
                    "pair": pair,
                    "set": part,
                    "sentences": len(kept),
                    "beams": beams,
                    "chrf++": round(chrf.value, 2),
                    "bleu": round(bleu.value, 2),
                    "seconds": round(seconds, 1),
                    "signatures": [chrf.signature, bleu.signature],
                }


def table(rows: list[dict]) -> str:
    """chrF++ / BLEU by direction and test set, with the mean over directions."""
    mine = [row for row in rows if row["system"] == "dragoman"]
    sets = list(dict.fromkeys(row["set"] for row in mine))
    pairs = list(dict.fromkeys(row["pair"] for row in mine))
    cells = {(row["pair"], row["set"]): row for row in mine}
    lines = ["| direction | " + " | ".join(sets) + " |", "|---|" + "---|" * len(sets)]
    for pair in pairs:
        shown = [f"{cells[pair, s]['chrf++']:.1f} / {cells[pair, s]['bleu']:.1f}" for s in sets]
        lines.append(f"| {pair.replace('-', ' → ')} | " + " | ".join(shown) + " |")
    means = []
    for s in sets:
        chrf, bleu = (sum(cells[p, s][m] for p in pairs) / len(pairs) for m in ("chrf++", "bleu"))
        means.append(f"**{chrf:.1f}** / {bleu:.1f}")
    return "\n".join([*lines, "| mean | " + " | ".join(means) + " |"])


if __name__ == "__main__":
    main()
