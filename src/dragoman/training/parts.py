"""Parts of a training mixture: the pairs of one language and one kind of text, and how often they come."""

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragoman.errors import InvalidOption
from dragoman.training.filters import PairFilter, in_their_languages
from dragoman.training.reading import BadRows, Row, read_rows

ENGLISH = "eng_Latn"
Store = Callable[[Iterable[Any]], Sequence[Any]]
"""Keeps rows, in memory or elsewhere."""
PARALLEL, MONOLINGUAL, PREFERENCES = KINDS = ("parallel", "monolingual", "preferences")


@dataclass(frozen=True)
class PartOptions:
    """A kind of text in a mixture, as the settings name it."""

    name: str
    share: float = 1.0
    """How often it comes, relative to the shares of the other parts that the language has."""
    files: str = ""
    """Where it is below the data folder, with `{language}` for the corpus code; empty for what is made up.
    The name tells the form (`reading`)."""
    kind: str = PARALLEL
    """parallel: pairs; monolingual: texts; preferences: a source, a chosen and a rejected translation."""
    other: str = "en"
    """The corpus code of the language on the other side of pairs, if it isn't English."""
    english: str = ""
    """Of plain text, the file with the English lines, or those in `other`."""
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
    same_language: bool = False
    """Pairs and texts are left out that are surely in another language than they should be."""


@dataclass(frozen=True)
class Part:
    """Pairs of one language with English, or with another one."""

    code: str
    name: str
    share: float
    pairs: Sequence[tuple[str, str]]
    """(text, English)"""
    other: str = ENGLISH
    """NLLB code of the other side's language."""

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
    other: str = ENGLISH,
    store: Store = tuple,
) -> tuple[Part, PairFilter] | None:
    """The part of one language with what its filter counted; None if there is nothing of it in that language.

    bad: gets the rows that could not be read. other: NLLB code of the other side; store: where its rows go.

    InvalidOption if there is something, and the filter leaves nothing of it.
    """
    path = data / options.files.format(language=short, code=code)
    if not path.exists():
        return None
    chosen = PairFilter(forbidden, options.same_numbers, same_opening=options.same_opening)
    english = data / options.english.format(language=short, code=code) if options.english else None
    unwanted = Counter[str]()
    rows = _wanted(options, read_rows(path, short, bad, english, options.other), unwanted)
    if options.same_language:
        rows = in_their_languages(rows, (code, other), chosen.dropped)
    found = ((text, translation) for text, translation, _ in chosen(rows))
    pairs = _limited(options, list(found), seed, chosen.dropped) if options.limit else store(found)
    if not pairs and not chosen.dropped:
        return None
    chosen.dropped.update(unwanted)
    if not pairs:
        raise InvalidOption(
            f"nothing is left of {path} for the part {options.name!r}; look at its origins, words and "
            f"what was left out: {dict(chosen.dropped)}"
        )
    return Part(code, options.name, options.share, pairs, other), chosen


def _wanted(options: PartOptions, rows: Iterable[Row], dropped: Counter[str]) -> Iterator[Row]:
    least, most = options.words
    for row in rows:
        origin = row[2]
        if origin.startswith(options.excluded) or not origin.startswith(options.origins or ""):
            dropped["of other origins"] += 1
        elif least <= row[1].count(" ") + 1 <= most:
            yield row
        else:
            dropped["too few or too many words"] += 1


def _limited(
    options: PartOptions, pairs: list[tuple[str, str]], seed: int, dropped: Counter[str]
) -> list[tuple[str, str]]:
    if len(pairs) <= options.limit:
        return pairs
    dropped["beyond the limit"] += len(pairs) - options.limit
    random.Random(seed).shuffle(pairs)
    # Stable: within the long ones and the short ones the order stays random.
    pairs.sort(key=lambda pair: pair[1].count(" ") + 1 < options.long_words)
    return pairs[: options.limit]
