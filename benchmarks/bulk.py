"""Corpora by one process and by workers on a Ray cluster: `python -m benchmarks.bulk`.

The same lines go through `dragoman bulk` three times: in one process, by one worker and by two, one thread
each. All must write the same files. A rate is that between the first block that is done and the last, so that
starting Ray and loading the model, which take the same time for any corpus, are told apart from it. On a
computer with other things to do the processor's seconds for the blocks tell more than rates do.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import ROOT, report, rounded, table

_LINES = ROOT / "tests" / "data" / "tatoeba"
WAYS = {
    "one process": ("--threads", "1"),
    "one worker": ("--cluster", "auto", "--workers", "1"),
    "two workers": ("--cluster", "auto", "--workers", "2"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--text", type=Path, help="lines to translate to English; by default the tests' own")
    parser.add_argument("--lines", type=int, default=600, help="how many")
    parser.add_argument("--block", type=int, default=20)
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--beams", default="1")
    args = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    written: dict[str, dict[str, bytes]] = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        lines = _lines(args.text)[: args.lines]
        (folder / "in.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        common = (
            "--to",
            "en",
            "--block",
            str(args.block),
            "--precision",
            args.precision,
            "--beams",
            args.beams,
        )
        for number, (way, how) in enumerate(WAYS.items()):
            out = folder / str(number)
            figures[way] = measure(folder / "in.txt", out, (*common, *how), args.block)
            written[way] = {path.name: path.read_bytes() for path in sorted(out.glob("0*"))}
    plain, one, two = (figures[way] for way in WAYS)
    ratios = {
        "two_workers_rate_ratio": two["sentences_per_s"] / one["sentences_per_s"],
        "overhead_rate": plain["sentences_per_s"] / one["sentences_per_s"] - 1,
        "overhead_cpu_of_blocks": one["blocks_cpu_s"] / plain["blocks_cpu_s"] - 1,
        "start_s": one["start_s"] - plain["start_s"],
    }
    same = all(found == written["one process"] for found in written.values())
    keys = list(plain)
    print(table(["", *keys], [[way, *(found[key] for key in keys)] for way, found in figures.items()]))
    report(
        {
            "benchmark": "bulk",
            "lines": len(lines),
            "block": args.block,
            "precision": args.precision,
            "beams": int(args.beams),
            "same_files": same,
            "figures": rounded(figures),
            **rounded(ratios),
        }
    )
    sys.exit(not same)


def measure(text: Path, out: Path, options: tuple[str, ...], block: int) -> dict[str, float]:
    """Seconds and rates of one run."""
    began = time.time()
    command = [sys.executable, "-m", "dragoman", "bulk", str(text), "--output", str(out), "--json", *options]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = time.time() - began
    counts = json.loads(ended.stdout)["done"]
    times = sorted(path.stat().st_mtime for path in out.glob("0*"))
    return {
        "seconds": seconds,
        "start_s": times[0] - began,
        # The first block's own time isn't between the first and the last.
        "sentences_per_s": counts["sentences"] * (len(times) - 1) / len(times) / (times[-1] - times[0]),
        "blocks_cpu_s": counts["cpu_seconds"],
    }


def _lines(text: Path | None) -> list[str]:
    if text is not None:
        return text.read_text(encoding="utf-8").splitlines()
    rows = [path.read_text(encoding="utf-8").splitlines() for path in sorted(_LINES.glob("*.tsv"))]
    # All languages in turn, as in a corpus that is a mixture.
    return [row.split("\t")[0] for together in zip(*rows, strict=False) for row in together]


if __name__ == "__main__":
    main()
