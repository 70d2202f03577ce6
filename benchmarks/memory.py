"""How much memory the same work takes: `python -m benchmarks.memory`.

Each engine loads the model and translates in a fresh process. Peak is what was ever resident;
of what still is, `own` is the process's own and `mapped` lies in files that others can share.
"""

import argparse

from benchmarks import report, rounded, table
from benchmarks.peers.client import Engine, PeerError, open_engine
from benchmarks.shapes import SHAPES
from benchmarks.work import Work, arguments, pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments(parser)
    args = parser.parse_args()
    rows, records = [], []
    for name in args.shapes:
        shape = SHAPES[name]
        tokens = 4 if args.quick else 32
        work = Work(shape, 1 if shape.is_llama or args.quick else 16, 4, 32, tokens)
        wanted = pairs(shape, args.peers, args.precisions, args.vocabulary)
        for engine in dict.fromkeys(one for pair in wanted for one in (pair.peer, pair.ours)):
            found = measure(engine, work, args.threads)
            values = [found.get(part) for part in ("peak", "own", "mapped")]
            rows.append([work.label, engine.label, *values])
            records.append({"work": work.label, "engine": engine.label, **found})
    print(table(["work", "engine", "peak GB", "own GB", "mapped GB"], rows))
    for problem in sorted({str(record["error"]) for record in records if "error" in record}):
        print(problem)
    report({"benchmark": "memory", "engine_threads": args.threads, "rows": rounded(records)})


def measure(engine: Engine, work: Work, threads: int) -> dict[str, float | str]:
    """Gigabytes after the work, or the error that kept it from being done."""
    try:
        with open_engine(engine, threads) as worker:
            worker.ask(**work.request(work.new_tokens))
            return dict(worker.ask("memory"))
    except PeerError as error:
        return {"error": str(error)}


if __name__ == "__main__":
    main()
