"""Tables of what `run.py` has found: `python recipes/ablations/table.py OUT` prints Markdown.

Means over directions and seeds, with the least and the most of the seeds. `--beside modules/shared` compares
a comparison's other systems with one of it, seed by seed: by sacrebleu's paired bootstrap over all test lines
of all directions.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from run import rows

from dragoman.evaluation.comparing import compare

MANY, FEW = ("de", "es"), ("nl",)
COLUMNS = ("chrF++", "BLEU")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--texts", type=Path, help="for --beside: where references are")
    parser.add_argument("--beside", action="append", default=[], metavar="COMPARISON/SYSTEM")
    args = parser.parse_args()
    found = list(rows(args.out / "results.jsonl"))
    for comparison in dict.fromkeys(row["comparison"] for row in found):
        print("\n".join(table([row for row in found if row["comparison"] == comparison])), end="\n\n")
    for pair in args.beside:
        comparison, _, system = pair.partition("/")
        for line in compared(
            args.out, args.texts, [r for r in found if r["comparison"] == comparison], system
        ):
            print(line)


def table(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Markdown's lines. Directions with many pairs and with few have columns of their own."""
    groups = {"all": (*MANY, *FEW)}
    if any("nl" in pair for pair in found[0]["directions"]):
        groups |= {"many pairs": MANY, "few pairs": FEW}
    names = [f"{name}, {group}" for group in groups for name in COLUMNS]
    yield f"| {found[0]['comparison']} | seeds | {' | '.join(names)} | length |"
    yield f"|{'---|' * (len(names) + 3)}"
    for system in dict.fromkeys(row["system"] for row in found):
        mine = [row for row in found if row["system"] == system]
        cells = [figure(mine, name, codes) for codes in groups.values() for name in (*COLUMNS,)]
        cells.append(figure(mine, "length", (*MANY, *FEW)))
        yield f"| {system} | {len(mine)} | {' | '.join(cells)} |"


def figure(found: Sequence[dict[str, Any]], name: str, codes: Sequence[str]) -> str:
    """The mean over seeds of the mean over the directions of these languages; with the least and the most."""
    values = [
        mean(score[name] for pair, score in row["directions"].items() if set(codes) & set(pair.split("-")))
        for row in found
    ]
    spread = f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 and name != "length" else ""
    return f"{mean(values):.{2 if name == 'length' else 1}f}{spread}"


def compared(out: Path, texts: Path, found: Sequence[dict[str, Any]], beside: str) -> Iterator[str]:
    """Of each seed: what every system gains over `beside`, and how likely as much is by chance."""
    for seed in sorted({row["seed"] for row in found}):
        mine = [row for row in found if row["seed"] == seed]
        order = sorted((row["system"] for row in mine), key=lambda name: name != beside)
        if order[0] != beside or len(order) < 2:
            continue
        pairs = list(mine[0]["directions"])
        outputs = {name: lines(out, mine[0]["comparison"], name, seed, pairs) for name in order}
        references = [text for pair in pairs for text in reference(texts, pair)]
        first, *others = compare(outputs, references, "eng_Latn", ("chrF++",))
        for other in others:
            yield (
                f"seed {seed}: {other.system} {other.value:.2f}, {beside} {first.value:.2f} chrF++ of all "
                f"lines, p {other.p_value:.3f}"
            )


def lines(out: Path, comparison: str, system: str, seed: int, pairs: Sequence[str]) -> list[str]:
    found = (out / "outputs" / f"{comparison}-{system}-{seed}.{pair}.txt" for pair in pairs)
    return [line for path in found for line in path.read_text(encoding="utf-8").splitlines()]


def reference(texts: Path, pair: str) -> list[str]:
    source, _, target = pair.partition("-")
    code = source if target == "en" else target
    rows_ = (texts / "test" / f"{code}-en.tsv").read_text(encoding="utf-8").splitlines()
    return [row.split("\t")[target == "en"] for row in rows_]


if __name__ == "__main__":
    main()
