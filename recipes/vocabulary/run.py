"""List the commonest words of each language: `python recipes/vocabulary/run.py --data DIR [--out DIR]`.

`DIR` holds `train/<xx>-en.tsv.gz`: text, English, origin tag. Only text of the origins below is read, as
the lists ship with the package. Of languages without spaces the lists hold strings of letters that recur.
"""

import argparse
import gzip
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from dragoman.languages import find
from dragoman.text.scripts import script_of, scripts_of

ORIGINS = ("tatoeba:manythings", "tatoeba:challenge", "tatoeba:laser", "tatoeba:pivot", "tico19")
TRADITIONAL = "+hant"
"""Ends the origin tag of Chinese that isn't simplified."""
LONGEST = 20_000
"""Most words a language."""
LEAST = 4
"""A string of letters has to occur this often to be listed; a word needn't."""
NGRAM = 5
"""The longest string of letters."""
BANDS = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
"""Words are in bands, the commonest first; inside a band the alphabet compresses better."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/")
    parser.add_argument("--out", type=Path, default=Path("src/dragoman/data/words"))
    args = parser.parse_args()
    english: set[str] = set()
    for path in sorted((args.data / "train").glob("*-en.tsv.gz")):
        texts = defaultdict[str, list[str]](list)
        for source, translation, code in read(path):
            texts[code].append(source)
            english.add(translation)
        for code, sentences in texts.items():
            write(args.out, code, sentences)
    write(args.out, "eng_Latn", sorted(english))


def read(path: Path) -> Iterator[tuple[str, str, str]]:
    """Each open pair of a file with the NLLB code of its first side."""
    code = find(path.name.partition("-")[0]).nllb
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            source, translation, origin = line.rstrip("\n").split("\t")
            if origin.removesuffix(TRADITIONAL) in ORIGINS:
                yield source, translation, "zho_Hant" if origin.endswith(TRADITIONAL) else code


def write(folder: Path, code: str, sentences: list[str]) -> None:
    """Write a language's list, if its script is the one that the text is in."""
    language = find(code)
    letters = Counter(script_of(character) for text in sentences[:1000] for character in text)
    del letters[""]
    if letters.most_common(1)[0][0] not in scripts_of(language):
        print(f"{code}: skipped, its text is in {letters.most_common(1)[0][0]}")
        return
    counts = words(sentences) if language.writes_spaces else strings(sentences, scripts_of(language))
    ranked = sorted(counts, key=lambda word: (-counts[word], word))[:LONGEST]
    edges = [0, *BANDS, LONGEST]
    bands = [sorted(ranked[start:end]) for start, end in pairwise(edges)]
    folder.mkdir(parents=True, exist_ok=True)
    content = "\n".join(word for band in bands for word in band)
    path = folder / f"{code}.txt.gz"
    path.write_bytes(gzip.compress(content.encode("utf-8"), 9, mtime=0))
    print(f"{code}: {len(ranked):,} words of {len(sentences):,} sentences, {path.stat().st_size:,} bytes")


def words(sentences: list[str]) -> dict[str, int]:
    """The words as they are written, without the punctuation around them."""
    characters = set().union(*sentences)
    around = "".join(c for c in characters if unicodedata.category(c)[0] not in "LM")
    counts = Counter(word.strip(around) for text in sentences for word in text.split())
    del counts[""]
    return counts


def strings(sentences: list[str], scripts: frozenset[str]) -> dict[str, int]:
    """Strings of two and more letters of the scripts that aren't almost always part of one longer string."""
    counts: Counter[str] = Counter()
    for text in sentences:
        inside = "".join(c if script_of(c) in scripts else " " for c in text)
        for run in re.findall(r"\S{2,}", inside):
            for length in range(2, NGRAM + 1):
                counts.update(run[i : i + length] for i in range(len(run) - length + 1))
    longer: Counter[str] = Counter()
    for string, count in counts.items():
        for part in (string[1:], string[:-1]):
            longer[part] = max(longer[part], count)
    return {s: n for s, n in counts.items() if n >= LEAST and longer[s] < 0.9 * n}


if __name__ == "__main__":
    main()
