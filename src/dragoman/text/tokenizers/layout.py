"""Which id means what in NLLB-200: pieces first, then the languages, then the mask.

| ids         | meaning                                                              |
|-------------|----------------------------------------------------------------------|
| 0 1 2 3     | `<s>` `<pad>` `</s>` `<unk>`                                         |
| 4 .. V      | SentencePiece's own pieces 3 .. V-1, each one higher than in its file |
| V+1 .. V+202 | the languages, in the published order                               |
| V+203       | `<mask>`; in fairseq's training data the tag `<MINED_DATA>`          |
| V+204 V+205 | rows of the embedding without a token; fairseq's other two data tags |

V is the number of pieces in the SentencePiece file with its `<unk>`, `<s>` and `</s>`: 256000 as
published. The layout is pinned here, because files disagree: a folder with the SentencePiece file
alone names no languages, and some tokenizer.json put the mask before them.
"""

from dataclasses import dataclass
from functools import cached_property

from dragoman.languages import nllb_codes

BOS, PAD, EOS, UNK = 0, 1, 2, 3
SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
MASK = "<mask>"
TAGS = ("<MMT_BT_DATA>", "<SMT_BT_DATA>")


@dataclass(frozen=True)
class NllbLayout:
    """The ids that follow from the number of pieces alone."""

    vocabulary: int
    """V above."""

    @cached_property
    def languages(self) -> dict[str, int]:
        """The id of each NLLB code, in the order of the ids."""
        return {code: self.vocabulary + 1 + place for place, code in enumerate(nllb_codes())}

    @property
    def last_language(self) -> int:
        return self.vocabulary + len(nllb_codes())

    @property
    def mask(self) -> int:
        return self.last_language + 1

    @property
    def rows(self) -> int:
        """How many rows the embedding of a published model has."""
        return self.mask + 1 + len(TAGS)

    @property
    def never_generated(self) -> tuple[int, ...]:
        """Rows that no translation may contain: trained as tags of the training data."""
        return tuple(range(self.mask, self.rows))

    def is_piece(self, token_id: int) -> bool:
        """Whether an id stands for text."""
        return UNK < token_id <= self.vocabulary
