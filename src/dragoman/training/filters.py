"""Which pairs of a corpus are worth learning from, and why the others aren't."""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from xxhash import xxh3_64_intdigest

from dragoman.text.detect import detect

FREQUENT = ("eng_Latn", "deu_Latn", "fra_Latn", "spa_Latn", "rus_Cyrl", "zho_Hans")
"""What text in another language often turns out to be."""
TELLING = 20
"""Characters without which a text doesn't tell its language."""
_DIGITS = re.compile(r"\d+")
_OPENING_WORDS = 4


def text_key(text: str) -> str:
    """What two texts have in common that differ in nothing but case, signs and spaces.

    Compatibility normalisation and case folding; of the rest only letters, marks and digits stay.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in folded if c.isalnum() or unicodedata.category(c)[0] == "M")


@dataclass
class PairFilter:
    """Passes (text, English, origin) on, and counts by reason what it leaves out."""

    forbidden: Collection[str] = ()
    """Keys (`text_key`) of text that must not be learned, on either side: what models are tested on."""
    same_numbers: bool = True
    """Both sides must have the same digits, in any order."""
    longest_ratio: float = 2.5
    """How many times as long one side may be, of sides with more than 20 characters."""
    same_opening: int = 40
    """How many English sentences may begin with the same four words; 0 for any number."""
    dropped: Counter[str] = field(default_factory=Counter)
    kept: int = 0
    _pairs: set[int] = field(default_factory=set)
    """Hashes of those that were seen."""
    _openings: Counter[str] = field(default_factory=Counter)

    def __call__(self, rows: Iterable[tuple[str, str, str]]) -> Iterator[tuple[str, str, str]]:
        for text, english, origin in rows:
            reason = self._reason(text, english)
            if reason is None:
                self.kept += 1
                yield text, english, origin
            else:
                self.dropped[reason] += 1

    def _reason(self, text: str, english: str) -> str | None:
        keys = text_key(text), text_key(english)
        if not all(keys):
            return "without words"
        if keys[0] in self.forbidden or keys[1] in self.forbidden:
            return "held out"
        if self._is_known("\t".join(keys)):
            return "had before"
        if text == english:
            return "identical sides"
        sizes = sorted((len(text), len(english)))
        if sizes[1] > 20 and sizes[1] > self.longest_ratio * sizes[0]:
            return "lengths too different"
        if self.same_numbers and digits(text) != digits(english):
            return "other numbers"
        return self._opening(english)

    def _is_known(self, key: str) -> bool:
        """Whether a pair was seen before; from now on it was."""
        count = len(self._pairs)
        self._pairs.add(xxh3_64_intdigest(key.encode()))
        return len(self._pairs) == count

    def _opening(self, english: str) -> str | None:
        words = english.casefold().split(" ", _OPENING_WORDS)[:_OPENING_WORDS]
        if not self.same_opening or len(words) < _OPENING_WORDS:
            return None
        opening = " ".join(words)
        self._openings[opening] += 1
        return "begins like many" if self._openings[opening] > self.same_opening else None


@dataclass
class RowFilter:
    """Passes rows of texts on, and counts by reason what it leaves out."""

    forbidden: Collection[str] = ()
    """Keys (`text_key`) of text that must not be learned."""
    dropped: Counter[str] = field(default_factory=Counter)
    _rows: set[int] = field(default_factory=set)
    """Hashes of those that were seen."""

    def __call__(self, rows: Iterable[Any], texts: int) -> Iterator[Any]:
        """rows: tuples whose first `texts` items are texts."""
        for row in rows:
            reason = self._reason([text_key(text) for text in row[:texts]])
            if reason is None:
                yield row
            else:
                self.dropped[reason] += 1

    def _reason(self, keys: Sequence[str]) -> str | None:
        if not all(keys):
            return "without words"
        if any(key in self.forbidden for key in keys):
            return "held out"
        count = len(self._rows)
        self._rows.add(xxh3_64_intdigest("\t".join(keys).encode()))
        return "had before" if len(self._rows) == count else None


def in_their_languages(rows: Iterable[Any], codes: Sequence[str], dropped: Counter[str]) -> Iterator[Any]:
    """The rows whose texts may be in their languages; counts those that surely are in another of these.

    rows: tuples whose first items are the texts in the languages `codes`. A text that doesn't tell passes.
    """
    for row in rows:
        if any(is_elsewhere(text, code, codes) for text, code in zip(row, codes, strict=False)):
            dropped["another language"] += 1
        else:
            yield row


def is_elsewhere(text: str, code: str, among: Iterable[str]) -> bool:
    """Whether a text surely is in another language than `code`: one of `among`, or a frequent one.

    Texts of fewer than 20 characters are not judged: names and loanwords are at home everywhere.
    """
    if len(text) < TELLING:
        return False
    found = detect(text, frozenset((code, *among, *FREQUENT)))
    return found is not None and found.sure and found.code != code


def digits(text: str) -> str:
    """All digits of a text, sorted: the same on both sides where numbers are only written differently."""
    return "".join(sorted("".join(_DIGITS.findall(text))))
