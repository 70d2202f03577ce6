"""Other numbers, other names and things without a language, in both sides of a pair alike."""

import re
from collections import Counter
from collections.abc import Sequence
from random import Random

from dragoman.training.augmentation import made_up

Pair = tuple[str, str]

_NUMBER = re.compile(r"(?<![\w.,])\d+(?:[.,\u00a0\u202f ]\d{3})*(?:[.,]\d+)?(?![\w]|[.,]\d)")
_CAPITALISED = re.compile(r"(?<![\w@/.-])[A-ZÄÖÜÁÉÍÓÚÇÈ][\w]*[a-zà-ÿ](?![\w@/-]|\.\w)")
# Of these a corpus of exercises has too many.
FREQUENT = frozenset((
    "Tom", "Mary", "John", "Boston", "Maria", "María", "Marie", "Jane", "Bill", "Bob", "Jim", "Ken",
    "Mike", "Ziri", "Sami", "Layla", "Yanni", "Skura", "Ann", "Alice", "Emily", "Jack", "Jackson",
    "Paul", "Peter", "Smith", "Brown", "Lucy", "Nancy", "Kate", "Betty", "Judy", "Taro", "Dan", "Linda",
    "Fadil", "Rima", "Mennad", "Baya",
))  # fmt: skip
_VOWELS = "aeiouyáéíóúäöüèêAEIOUYÁÉÍÓÚÄÖÜÈÊhH"


def other_numbers(pair: Pair, rng: Random) -> Pair:
    """Every number that stands once on both sides, however it is written, gets other digits in both.

    A number keeps its digits' number and its points; years stay years, and one digit stays above 1, since
    grammar hangs on it.
    """
    found = [{_digits(m): m for m in _NUMBER.finditer(side)} for side in pair]
    counts = [Counter(_digits(m) for m in _NUMBER.finditer(side)) for side in pair]
    both = [
        d for d in found[0] if d in found[1] and counts[0][d] == counts[1][d] == 1 and d not in ("0", "1")
    ]
    edits: list[list[tuple[int, int, str]]] = [[], []]
    for digits in both:
        new = _other_digits(digits, rng)
        for side in (0, 1):
            match = found[side][digits]
            edits[side].append((match.start(), match.end(), _with_digits(match.group(), new)))
    return _edited(pair[0], edits[0]), _edited(pair[1], edits[1])


def _digits(match: re.Match[str]) -> str:
    return "".join(c for c in match.group() if c.isdigit())


def _other_digits(digits: str, rng: Random) -> str:
    if len(digits) == 1:
        return str(rng.randrange(2, 10))
    if len(digits) == 4 and digits[:2] in ("18", "19", "20"):
        return str(rng.randrange(1200, 2060))
    first = str(rng.randrange(1, 10)) if digits[0] != "0" else "0"
    return first + "".join(str(rng.randrange(10)) for _ in digits[1:])


def _with_digits(written: str, digits: str) -> str:
    left = iter(digits)
    return "".join(next(left) if c.isdigit() else c for c in written)


def _edited(text: str, edits: Sequence[tuple[int, int, str]]) -> str:
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def shared_names(pair: Pair) -> list[str]:
    """Capitalised words that stand on both sides equally often, and not only where a sentence begins."""
    counts = [Counter(map(_without_genitive, _CAPITALISED.findall(side))) for side in pair]
    return [
        word
        for word, count in counts[0].items()
        if counts[1][word] == count and (word in FREQUENT or not all(s.startswith(word) for s in pair))
    ]


def _without_genitive(word: str) -> str:
    return word[:-1] if word[-1] == "s" and word[:-1] in FREQUENT else word


def other_names(pair: Pair, rng: Random, names: Sequence[str], frequent: float, others: float) -> Pair:
    """Each shared name becomes another one, with the chance `frequent` if exercises are full of it.

    names: real ones to choose from; every second one is made up. others: the chance of all other names. A
    genitive's s stays where it was.
    """
    for word in shared_names(pair):
        chance = frequent if word in FREQUENT else others
        if rng.random() >= chance:
            continue
        new = _name(rng, names, word)
        pattern = re.compile(rf"(?<!\w){re.escape(word)}(?=s?(?!\w))")
        sides = [pattern.sub(new.replace("\\", ""), side) for side in pair]
        pair = (sides[0], sides[1])
    return pair


def _name(rng: Random, names: Sequence[str], word: str) -> str:
    """Another name. After a vowel comes a vowel, since French and English listen to it."""
    vowel = word[0] in _VOWELS
    new = word
    for _ in range(20):
        new = rng.choice(names) if names and rng.random() < 0.5 else made_up.name(rng)
        if (new[0] in _VOWELS) == vowel:
            break
    return f"{new} {made_up.name(rng)}" if rng.random() < 0.12 else new


def things(pair: Pair, rng: Random) -> Pair:
    """Put something without a language into both sides: at a shared word, at the ends, around them."""
    words = {*shared_names(pair), *_NUMBER.findall(pair[0])}
    shared = sorted(word for word in words if pair[0].count(word) == pair[1].count(word) == 1)
    choice = rng.random()
    if shared and choice < 0.6:
        return _at_shared(pair, rng, rng.choice(shared))
    if choice < 0.75:
        return _around(pair, rng)
    return _at_ends(pair, rng)


def _at_shared(pair: Pair, rng: Random, word: str) -> Pair:
    new = made_up.thing(rng)
    opening, closing = made_up.tags(rng)
    form = rng.choice(
        (new, new, f"{opening}{word}{closing}", f"{word} ({new})", f'"{new}"', f"{opening}{new}{closing}")
    )
    return pair[0].replace(word, form), pair[1].replace(word, form)


def _around(pair: Pair, rng: Random) -> Pair:
    opening, closing = made_up.tags(rng)
    if rng.random() < 0.5:
        return f"{opening}{pair[0]}{closing}", f"{opening}{pair[1]}{closing}"
    # Only what comes before or behind: half a sentence's markup, as segments have it.
    if rng.random() < 0.5:
        return opening + pair[0], opening + pair[1]
    return pair[0] + closing, pair[1] + closing


def _at_ends(pair: Pair, rng: Random) -> Pair:
    new = made_up.thing(rng)
    stops = [side[-1:] if side[-1:] in ".!?:" else "" for side in pair]
    bodies = [side[: len(side) - len(stop)] for side, stop in zip(pair, stops, strict=True)]
    form = rng.choice(("colon", "colon", "brackets", "end", "end", "start", "start colon"))
    if form == "colon":
        return f"{bodies[0]}: {new}", f"{bodies[1]}: {new}"
    if form == "brackets":
        return f"{bodies[0]} ({new}){stops[0]}", f"{bodies[1]} ({new}){stops[1]}"
    if form == "end":
        return f"{pair[0]} {new}", f"{pair[1]} {new}"
    mark = ":" if form == "start colon" else ""
    return f"{new}{mark} {pair[0]}", f"{new}{mark} {pair[1]}"


def pure(rng: Random) -> Pair:
    """Something that is its own translation, alone or a few in a row."""
    count = rng.choice((1, 1, 2, 3))
    parts = [
        made_up.thing(rng) if rng.random() < 0.7 else f"{made_up.name(rng)} {made_up.name(rng)}"
        for _ in range(count)
    ]
    text = rng.choice((" ", ", ", " - ", " / ", "; ", ": ")).join(parts)
    return text, text
