"""What this machine can do at most: `python -m benchmarks.bandwidth`.

Reading memory, by a sum over a gigabyte, and products of matrices, by what torch has for each type.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks import report, table

ELEMENTS = 250_000_000  # a gigabyte of float32
SIDE = 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one run of each")
    parser.add_argument("--repeats", type=int, default=7, help="runs of each kind (default: 7)")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    repeats = 1 if args.quick else args.repeats
    figures: dict[str, float] = {"read GB/s": read_gigabytes(args.threads, repeats)}
    for name, run in products().items():
        seconds = _seconds(run, args.threads, repeats)
        figures[f"{name} GOP/s"] = 2 * SIDE**3 / seconds / 1e9
    print(table(["what", "most"], list(figures.items())))
    rounded = {name: round(value, 2) for name, value in figures.items()}
    report({"benchmark": "bandwidth", "repeats": repeats, "engine_threads": args.threads, "figures": rounded})


def read_gigabytes(threads: int, repeats: int = 5) -> float:
    """Gigabytes of memory read in a second."""
    data = torch.ones(ELEMENTS)
    return ELEMENTS * 4 / _seconds(data.sum, threads, repeats) / 1e9


def products() -> dict[str, Callable[[], object]]:
    """A product of two square matrices for each type that torch multiplies."""
    a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    half, other = a.bfloat16(), b.bfloat16()
    whole = torch.randint(-127, 127, (SIDE, SIDE), dtype=torch.int8)
    return {
        "fp32": lambda: a @ b,
        "bf16": lambda: half @ other,
        "int8": lambda: torch._int_mm(whole, whole),
    }


def _seconds(run: Callable[[], object], threads: int, repeats: int) -> float:
    """Median seconds after a run that doesn't count; threads are set back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    seconds = []
    for turn in range(repeats + 1):
        began = time.perf_counter()
        run()
        if turn:
            seconds.append(time.perf_counter() - began)
    torch.set_num_threads(before)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
