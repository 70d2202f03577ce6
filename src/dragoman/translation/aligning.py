"""Which words of a translation are those of a few words of its source, by what each word is alone.

A model that is asked for a few words out of a sentence says something else than within it; single words are
safer, and enough to see where in the translation they are.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MOST_WORDS = 40
"""A sentence of more words is not looked at."""
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_SHORTEST = 3
"""Letters of a word that is asked for; shorter ones are said in too many ways."""
_UNSEEN = 0.15
"""What a word that is nobody's counts against a place that has it."""
_FAR = 0.4
"""What counts against a word that is as far away as can be from where it is expected."""
_ENOUGH = 0.4


def single_words(text: str) -> list[str]:
    """The words of a sentence that are to be translated alone; none if they are too many."""
    found = _WORD.findall(text)
    return [] if len(found) > MOST_WORDS else list(dict.fromkeys(w for w in found if len(w) >= _SHORTEST))


def place_of(
    text: str, start: int, end: int, translation: str, said: Mapping[str, Sequence[str]]
) -> tuple[int, int] | None:
    """Where in a translation the words of text[start:end] are; None if that can't be seen.

    said: what single words are alone, the best first.
    """
    inside: list[_Source] = []
    outside: list[_Source] = []
    for word in _WORD.finditer(text):
        is_inside = start < word.end() and word.start() < end
        one = _Source(_spellings(word[0], said), _share(word, text))
        (inside if is_inside else outside).append(one)
    targets = list(_WORD.finditer(translation))
    best, found = 0.0, None
    total, first, has_own = 0.0, 0, False
    for number, word in enumerate(targets):
        at = _share(word, translation)
        own, others = (
            max((one.fits(word[0], at) for one in side), default=0.0) for side in (inside, outside)
        )
        if total <= 0 or not has_own:
            total, first, has_own = 0.0, number, False
        total += own if own > others else -max(others, _UNSEEN)
        has_own = has_own or own > others
        if own > others and total > best:
            best, found = total, (targets[first].start(), word.end())
    return found if best >= _ENOUGH else None


@dataclass(frozen=True)
class _Source:
    """A word of the source: what it may be in the translation, and where it is expected there."""

    spellings: list[str]
    share: float

    def fits(self, word: str, share: float) -> float:
        """How much speaks for a word of the translation at this share of its length, up to 1."""
        likeness = _likeness(word, self.spellings)
        return likeness - _FAR * abs(share - self.share) if likeness else 0.0


def _share(word: re.Match[str], text: str) -> float:
    return (word.start() + word.end()) / 2 / len(text)


def _spellings(word: str, said: Mapping[str, Sequence[str]]) -> list[str]:
    """What a word may be in the translation: itself, and the words of what it is alone."""
    parts = [part for phrase in said.get(word, ()) for part in _WORD.findall(phrase)[:3]]
    return [one.casefold() for one in (word, *parts)]


def _likeness(word: str, spellings: Sequence[str]) -> float:
    """How surely a word is one of these: 1 for the same, less for one that begins alike."""
    word = word.casefold()
    if word in spellings:
        return 1.0
    return max((0.8 for one in spellings if _begins_alike(word, one)), default=0.0)


def _begins_alike(one: str, other: str) -> bool:
    common = 0
    while common < min(len(one), len(other)) and one[common] == other[common]:
        common += 1
    return common >= max(4, 0.6 * max(len(one), len(other)))
