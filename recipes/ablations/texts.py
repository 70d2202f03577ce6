"""Cut small texts for the ablations out of a folder of pairs: `python recipes/ablations/texts.py DATA TEXTS`.

DATA holds train/xx-en.tsv.gz (text, English, origin tag). Only short sentences of Tatoeba are taken, whose
English words are frequent. German and Spanish get many pairs, Dutch few. TEXTS gets bitext/, mono/, asked/,
dev/ and test/; the recipes leave out of all others what is in dev or test (`held_out`).
"""

import argparse
import gzip
import random
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from itertools import permutations
from pathlib import Path

PAIRS = {"de": 8_000, "es": 8_000, "nl": 600}
"""Corpus code -> pairs to learn from, before what is held out is left out."""
NUMBERS = {
    "en": ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"],
    "de": ["eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn"],
    "es": ["uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve", "diez"],
}
NAMES = {"de": "German", "es": "Spanish", "nl": "Dutch"}
ASKED = 500
"""So many of them are in prompts without answers."""
TEXTS = 3_000
"""Sentences of running text in each language, and in English; more than there are pairs in two of them."""
TEST, DEV = 300, 100
WORDS = range(3, 6)
"""How many words an English sentence has; the other side has at most two more."""
FREQUENT = 300
"""Only sentences of these English words, the most frequent ones."""
Pair = tuple[str, str]


def frequent(data: Path) -> set[str]:
    """The most frequent words of Tatoeba's English sentences, those beside German."""
    counts = Counter(word for _, english in pairs(data / "train" / "de-en.tsv.gz") for word in words(english))
    return {word for word, _ in counts.most_common(FREQUENT)}


def words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.casefold())


def pairs(path: Path, known: Collection[str] | None = None) -> Iterator[Pair]:
    """The short sentences of Tatoeba in a file, each text and each translation once. known: English words."""
    seen: set[str] = set()
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            text, english, origin = line.rstrip("\n").split("\t")[:3]
            short = len(english.split()) in WORDS and len(text.split()) < WORDS.stop + 2
            is_known = known is None or all(word in known for word in words(english))
            if origin.startswith("tatoeba") and short and is_known and not seen & {text, english}:
                seen |= {text, english}
                yield text, english


def phrases(code: str) -> list[Pair]:
    """Made-up languages: a word for each of English, in reverse order (de) or the first one last (es)."""
    rng, found = random.Random(code), dict[Pair, None]()
    for _ in range(14_000):
        words = [rng.randrange(10) for _ in range(rng.randrange(2, 6))]
        order = words[::-1] if code == "de" else words[1:] + words[:1]
        found[" ".join(NUMBERS[code][i] for i in order), " ".join(NUMBERS["en"][i] for i in words)] = None
    return list(found)


def asked(code: str, rows: Iterable[Pair]) -> Iterator[str]:
    """Prompts without answers: Llama's vocabulary has their words, so a new one should."""
    for text, english in rows:
        for (one, first), (other, _) in permutations(((NAMES[code], text), ("English", english))):
            yield f"[INST] Translate this from {one} to {other}: {one}: {first} {other}: [/INST]"


def write(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="or `made-up`, for two languages of ten words each")
    parser.add_argument("texts", type=Path)
    args = parser.parse_args()
    english: dict[str, None] = {}
    is_made_up = args.data == Path("made-up")
    known = set() if is_made_up else frequent(args.data)
    for code, count in {"de": 12_000, "es": 12_000}.items() if is_made_up else PAIRS.items():
        data = args.data / "train" / f"{code}-en.tsv.gz"
        found = phrases(code) if is_made_up else list(pairs(data, known))
        random.Random(code).shuffle(found)
        parts = {"test": found[:TEST], "dev": found[TEST : TEST + DEV], "bitext": found[TEST + DEV :][:count]}
        for name, rows in parts.items():
            write(args.texts / name / f"{code}-en.tsv", (f"{one}\t{other}\ttatoeba" for one, other in rows))
        # From the end: text that is no side of a pair, as far as there is enough.
        write(args.texts / "mono" / f"{code}.txt", (one for one, _ in found[-TEXTS:]))
        english |= dict.fromkeys(other for _, other in found[-TEXTS:])
        write(args.texts / "asked" / f"{code}.txt", asked(code, parts["bitext"][:ASKED]))
        print(f"{code}: {len(found):,} short pairs, {len(parts['bitext']):,} of them to learn from")
    sentences = list(english)
    random.Random("en").shuffle(sentences)
    write(args.texts / "mono" / "en.txt", sentences[:TEXTS])


if __name__ == "__main__":
    main()
