"""Lines of text into lines of text: `python -m benchmarks.end_to_end --text FILE --source en --target de`.

Tokenising, generating with beam 4, and writing the text are all counted, in both engines from the
same folder; loading is not. Each first tries a few batch sizes on a part of the lines and keeps
its best. transformers gets the lines sorted by length.
"""

import argparse
import os
import statistics
from pathlib import Path
from typing import Any

from benchmarks import ROOT, report, rounded, table
from benchmarks.floats import floats
from benchmarks.peers.client import OURS, Engine, Pool
from dragoman.languages import find

EMBEDDED = ROOT / "src" / "dragoman" / "data" / "mini"
TRIAL = 128  # lines on which a batch size is chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="a file, a sentence a line")
    parser.add_argument("--source", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--model", type=Path, default=EMBEDDED, help="a folder (default: the embedded model)")
    parser.add_argument("--lines", type=int, default=1000, help="how many lines (default: 1000)")
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 32, 64, 128])
    parser.add_argument("--beams", type=int, default=4)
    parser.add_argument("--precisions", nargs="+", default=["fp32"], help="ours")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="32 lines, one run of each")
    args = parser.parse_args()
    if args.quick:
        args.lines, args.repeats, args.batches = 32, 1, args.batches[:1]
    lines = args.text.read_text(encoding="utf-8").splitlines()[: args.lines]
    codes = {"source": find(args.source).nllb, "target": find(args.target).nllb, "beams": args.beams}
    peer = Engine("transformers", floats(args.model), "fp32", 2.0)
    engines = [peer, *(Engine(OURS, args.model, precision, 2.0) for precision in args.precisions)]
    answers: dict[Engine, list[dict[str, Any]]] = {one: [] for one in engines}
    with Pool(float("inf"), args.threads) as pool:
        sizes = {one: best_batch(pool, one, lines[:TRIAL], codes, args.batches) for one in engines}
        for _ in range(args.repeats):
            for one in engines:
                answers[one].append(pool.ask(one, "translate", lines=lines, batch=sizes[one], **codes))
    seconds = {one: statistics.median(a["seconds"] for a in found) for one, found in answers.items()}
    written = {one: found[0]["lines"] for one, found in answers.items()}
    headers = ["engine", "batch", "s", "sentences/s", "tokens/s", "ratio", "same lines"]
    rows, records = [], []
    for one in engines:
        same = sum(a == b for a, b in zip(written[peer], written[one], strict=True)) / len(lines)
        rate, tokens = len(lines) / seconds[one], answers[one][0]["tokens"] / seconds[one]
        faster = seconds[peer] / seconds[one]
        rows.append([one.label, sizes[one], seconds[one], rate, tokens, faster, f"{same:.1%}"])
        values = [one.label, sizes[one], seconds[one], rate, tokens, faster, same]
        records.append(dict(zip(headers, values, strict=True)))
    print(
        f"{len(lines)} lines of {args.text.name}, {codes['source']} to {codes['target']}, beam {args.beams}"
    )
    print(table(headers, rows))
    report(
        {
            "benchmark": "end_to_end",
            "lines": len(lines),
            "text": args.text.name,
            **codes,
            "repeats": args.repeats,
            "engine_threads": args.threads,
            "rows": rounded(records),
        }
    )


def best_batch(
    pool: Pool, engine: Engine, lines: list[str], codes: dict[str, Any], batches: list[int]
) -> int:
    """The batch size that an engine is fastest with; its first run doesn't count."""
    pool.ask(engine, "translate", lines=lines[:16], batch=16, **codes)
    if len(batches) == 1:
        return batches[0]
    seconds = {
        size: pool.ask(engine, "translate", lines=lines, batch=size, **codes)["seconds"] for size in batches
    }
    return min(seconds, key=seconds.__getitem__)


if __name__ == "__main__":
    main()
