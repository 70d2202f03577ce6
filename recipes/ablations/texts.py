"""Cut small texts for the ablations out of a folder of pairs: `python recipes/ablations/texts.py DATA TEXTS`.

DATA holds train/xx-en.tsv.gz (text, English, origin tag). Only short sentences of Tatoeba are taken. German and Spanish
get many pairs, Dutch and Italian few, but as much text of their own: what a small relative gains or loses can be seen.
TEXTS gets bitext/, mono/, dev/ and test/; what is in dev or test the recipes leave out of the rest (`held_out`).
"""

import argparse
import gzip
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

PAIRS = {"de": 30_000, "es": 30_000, "nl": 3_000, "it": 3_000}
"""Corpus code -> pairs to learn from, before what is held out is left out."""
TEXTS = 15_000
"""Sentences of running text in each language, and in English; more than there are pairs in two of them."""
TEST, DEV = 400, 100
WORDS = range(3, 7)
"""How many words an English sentence has; the other side has at most two more."""
Pair = tuple[str, str]


def pairs(path: Path) -> Iterator[Pair]:
    """The short sentences of Tatoeba in a file, each text and each translation once."""
    seen: set[str] = set()
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            text, english, origin = line.rstrip("\n").split("\t")[:3]
            short = len(english.split()) in WORDS and len(text.split()) < WORDS.stop + 2
            if origin.startswith("tatoeba") and short and not seen & {text, english}:
                seen |= {text, english}
                yield text, english


def write(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("texts", type=Path)
    args = parser.parse_args()
    english: dict[str, None] = {}
    for code, count in PAIRS.items():
        found = list(pairs(args.data / "train" / f"{code}-en.tsv.gz"))
        random.Random(code).shuffle(found)
        parts = {"test": found[:TEST], "dev": found[TEST : TEST + DEV], "bitext": found[TEST + DEV :][:count]}
        for name, rows in parts.items():
            write(args.texts / name / f"{code}-en.tsv", (f"{one}\t{other}\ttatoeba" for one, other in rows))
        # From the end: text that is no side of a pair, as far as there is enough.
        write(args.texts / "mono" / f"{code}.txt", (one for one, _ in found[-TEXTS:]))
        english |= dict.fromkeys(other for _, other in found[-TEXTS:])
        print(f"{code}: {len(found):,} short pairs, {len(parts['bitext']):,} of them to learn from")
    sentences = list(english)
    random.Random("en").shuffle(sentences)
    write(args.texts / "mono" / "en.txt", sentences[:TEXTS])


if __name__ == "__main__":
    main()
