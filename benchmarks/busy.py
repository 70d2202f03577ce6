"""Two threads where others are at work: `python -m benchmarks.busy`.

Processes that do nothing but compute keep the processors busy, while the same sentences are translated
with one thread and with several, in turns. Threads must not wait for one another longer than they
gain: a ratio of 1 means that the others' share is all that is lost. The minimum is shown too, as chance
decides who runs beside whom. With `--forks` as many children translate at once, in the parent's time.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import report, rounded, table
from benchmarks.end_to_end import EMBEDDED
from dragoman import Translator
from dragoman.kernels.library import set_threads

SENTENCES = (
    "Where is the railway station?",
    "I would like to buy a ticket for tomorrow morning.",
    "The doctor told him to stay in bed for a week.",
    "She has been learning to play the piano since she was seven years old.",
    "If it doesn't rain, we are going to have lunch in the park.",
    "Nobody knows what will happen when the old bridge is closed.",
    "Can you tell me how much this costs?",
    "My brother works in a small town near the sea.",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, default=EMBEDDED, help="a folder (default: the embedded model)")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--busy", type=int, default=8, help="processes beside (default: 8; 0: none)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--forks", type=int, default=0, help="also translate in so many children at once")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    translator = Translator.load(str(args.model), precision=args.precision)

    def translate() -> None:
        for sentence in SENTENCES:
            translator.translate(sentence, "en", "de")

    found: dict[str, list[float]] = {}
    with busy(args.busy):
        for turn in range(args.repeats + 1):
            for count in args.threads:
                set_threads(count)
                _note(found, f"{count} threads", translate, turn)
                if args.forks:
                    _note(
                        found, f"{count} threads, {args.forks} children", forked(args.forks, translate), turn
                    )
    base = statistics.median(next(iter(found.values())))
    least = min(next(iter(found.values())))
    headers = ["what", "median s", "least s", "ratio", "ratio of least"]
    rows = [
        [name, statistics.median(all_), min(all_), base / statistics.median(all_), least / min(all_)]
        for name, all_ in found.items()
    ]
    print(f"{len(SENTENCES)} sentences, one after the other, beside {args.busy} busy processes")
    print(table(headers, rows))
    report({"benchmark": "busy", "busy": args.busy, "repeats": args.repeats, "seconds": rounded(found)})


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes beside that never rest."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def forked(count: int, work: Callable[[], None]) -> Callable[[], None]:
    """`work` in so many children of this process at once."""

    def run() -> None:
        children = []
        for _ in range(count):
            child = os.fork()
            if not child:
                status = 1
                try:
                    work()
                    status = 0
                finally:
                    os._exit(status)
            children.append(child)
        statuses = [os.waitpid(child, 0)[1] for child in children]
        if any(statuses):
            raise RuntimeError("a child failed")

    return run


def _note(found: dict[str, list[float]], name: str, work: Callable[[], None], turn: int) -> None:
    """Take the time; the first turn doesn't count."""
    began = time.perf_counter()
    work()
    if turn:
        found.setdefault(name, []).append(time.perf_counter() - began)


if __name__ == "__main__":
    main()
