"""Other shapes of a pair: capitals, fragments, items of a list, quotations. Both sides change alike."""

from collections.abc import Callable
from random import Random

Pair = tuple[str, str]

_BULLETS = ("- ", "* ", "• ", "– ", "# ", "## ", "> ")
_QUOTES = {
    "deu_Latn": ("„", "“"), "fra_Latn": ("« ", " »"), "spa_Latn": ("«", "»"), "nld_Latn": ("“", "”"),
    "ita_Latn": ("«", "»"), "por_Latn": ("“", "”"), "eng_Latn": ("“", "”"),
}  # fmt: skip


def capitals(pair: Pair, rng: Random, codes: Pair) -> Pair:
    """All letters large. ß has no large form that anybody writes."""
    return pair[0].replace("ß", "ss").upper(), pair[1].upper()


def fragment(pair: Pair, rng: Random, codes: Pair) -> Pair:
    """Without the full stop or exclamation mark."""
    cut = pair[0].rstrip(".!"), pair[1].rstrip(".!")
    return cut if all(cut) else pair


def item(pair: Pair, rng: Random, codes: Pair) -> Pair:
    """Of a list, with its sign, number or letter."""
    number = rng.randrange(1, 30)
    sign = rng.choice(
        (
            *_BULLETS,
            f"{number}. ",
            f"{number}) ",
            f"{'abcdef'[number % 6]}) ",
            f"({number}) ",
            f"{number % 10}.{number} ",
        )
    )
    return sign + pair[0], sign + pair[1]


def quotation(pair: Pair, rng: Random, codes: Pair) -> Pair:
    """In straight quotation marks, or each language in its own."""
    if any(sign in side for side in pair for sign in '"„“”«»'):
        return pair
    marks = [('"', '"')] * 2 if rng.random() < 0.5 else [_QUOTES.get(code, ('"', '"')) for code in codes]
    return marks[0][0] + pair[0] + marks[0][1], marks[1][0] + pair[1] + marks[1][1]


SHAPES: tuple[tuple[Callable[[Pair, Random, Pair], Pair], int], ...] = (
    (capitals, 2), (fragment, 5), (item, 3), (quotation, 2),
)  # fmt: skip


def shaped(pair: Pair, rng: Random, codes: Pair) -> Pair:
    """The pair in one of these shapes; codes: the NLLB codes of both sides."""
    change = rng.choices([shape for shape, _ in SHAPES], [weight for _, weight in SHAPES])[0]
    return change(pair, rng, codes)
