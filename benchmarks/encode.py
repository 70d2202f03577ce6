"""Reading sources, against peers: `python -m benchmarks.encode`.

For NLLB the encoder alone; for Llama the prompt up to the first token it leads to. CTranslate2
has no way to run only the encoder of a translation model, so it is not asked.
"""

import argparse
from typing import Any

from benchmarks import report, rounded, table
from benchmarks.peers.client import Pool
from benchmarks.shapes import SHAPES
from benchmarks.work import Work, arguments, compare, pairs, ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments(parser)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16], help="(default: 1 16)")
    parser.add_argument("--source-tokens", type=int, nargs="+", default=[32, 128], help="(default: 32 128)")
    args = parser.parse_args()
    repeats = 1 if args.quick else args.repeats
    if args.quick:
        args.batches, args.source_tokens = args.batches[:1], args.source_tokens[:1]
    rows, records = [], []
    able = [peer for peer in args.peers if not peer.startswith("ctranslate2")]
    with Pool(args.memory, args.threads) as pool:
        for name in args.shapes:
            wanted = pairs(SHAPES[name], able, args.precisions)
            for batch in args.batches:
                for tokens in args.source_tokens:
                    work = Work(SHAPES[name], batch, 1, tokens, 1)
                    for pair, peer, ours in compare(pool, wanted, {"read": request(work)}, repeats):
                        seconds = peer.seconds.get("read"), ours.seconds.get("read")
                        label = f"{name}, batch {batch}, {tokens} tokens"
                        sides = [pair.peer.label, _ms(seconds[0]), pair.ours.label, _ms(seconds[1])]
                        rows.append([label, *sides, ratio(*seconds)])
                        records.append(
                            {
                                "shape": name,
                                "batch": batch,
                                "source_tokens": tokens,
                                "peer": pair.peer.label,
                                "ours": pair.ours.label,
                                "peer_seconds": seconds[0],
                                "our_seconds": seconds[1],
                                "peer_spread": peer.spread.get("read"),
                                "our_spread": ours.spread.get("read"),
                                "ratio": ratio(*seconds),
                                "peer_error": peer.error,
                                "our_error": ours.error,
                            }
                        )
            pool.stop()
    print(table(["work", "peer", "ms", "ours", "ms", "ratio"], rows))
    for problem in sorted({r[side] for r in records for side in ("peer_error", "our_error") if r[side]}):
        print(problem)
    report(
        {
            "benchmark": "encode",
            "repeats": repeats,
            "engine_threads": args.threads,
            "rows": rounded(records),
        }
    )


def request(work: Work) -> dict[str, Any]:
    """What a worker is asked."""
    return work.request(1) if work.shape.is_llama else {"do": "encode", "sources": work.sources}


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3


if __name__ == "__main__":
    main()
