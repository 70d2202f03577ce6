"""Sources as people type them: in small letters, without accents, with slips of the finger."""

import unicodedata
from collections.abc import Callable
from random import Random

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_CURLY = str.maketrans({"'": "\u2019"})


def small(text: str, rng: Random) -> str:
    return text.lower()


def without_accents(text: str, rng: Random) -> str:
    parts = unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFC", "".join(c for c in parts if not unicodedata.combining(c))).replace(
        "ß", "ss"
    )


def without_stop(text: str, rng: Random) -> str:
    return text.rstrip(".?!,;:") or text


def curly(text: str, rng: Random) -> str:
    """Quotation marks and apostrophes as word processors set them."""
    marks = iter("\u201c\u201d" * text.count('"'))
    return "".join(next(marks) if c == '"' else c for c in text).translate(_CURLY)


def spaced(text: str, rng: Random) -> str:
    """A space too many before a sign, or one too few behind it."""
    if rng.random() < 0.5:
        return text.replace(",", " ,").replace("?", " ?")
    return text.replace(", ", ",")


def typos(text: str, rng: Random) -> str:
    """One or two letters left out, doubled, swapped or wrong, in words of letters only."""
    for _ in range(rng.choice((1, 1, 2))):
        places = [i for i in range(1, len(text) - 1) if text[i - 1 : i + 2].isalpha()]
        if not places:
            return text
        i = rng.choice(places)
        wrong = (
            text[:i] + text[i + 1 :],
            text[:i] + text[i] + text[i:],
            text[:i] + text[i + 1] + text[i] + text[i + 2 :],
            text[:i] + rng.choice(_LETTERS) + text[i + 1 :],
        )
        text = rng.choice(wrong)
    return text


NOISES: tuple[tuple[Callable[[str, Random], str], int], ...] = (
    (small, 4), (without_accents, 3), (without_stop, 2), (curly, 4), (spaced, 1), (typos, 5),
)  # fmt: skip


def noisy(text: str, rng: Random) -> str:
    """The text with one kind of noise. Words with digits and the like stay as they are."""
    change = rng.choices([noise for noise, _ in NOISES], [weight for _, weight in NOISES])[0]
    if change in (small, typos) and any(sign in text for sign in "{}<>%/\\@_$=#`"):
        # What is to be copied letter by letter must be there letter by letter.
        return text
    return change(text, rng)
