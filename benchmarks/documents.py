"""Large documents read and written: `python -m benchmarks.documents`.

Each document is made, parsed, and rendered with other words in every segment, in a process of its own, whose
largest memory is told. Seconds are the processor's. Beside each stands one of a tenth of its size: the time
that both take should be in the proportion of their sizes. No model runs.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from benchmarks import ROOT, peak_gigabytes, report, rounded, table
from dragoman.documents import parse
from dragoman.documents.document import Parts
from tests.documents.packages import paragraph, run, word

_TEXT = "the old harbour was quiet in the morning when a ship with white sails came round the point"
_WORDS = _TEXT.split()
_OTHER = str.maketrans("aeo", "éía")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one run of each, of a tenth of the size")
    parser.add_argument("--one", nargs=2, metavar=("NAME", "SIZE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one[0], int(args.one[1]))))
        return
    figures: dict[str, dict[str, float]] = {}
    for name, (_, size, unit) in KINDS.items():
        size //= 10 if args.quick else 1
        runs = [
            [_in_process(name, each) for each in (size // 10, size)]
            for _ in range(1 if args.quick else args.repeats)
        ]
        small, large = (
            {key: statistics.median(found[which][key] for found in runs) for key in runs[0][which]}
            for which in (0, 1)
        )
        seconds = large["parse_s"] + large["render_s"]
        ratio = seconds / (small["parse_s"] + small["render_s"])
        figures[name] = {"size": size, **large, "times_a_tenth": ratio}
        print(
            f"{name}: {size:,} {unit}, {seconds:.1f} s, {large['peak_gb']:.2f} GB, {ratio:.1f} times a tenth"
        )
    headers = ["document", "size", "segments", "MB", "parse s", "render s", "peak GB", "times a tenth"]
    keys = ["size", "segments", "mb", "parse_s", "render_s", "peak_gb", "times_a_tenth"]
    print(table(headers, [[name, *(one[key] for key in keys)] for name, one in figures.items()]))
    report({"benchmark": "documents", "repeats": args.repeats, "figures": rounded(figures)})


def measure(name: str, size: int) -> dict[str, float]:
    """Seconds and gigabytes for one document in this process."""
    make, _, _ = KINDS[name]
    data = make(size)
    began = time.process_time()
    document = parse(data, name)
    parsed = time.process_time()
    made = document.render([_altered(segment.parts) for segment in document.segments], "de")
    rendered = time.process_time()
    assert len(made) >= len(data) * 0.9
    return {
        "segments": len(document.segments),
        "mb": len(data) / 1e6,
        "parse_s": parsed - began,
        "render_s": rendered - parsed,
        "peak_gb": peak_gigabytes(),
    }


def _in_process(name: str, size: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.documents", "--one", name, str(size)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def _altered(parts: Parts) -> Parts:
    return tuple(part.translate(_OTHER) if isinstance(part, str) else part for part in parts)


def _sentences(seed: int, words: int) -> Iterator[str]:
    chosen = random.Random(seed)
    while True:
        yield " ".join(chosen.choices(_WORDS, k=words)).capitalize() + "."


def word_document(pages: int) -> bytes:
    """A .docx of so many pages, each of ten paragraphs with words in bold."""
    some = _sentences(1, 20)
    body = (
        paragraph(run(next(some) + " "), run(next(some), "<w:b/>"), run(" ok")) for _ in range(10 * pages)
    )
    return word("".join(body))


def page(megabytes: int) -> bytes:
    """An HTML page of so many megabytes: paragraphs with links, and tables."""
    some = _sentences(2, 12)
    pieces, length = ['<html lang="en"><body>\n'], 0
    while length < megabytes * 1_000_000:
        cells = "".join(f"<td>{next(some)}</td>" for _ in range(3))
        pieces.append(
            f'<p class="text">{next(some)} <a href="/page/{length}">{next(some)}</a> and <b>more</b>.</p>\n'
            f"<table><tr>{cells}</tr></table>\n"
        )
        length += len(pieces[-1])
    return "".join([*pieces, "</body></html>\n"]).encode()


def rows(count: int) -> bytes:
    """A table of so many rows, with a number and two texts in each."""
    some = _sentences(3, 8)
    return "".join(f'{number},{next(some)},"{next(some)}"\n' for number in range(count)).encode()


KINDS: dict[str, tuple[Callable[[int], bytes], int, str]] = {
    "docx": (word_document, 1000, "pages"),
    "html": (page, 100, "megabytes"),
    "csv": (rows, 1_000_000, "rows"),
}
"""What makes a document of a size, and the size that is looked at."""


if __name__ == "__main__":
    main()
