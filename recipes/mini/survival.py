"""Interface strings with things in them that a translation has to keep letter by letter.

They are made of other words than what training makes up, so that learning those by heart is no help.
"""

import random
import re
from collections import Counter
from collections.abc import Iterable

from dragoman.text import markup

FRAMES = (
    "Welcome back, {x}!", "Send the report to {x}.", "Visit {x} for more information.", "{x} was deleted.",
    "Could not open {x}.", "Are you sure you want to remove {x}?", "You have a new message from {x}.",
    "Click here to continue: {x}", "{x} is not available in your country.", "Save {x} as a new document",
    "The value of {x} must not be empty.", "Last change: {x}", "Show all results for {x}",
    "Replace {x} with {y}?",
    "{x} and {y} have the same name.", "Copy {x} to {y}", "Your order {x} will arrive on Monday.",
    "Only {x} can change these settings.", "Please restart the computer to install {x}.", "Loading {x}...",
)  # fmt: skip
THINGS = {
    "url": ("https://shop.tulip.org/help", "http://northlake.eu/a/17?b=2", "www.greenfield.net",
            "https://ab.cd/e_f#g"),
    "email": ("support@tulip.org", "anna.berg@northlake.eu", "no-reply@mail.greenfield.net", "x_9@ab.cd"),
    "braces": ("{visitor}", "{0}", "{ticket_id}", "{{ city }}", "{{plan}}"),
    "printf": ("%s", "%1$s", "%2$d", "%(owner)s", "%d"),
    "tag": ("<b>Tulip</b>", "<i>North</i>", '<a href="/q">Lake</a>', "<em>7</em>", "<code>ls</code>"),
    "number": ("4,821", "37", "1998", "12.75", "650"),
    "name": ("Marlowe", "Kvistgaard", "Ilse Brandauer", "Otis", "Pellworm"),
    "code": ("max_depth", "readLine()", "--verbose", "TULIP_HOME", "notes.txt"),
}  # fmt: skip


_WORD = re.compile(r"[A-Z][a-z]+")
"""What between tags may be translated: a number or a command has to stay."""


def strings(count: int = 300, seed: int = 7) -> list[tuple[str, list[tuple[str, str]]]]:
    """Strings, each with what has to stay: kinds and things."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        frame = FRAMES[number % len(FRAMES)]
        kinds = rng.sample(list(THINGS), 2)
        x, y = (rng.choice(THINGS[kind]) for kind in kinds)
        found = [(kinds[0], x)] + ([(kinds[1], y)] if "{y}" in frame else [])
        made.append((frame.replace("{x}", x).replace("{y}", y), found))
    return made


def counts(found: Iterable[tuple[list[tuple[str, str]], str]]) -> dict[str, list[int]]:
    """By kind how many things are in their translations, and of how many."""
    kept, there = Counter[str](), Counter[str]()
    for things, translation in found:
        for kind, thing in things:
            there[kind] += 1
            kept[kind] += _stays(kind, thing, translation)
    return {kind: [kept[kind], there[kind]] for kind in sorted(there)}


def _stays(kind: str, thing: str, translation: str) -> bool:
    """Letter by letter; but of a number its digits, and between tags words may be others."""
    if kind == "number":
        return _digits(thing) in _digits(translation)
    if kind == "tag":
        opening, closing = markup.kept(thing)
        words = thing[len(opening) : -len(closing)]
        between = r"[^<>]*\w[^<>]*" if _WORD.fullmatch(words) else re.escape(words)
        return re.search(re.escape(opening) + between + re.escape(closing), translation) is not None
    return thing in translation


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


def rates(found: Iterable[dict[str, list[int]]]) -> dict[str, float]:
    """By kind the share of things that stayed, over several `counts`."""
    kept, there = Counter[str](), Counter[str]()
    for each in found:
        kept.update({kind: pair[0] for kind, pair in each.items()})
        there.update({kind: pair[1] for kind, pair in each.items()})
    return {kind: round(kept[kind] / there[kind], 4) for kind in sorted(there)}
