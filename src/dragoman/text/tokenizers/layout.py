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

Tokens that somebody added come after the published languages, before or after the mask: new languages,
and whatever else. They take the rows of the tags first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from dragoman.errors import CheckpointError
from dragoman.languages import is_code, nllb_codes

BOS, PAD, EOS, UNK = 0, 1, 2, 3
SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
MASK = "<mask>"
TAGS = ("<MMT_BT_DATA>", "<SMT_BT_DATA>")


@dataclass(frozen=True)
class NllbLayout:
    """The ids that follow from the number of pieces, and from what was added."""

    vocabulary: int
    """V above."""
    tail: tuple[str, ...] = (MASK,)
    """The tokens after the published languages in the order of their ids: the mask, and those added."""

    @cached_property
    def languages(self) -> dict[str, int]:
        """The id of each NLLB code, in the order of the ids; codes that were added last."""
        published = {code: self.vocabulary + 1 + place for place, code in enumerate(nllb_codes())}
        taught = {name: self.first_free + place for place, name in enumerate(self.tail) if is_code(name)}
        return published | taught

    @property
    def taught(self) -> tuple[str, ...]:
        """The codes of languages that were added."""
        return tuple(filter(is_code, self.tail))

    @property
    def first_free(self) -> int:
        """The first id after the published languages."""
        return self.vocabulary + len(nllb_codes()) + 1

    @property
    def mask(self) -> int:
        return self.first_free + self.tail.index(MASK)

    @property
    def tokens(self) -> int:
        """How many ids have a token."""
        return self.first_free + len(self.tail)

    @property
    def names(self) -> tuple[str, ...]:
        """What stands from the first free id on: the tail, and the tags where their rows are still free."""
        return (*self.tail, *TAGS[len(self.tail) - 1 :])

    @property
    def rows(self) -> int:
        """How many rows the embedding has at least, if nobody cut it to the tokens."""
        return self.first_free + len(self.names)

    @property
    def needed(self) -> int:
        """How many rows the embedding must have: one for each token; a mask at the end is never used."""
        return self.tokens - (self.tail[-1] == MASK)

    def never_generated(self, rows: int) -> tuple[int, ...]:
        """Of a model's rows those that no translation may contain: the mask, and rows without a token."""
        return tuple(i for i in (self.mask, *range(self.tokens, rows)) if i < rows)

    @cached_property
    def piece_ids(self) -> range:
        """The ids that stand for text."""
        return range(UNK + 1, self.vocabulary + 1)

    def is_piece(self, token_id: int) -> bool:
        """Whether an id stands for text."""
        return token_id in self.piece_ids


def tail_of(found: Mapping[int, str], first: int, where: object) -> tuple[str, ...]:
    """The tokens from the id `first` on, the mask among them; CheckpointError if ids between them are free.

    found: what a file says, name by id. Published languages and a mask that the file has before them
    have their places already.
    """
    published = frozenset(nllb_codes())
    later = {i: name for i, name in found.items() if i >= first and name not in published}
    if MASK not in later.values():
        # A file that has the mask before the languages counts like one that has it behind them.
        later[first if first not in later else max(later) + 1] = MASK
    for expected, place in enumerate(sorted(later), first):
        if place != expected:
            raise CheckpointError(
                f"{where} gives the added token {later[place]!r} the id {place} and leaves out {expected}; "
                "tokens that are added follow each other. Add them again to the published tokenizer"
            )
    return tuple(later[place] for place in sorted(later))
