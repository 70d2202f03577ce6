"""NLLB's ids for transformers from a bare sentencepiece.bpe.model.

The library's own `NllbTokenizer` reads such a file too, but without a tokenizer.json beside it
4.57.6 numbers the languages one too high, and the model then answers in another one.
"""

from pathlib import Path

from sentencepiece import SentencePieceProcessor
from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES

PAD, EOS, UNK = 1, 2, 3


class NllbText:
    """Text to padded ids and back."""

    def __init__(self, folder: str | Path) -> None:
        self.pieces = SentencePieceProcessor(model_file=str(Path(folder) / "sentencepiece.bpe.model"))
        first = self.pieces.get_piece_size() + 1
        self.languages = {code: first + place for place, code in enumerate(FAIRSEQ_LANGUAGE_CODES)}

    def encode(self, lines: list[str], source: str) -> list[list[int]]:
        """Ids of each line with its language and `</s>`; pieces are one higher than in the file."""
        rows = self.pieces.encode(lines)
        return [[self.languages[source], *(i + 1 if i else UNK for i in row), EOS] for row in rows]

    def decode(self, rows: list[list[int]]) -> list[str]:
        """The text of each row's pieces."""
        last = self.pieces.get_piece_size()
        return self.pieces.decode([[i - 1 for i in row if UNK < i <= last] for row in rows])
