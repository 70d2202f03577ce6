"""Writing translations, against peers: `python -m benchmarks.decode`.

Every engine writes exactly as many tokens for the same sentences with the same random weights of
published shapes. A step is what one more token costs: the time of the whole, less that of a
start of one or two tokens, by the tokens between. Ratios above 1 say that Dragoman is faster.
Bandwidth counts every weight that a plain decoder would read in our step; what is cut or screened
away is not read, so that it may exceed 100 %.
"""

import argparse

from benchmarks import report, rounded, table
from benchmarks.bandwidth import read_gigabytes
from benchmarks.peers.client import OURS, Pool
from benchmarks.shapes import SHAPES
from benchmarks.work import WEIGHT_BYTES, Timing, Work, arguments, compare, pairs, ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments(parser)
    parser.add_argument("--batches", type=int, nargs="+", help="sentences (default: 1 and 16; Llama 1)")
    parser.add_argument("--beams", type=int, nargs="+", help="(default: 4; Llama 1 and 5)")
    parser.add_argument("--new-tokens", type=int, help="(default: 32; Llama 64)")
    args = parser.parse_args()
    repeats = 1 if args.quick else args.repeats
    speed = read_gigabytes(args.threads, 1 if args.quick else 5)
    print(f"memory is read at {speed:.1f} GB/s with {args.threads} threads")
    rows, records = [], []
    with Pool(args.memory, args.threads) as pool:
        for name in args.shapes:
            wanted = pairs(SHAPES[name], args.peers, args.precisions, args.vocabulary)
            for work in works(name, args):
                requests = {"start": work.request(work.short), "whole": work.request(work.new_tokens)}
                for pair, peer, ours in compare(pool, wanted, requests, repeats):
                    share = _bandwidth(work, pair.ours.precision, step_ms(work, ours), speed)
                    rows.append(_row(work, pair.peer.label, pair.ours.label, peer, ours, share))
                    records.append(_record(work, pair.peer.label, pair.ours.label, peer, ours, share))
            pool.stop()
    headers = ["work", "peer", "s", "ms/step", "ours", "s", "ms/step", "bandwidth", "ratio", "ratio of steps"]
    print(table(headers, rows))
    for problem in sorted({r[side] for r in records for side in ("peer_error", "our_error") if r[side]}):
        print(problem)
    report(
        {
            "benchmark": "decode",
            "repeats": repeats,
            "engine_threads": args.threads,
            "read_gigabytes": round(speed, 2),
            "rows": rounded(records),
        }
    )


def works(name: str, args: argparse.Namespace) -> list[Work]:
    """The rows of a shape's table."""
    shape = SHAPES[name]
    llama = shape.is_llama
    tokens = args.new_tokens or (64 if llama else 32)
    source = 64 if llama else 32
    batches, beams = args.batches or ([1] if llama else [1, 16]), args.beams or ([1, 5] if llama else [4])
    if args.quick:
        tokens, batches, beams = 6, batches[:1], beams[-1:]
    return [Work(shape, batch, width, source, tokens) for batch in batches for width in beams]


def step_ms(work: Work, timing: Timing) -> float | None:
    """Milliseconds that one more token of the whole batch takes."""
    if timing.error:
        return None
    between = timing.seconds["whole"] - timing.seconds["start"]
    # On a machine with other work the start may take longer than the whole.
    return between / (work.new_tokens - work.short) * 1e3 if between > 0 else None


def _bandwidth(work: Work, precision: str, step: float | None, speed: float) -> float | None:
    """The share of the memory's bandwidth that a step's weights alone take."""
    if step is None:
        return None
    gigabytes = work.shape.step_parameters(work.batch * work.beams) * WEIGHT_BYTES[precision] / 1e9
    return gigabytes / (step / 1e3) / speed


def _row(work: Work, peer_label: str, label: str, peer: Timing, ours: Timing, share: float | None) -> list:
    steps = step_ms(work, peer), step_ms(work, ours)
    whole = peer.seconds.get("whole"), ours.seconds.get("whole")
    percent = None if share is None or OURS not in label or "words" in label else f"{share:.0%}"
    return [
        work.label,
        peer_label,
        whole[0],
        steps[0],
        label,
        whole[1],
        steps[1],
        percent,
        ratio(*whole),
        ratio(*steps),
    ]


def _record(work: Work, peer_label: str, label: str, peer: Timing, ours: Timing, share: float | None) -> dict:
    return {
        "shape": work.shape.name,
        "batch": work.batch,
        "beams": work.beams,
        "source_tokens": work.source_tokens,
        "new_tokens": work.new_tokens,
        "start_tokens": work.short,
        "peer": peer_label,
        "ours": label,
        "peer_seconds": peer.seconds,
        "our_seconds": ours.seconds,
        "peer_spread": peer.spread,
        "our_spread": ours.spread,
        "peer_step_ms": step_ms(work, peer),
        "our_step_ms": step_ms(work, ours),
        "our_bandwidth": share,
        "ratio": ratio(peer.seconds.get("whole"), ours.seconds.get("whole")),
        "step_ratio": ratio(step_ms(work, peer), step_ms(work, ours)),
        "peer_error": peer.error,
        "our_error": ours.error,
    }


if __name__ == "__main__":
    main()
