"""How long translations are: makes `data/lengths.tsv`, and counts the translations that a cap would cut.

`python recipes/vocabulary/lengths.py FLORES` reads the devtest's `<code>.txt.gz`. Every second line trains
two stand-ins for published tokenizers (one with pieces of all languages, as NLLB's, and one of European
languages with bytes for all else, as Llama's); the other lines are measured in all directions.
"""

import argparse
import gzip
from io import BytesIO
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

from dragoman.languages import find
from dragoman.systems.base import length_cap
from dragoman.text.lengths import growth

EUROPEAN = ["eng", "deu", "fra", "spa", "ita", "por", "rus", "pol", "nld", "swe"]
PROMPT = 40
"""About how many tokens an X-ALMA prompt has besides its sentence."""


class StandIn:
    """A tokenizer as `growth` asks it."""

    def __init__(self, lines: list[str], **settings: Any) -> None:
        written = BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=written, model_type="bpe", minloglevel=2,
            character_coverage=1.0, **settings,
        )  # fmt: skip
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())

    def encode_pieces(self, texts: list[str]) -> list[list[int]]:
        return self._processor.encode(texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("flores", type=Path)
    parser.add_argument("--out", type=Path, default=Path("src/dragoman/data/lengths.tsv"))
    args = parser.parse_args()
    texts = {}
    for path in sorted(args.flores.glob("*.txt.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            texts[path.name.removesuffix(".txt.gz")] = lines.read().splitlines()
    english = sum(map(len, texts["eng_Latn"]))
    rows = [f"{code}\t{sum(map(len, lines)) / english:.2f}\n" for code, lines in texts.items()]
    args.out.write_text("language\tcharacters\n" + "".join(rows), encoding="utf-8")
    everything = [line for lines in texts.values() for line in lines[::2]]
    european = [line for code, lines in texts.items() if code[:3] in EUROPEAN for line in lines[::2]]
    measured = {code: lines[1::2] for code, lines in texts.items()}
    count("all languages", StandIn(everything, vocab_size=48_000), measured, 2)
    count("bytes", StandIn(european, vocab_size=16_000, byte_fallback=True), measured, PROMPT)


def count(name: str, tokenizer: StandIn, texts: dict[str, list[str]], extra: int) -> None:
    """Print how many translations are cut by a cap that knows their growth, and by one that doesn't."""
    tokens = {code: np.array([len(r) for r in tokenizer.encode_pieces(t)]) for code, t in texts.items()}
    cut = np.zeros(2, int)
    total = 0
    for source, target in permutations(texts, 2):
        known = growth(tokenizer, find(source), find(target))  # type: ignore[arg-type]
        for place, factor in enumerate((1.0, known)):
            caps = [length_cap(int(n) + extra, 4096, factor) for n in tokens[source]]
            cut[place] += (tokens[target] > caps).sum()
        total += len(tokens[source])
    print(f"{name}: of {total:,} translations {cut[0]:,} are cut without and {cut[1]:,} with their growth")


if __name__ == "__main__":
    main()
