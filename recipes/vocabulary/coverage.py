"""How much of a text a target vocabulary holds.

`python recipes/vocabulary/coverage.py FOLDER LANGUAGE SOURCES REFERENCES [--sizes 16000 24000] [--text FILE]`

FOLDER holds the tokenizer of an NLLB model or of a Llama; SOURCES and REFERENCES are aligned `.txt` or
`.txt.gz` files. Prints for each size, with and without the tokens of the source, the share of the
references' tokens inside and the share of sentences wholly inside.
"""

import argparse
from pathlib import Path

from dragoman.evaluation.testsets import read_lines
from dragoman.languages import find
from dragoman.text.tokenizers import LlamaTokenizer, NllbTokenizer
from dragoman.text.vocabulary import source_tokens, target_vocabulary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("language", type=find)
    parser.add_argument("sources", type=Path)
    parser.add_argument("references", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[8_000, 16_000, 24_000, 32_000])
    parser.add_argument("--text", type=Path, help="lines in the language that the vocabulary is made for")
    args = parser.parse_args()
    is_llama = (args.folder / "tokenizer.model").exists()
    tokenizer = (LlamaTokenizer if is_llama else NllbTokenizer).from_folder(args.folder)
    references, sources = read_lines(args.references), read_lines(args.sources)
    rows = tokenizer.encode_pieces(references)
    copied = [
        set(source_tokens(tokenizer, row))
        for row, _ in zip(tokenizer.encode_pieces(sources), references, strict=True)
    ]
    text = args.text.read_text(encoding="utf-8").splitlines() if args.text else None
    print("| size | chosen | tokens | sentences | tokens, with source | sentences, with source |")
    print("|---|---|---|---|---|---|")
    for size in args.sizes:
        chosen = set(target_vocabulary(tokenizer, args.language, size, text))
        alone = coverage(rows, [chosen] * len(rows))
        helped = coverage(rows, [chosen | more for more in copied])
        cells = [f"{size:,}", f"{len(chosen):,}", *(f"{share:.2%}" for share in (*alone, *helped))]
        print(f"| {' | '.join(cells)} |")


def coverage(rows: list[list[int]], vocabularies: list[set[int]]) -> tuple[float, float]:
    """The share of tokens that are in the vocabulary of their row, and of rows that are so wholly."""
    inside = [sum(token in known for token in row) for row, known in zip(rows, vocabularies, strict=True)]
    whole = sum(found == len(row) for found, row in zip(inside, rows, strict=True))
    return sum(inside) / sum(map(len, rows)), whole / len(rows)


if __name__ == "__main__":
    main()
