"""Do engines write the same? `python -m benchmarks.agreement`.

On equal weights in float32 the same ids are expected, greedy and with beams, for sentences of
unlike lengths; lower precisions show how soon they part ways. Random weights make many near
ties, so that a first difference comes sooner than in a trained model. All are held against the first
that runs, transformers in float32; one runs at a time.
"""

import argparse
from typing import Any

from benchmarks import report, rounded, table
from benchmarks.peers.client import OURS, Engine, PeerError, Pool
from benchmarks.shapes import SHAPES
from benchmarks.work import MATCHES, Work, arguments, chosen, engine

REFERENCE = ("transformers", "fp32")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments(parser)
    parser.add_argument("--new-tokens", type=int, default=16, help="(default: 16)")
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 4], help="(default: 1 4)")
    args = parser.parse_args()
    if args.quick:
        args.new_tokens, args.beams = 6, args.beams[:1]
    rows, problems = [], set()
    with Pool(0, args.threads) as pool:
        for name in args.shapes:
            theirs = {match for match in MATCHES[name] if chosen(*match, args.peers)} - {REFERENCE}
            kinds = [REFERENCE, *((OURS, precision) for precision in args.precisions), *sorted(theirs)]
            reference: dict[int, list[list[int]]] = {}
            for kind in kinds:
                one = engine(SHAPES[name], *kind)
                for beams in args.beams:
                    work = Work(SHAPES[name], 3, beams, 32, args.new_tokens)
                    try:
                        ids = written(pool, one, work)
                    except PeerError as error:
                        problems.add(str(error))
                        continue
                    reference.setdefault(beams, ids)
                    rows.append([name, beams, one.label, *compared(reference[beams], ids)])
    headers = ["shape", "beams", "engine", "tokens", "same ids", "alike until"]
    print(table(headers, rows))
    for problem in sorted(problems):
        print(problem)
    records = [dict(zip(headers, row, strict=True)) for row in rows]
    report({"benchmark": "agreement", "engine_threads": args.threads, "rows": rounded(records)})


def written(pool: Pool, one: Engine, work: Work) -> list[list[int]]:
    """The ids of each sentence, of which the second is 3 and the third 6 tokens shorter."""
    request: dict[str, Any] = work.request(work.new_tokens)
    request["sources"] = [
        [*source[: len(source) - 1 - 3 * row], source[-1]] for row, source in enumerate(request["sources"])
    ]
    return pool.ask(one, **request, ids=True)["ids"]


def compared(reference: list[list[int]], ids: list[list[int]]) -> tuple[int, float, float]:
    """(tokens, share of them that are the same, mean number of tokens before the first difference)."""
    total = sum(map(len, ids))
    same = sum(
        a == b for ours, theirs in zip(ids, reference, strict=True) for a, b in zip(ours, theirs, strict=True)
    )
    until = [
        next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b), len(ours))
        for ours, theirs in zip(ids, reference, strict=True)
    ]
    return total, same / total, sum(until) / len(until)


if __name__ == "__main__":
    main()
