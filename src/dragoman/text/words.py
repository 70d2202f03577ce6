"""The bundled lists of common words: what they hold, and how well a text's words fit a language."""

import gzip
import math
from functools import cache, lru_cache

import regex

MOST_WORDS = 64
"""How many words of a text are looked up."""

RARE = 19
"""log2 of the place that a word has which is on no list: a list has 20,000 words, below 2 ** 15."""

_WORD = regex.compile(r"[\p{L}\p{M}]+(?:['-][\p{L}\p{M}]+)*")
_LONGEST = 20_000
_FIRST_BAND = 5  # the lists are ordered by bands, the first of which holds 32 words


def word_list(code: str) -> list[str]:
    """The bundled words of a language (NLLB code), the commonest first; none for most languages."""
    from importlib.resources import files  # late: it costs more than the rest of this module

    path = files("dragoman.data") / "words" / f"{code}.txt.gz"
    return gzip.decompress(path.read_bytes()).decode("utf-8").split("\n") if path.is_file() else []


def words_of(text: str) -> tuple[str, ...]:
    """The first `MOST_WORDS` words of a text, in lower case."""
    found = _WORD.finditer(text.replace("’", "'").casefold())
    return tuple(match[0] for match, _ in zip(found, range(MOST_WORDS), strict=False))


@lru_cache(maxsize=1024)
def word_evidence(words: tuple[str, ...], code: str) -> float | None:
    """How much words speak for a language: 0 if it lists none of them, the more the commoner they are there.

    It is in nats: log P(word | language) by Zipf's law over the same of an unknown word, added up
    and divided by the root of the number of words, as neighbours say much the same. None for a
    language without a list.
    """
    places = _places(code)
    if not places:
        return None
    total = sum(RARE - _place(word, places) for word in words)
    return math.log(2) * total / math.sqrt(max(len(words), 1))


def commonness(code: str) -> float:
    """How much of a full list of words a language has, from 0 to 1: much text makes a long one."""
    return min(len(_places(code)) / _LONGEST, 1.0)


def known_share(words: tuple[str, ...], code: str) -> float:
    """The share of words that are on a language's list."""
    places = _places(code)
    return sum(_place(word, places) < RARE for word in words) / max(len(words), 1)


def _place(word: str, places: dict[str, int]) -> int:
    found = places.get(word)
    if found is None and "-" in word:
        found = min(places.get(part, RARE) for part in word.split("-"))
    return RARE if found is None else found


@cache
def _places(code: str) -> dict[str, int]:
    """log2 of each word's place on a language's list, rounded up."""
    places: dict[str, int] = {}
    for number, word in enumerate(word_list(code)):
        places.setdefault(word.replace("’", "'").casefold(), max(_FIRST_BAND, number.bit_length()))
    return places
