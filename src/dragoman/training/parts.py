"""Parts of a training mixture: the pairs of one language and one kind of text, and how often they come."""

import random
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dragoman.errors import InvalidOption
from dragoman.training.filters import PairFilter
from dragoman.training.reading import BadRows, Row, read_rows


@dataclass(frozen=True)
class PartOptions:
    """A kind of text in a mixture, as the settings name it."""

    name: str
    share: float
    """How often it comes, relative to the shares of the other parts that the language has."""
    files: str = ""
    """Where it is below the data folder, with `{language}` for the corpus code; empty for what is made up.
    The name tells the form (`reading`)."""
    english: str = ""
    """Of plain text, the file with the English lines."""
    origins: tuple[str, ...] = ()
    """Only pairs whose origin tag starts with one of these; all if empty."""
    excluded: tuple[str, ...] = ()
    """No pairs whose origin tag starts with one of these."""
    words: tuple[int, int] = (1, 1000)
    """The least and the most English words."""
    limit: int = 0
    """The most pairs of a language, long ones first down to `long_words` words; 0 for all."""
    long_words: int = 7
    same_numbers: bool = True
    """Pairs are left out whose sides have different digits."""
    same_opening: int = 40
    """How many English sentences may begin with the same four words; 0 for any number."""


@dataclass(frozen=True)
class Part:
    """Pairs of one language with English."""

    code: str
    name: str
    share: float
    pairs: tuple[tuple[str, str], ...]
    """(text, English)"""

    def __len__(self) -> int:
        return len(self.pairs)


def read_part(
    options: PartOptions,
    code: str,
    short: str,
    data: Path,
    forbidden: Collection[str],
    seed: int,
    bad: BadRows,
) -> tuple[Part, PairFilter] | None:
    """The part of one language with what its filter counted; None if there is nothing of it in that language.

    bad: gets the rows that could not be read.

    InvalidOption if there is something, and the filter leaves nothing of it.
    """
    path = data / options.files.format(language=short)
    if not path.exists():
        return None
    chosen = PairFilter(forbidden, options.same_numbers, same_opening=options.same_opening)
    english = data / options.english.format(language=short) if options.english else None
    rows = _wanted(options, read_rows(path, short, bad, english))
    pairs = [(text, other) for text, other, _ in chosen(rows)]
    if not pairs and not chosen.dropped:
        return None
    if not pairs:
        raise InvalidOption(
            f"nothing is left of {path} for the part {options.name!r}; look at its origins, words and "
            f"what was left out: {dict(chosen.dropped)}"
        )
    return Part(code, options.name, options.share, tuple(_limited(options, pairs, seed))), chosen


def _wanted(options: PartOptions, rows: Iterable[Row]) -> Iterator[Row]:
    least, most = options.words
    for row in rows:
        origin = row[2]
        if origin.startswith(options.excluded) or not origin.startswith(options.origins or ""):
            continue
        if least <= row[1].count(" ") + 1 <= most:
            yield row


def _limited(options: PartOptions, pairs: list[tuple[str, str]], seed: int) -> list[tuple[str, str]]:
    if not options.limit or len(pairs) <= options.limit:
        return pairs
    random.Random(seed).shuffle(pairs)
    # Stable: within the long ones and the short ones the order stays random.
    pairs.sort(key=lambda pair: pair[1].count(" ") + 1 < options.long_words)
    return pairs[: options.limit]
