"""Score a model as its card states it: `python recipes/mini/evaluate.py MODEL --data DIR --out DIR`.

Test sets of everyday sentences, news, encyclopaedic text, and the manuals and user interfaces held out beside
this file, between English and every language of the model's card; then how much of 300 made-up interface
strings survives that has to stay as it is.

Every direction of every test set is a file of its own in OUT/parts: what was cut off goes on when the same
command is given again, and --pairs, --testset and --limit do it piece by piece. What was done with as many
lines or more, by the same model with the same options, isn't done again. OUT/scores.json holds all of it.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from survival import counts, rates, strings

from dragoman import Translator
from dragoman.checkpoints.catalog import locate
from dragoman.evaluation.scoreboard import result
from dragoman.evaluation.testsets import ENGLISH, TestSet, find_testset
from dragoman.files import replacing_file
from dragoman.languages import find

HELD_OUT = Path(__file__).parent / "held-out"
SETS = ("tatoeba", "flores", "ntrex", "held-out")
FIGURES, PARTS, OUTPUTS = "scores.json", "parts", "outputs"
KEPT = "survival"
"""What the strings that have to keep something are called, beside the test sets."""


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse(arguments)
    translator = Translator.load(args.model, precision=args.precision, device="cpu")
    run = {
        "model": translator.card.name,
        "sha256": checksum(locate(args.model)),
        "precision": translator.system.precision,
        "beams": args.beams,
    }
    for name in (PARTS, OUTPUTS):
        (args.out / name).mkdir(parents=True, exist_ok=True)
    pairs = directions(args.pairs, translator)
    for name in args.testset or (*SETS, KEPT):
        for source, target in pairs:
            if name != KEPT:
                score(translator, run, name, source, target, args)
            elif source == ENGLISH:
                survive(translator, run, target, args)
    write_figures(args.out, run)
    print(f"wrote {args.out / FIGURES}")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="where figures and translations go")
    parser.add_argument("--pairs", help="en-de,de-en; else all of the card's languages with English")
    parser.add_argument(
        "--testset", action="append", choices=(*SETS, KEPT), help="one of them, or several; else all"
    )
    parser.add_argument("--limit", type=int, help="only so many lines of each")
    parser.add_argument("--beams", type=int, default=4)
    parser.add_argument("--precision", default="int8")
    return parser.parse_args(arguments)


def checksum(folder: Path) -> str:
    """Of a model's weights and of what it speaks."""
    found = hashlib.sha256()
    for path in [*sorted(folder.glob("*.safetensors")), folder / "sentencepiece.bpe.model"]:
        found.update(path.read_bytes())
    return found.hexdigest()


def directions(pairs: str | None, translator: Translator) -> list[tuple[str, str]]:
    """NLLB codes, source and target."""
    if pairs is not None:
        return [tuple(find(side).nllb for side in pair.split("-")) for pair in pairs.split(",")]  # type: ignore[misc]
    others = [language.nllb for language in translator.languages if language.nllb != ENGLISH]
    return [pair for code in others for pair in ((ENGLISH, code), (code, ENGLISH))]


def score(
    translator: Translator, run: dict[str, Any], name: str, source: str, target: str, args: argparse.Namespace
) -> None:
    """Translate a test set in one direction and keep its figures; prints them."""
    where = str(HELD_OUT) if name == "held-out" else name
    whole = find_testset(where, args.data, source, target)
    if whole is None or not len(whole):
        print(f"{name} {source} {target}: no text", flush=True)
        return
    testset = whole if args.limit is None else whole.first(args.limit)
    stem = f"{name}.{testset.pair}"
    if is_done(args.out / PARTS / f"{stem}.json", run, len(testset)):
        return
    began = time.monotonic()
    texts = translated(translator, testset.sources, source, target, args.beams)
    seconds = time.monotonic() - began
    (args.out / OUTPUTS / f"{stem}.txt").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    found = [row.to_dict() for row in result(run["model"], testset, texts, seconds)]
    for row in found:
        del row["worst"]  # whole sentences; the outputs have them
    keep(args.out, stem, run, len(testset), {"results": found})
    print(line(found[0], testset), flush=True)


def line(found: dict[str, Any], testset: TestSet) -> str:
    faults = found["faults"]
    shown = (f"{name.replace('_', ' ')} {faults[name]:.1%}" for name in faults if name != "copied")
    return (
        f"{found['testset']} {testset.pair}: {len(testset)} lines, chrF++ {found['scores']['chrF++']:.2f}, "
        f"BLEU {found['scores']['BLEU']:.2f}, length {found['length_ratio']:.3f}, {', '.join(shown)}, "
        f"{found['speed']['sentences_per_second']:.1f} lines/s"
    )


def survive(translator: Translator, run: dict[str, Any], target: str, args: argparse.Namespace) -> None:
    """Translate the made-up strings into one language and keep what is left of them; prints the rates."""
    made = strings() if args.limit is None else strings(args.limit)
    stem = f"{KEPT}.en-{find(target).short_code}"
    if is_done(args.out / PARTS / f"{stem}.json", run, len(made)):
        return
    texts = translated(translator, [text for text, _ in made], ENGLISH, target, args.beams)
    found = counts((things, text) for (_, things), text in zip(made, texts, strict=True))
    keep(args.out, stem, run, len(made), {"kept": found})
    shown = ", ".join(f"{kind} {share:.1%}" for kind, share in rates([found]).items())
    print(f"{stem}: {shown}", flush=True)


def translated(
    translator: Translator, sources: Sequence[str], source: str, target: str, beams: int
) -> list[str]:
    """Each on one line; empty where there was an error, which is printed."""
    texts = []
    for number, found in enumerate(translator.stream(list(sources), source, target, beams=beams), 1):
        if found.error is not None:
            print(f"line {number}: {found.error}", flush=True)
        texts.append("" if found.error is not None else " ".join(found.text.split()))
    return texts


def is_done(file: Path, run: dict[str, Any], lines: int) -> bool:
    if not file.exists():
        return False
    found = json.loads(file.read_text())
    return found["run"] == run and found["lines"] >= lines


def keep(out: Path, name: str, run: dict[str, Any], lines: int, figures: dict[str, Any]) -> None:
    """Write a direction's figures, and all that there are so far."""
    with replacing_file(out / PARTS / f"{name}.json") as file:
        file.write(json.dumps({"run": run, "lines": lines, **figures}).encode())
    write_figures(out, run)


def write_figures(out: Path, run: dict[str, Any]) -> None:
    """All that was done by this run's model with its options, in one file."""
    parts = [found for found in read_parts(out) if found["run"] == run]
    kept = [found["kept"] for found in parts if "kept" in found]
    results = [each for found in parts for each in found.get("results", ())]
    content = {"run": run, "results": results, KEPT: {"languages": len(kept), "rates": rates(kept)}}
    with replacing_file(out / FIGURES) as file:
        file.write(f"{json.dumps(content, indent=1)}\n".encode())


def read_parts(out: Path) -> Iterator[dict[str, Any]]:
    for path in sorted((out / PARTS).glob("*.json")):
        yield json.loads(path.read_text())


if __name__ == "__main__":
    main()
