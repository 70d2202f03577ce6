"""How often translations fail in ways that a score hides: rates over a test set, without a model."""

import re
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from functools import cache

from dragoman.text.checks import repeated_share
from dragoman.text.detect import detect

_NUMBER = re.compile(r"\d+(?:[.,\u00a0\u202f ]\d{3})*(?:[.,]\d+)?")
_NAME = re.compile(r"(?<![\w-])[A-ZÀ-ÞŁŚŠŽČĆ][\w’'-]*\w")
_LOOPED = 0.35
"""The share of a translation that says again what it has said."""
_WORDS = 4
"""A sentence of fewer words may well be in any language."""


@dataclass(frozen=True)
class Faults:
    """Rates from 0 to 1."""

    repetition: float
    """Translations of which a third says again what was said, and whose references don't."""
    wrong_language: float
    """Translations that are surely in another language of the set's two, or empty."""
    lost_numbers: float
    """Numbers of the source that aren't in the translation; of those that are in the reference."""
    lost_names: float
    """Capitalised words of the source that the reference has letter by letter and the translation hasn't."""
    copied: float
    """Translations that are the source unchanged, and whose references aren't."""

    def to_dict(self) -> dict[str, float]:
        return {name: round(value, 4) for name, value in asdict(self).items()}


def faults(
    sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str], languages: tuple[str, str]
) -> Faults:
    """The rates of some translations; languages: NLLB codes of sources and references."""
    rows = list(zip(sources, hypotheses, references, strict=True))
    count = max(1, len(rows))
    numbers = [kept_share(numbers_in(s), numbers_in(r), numbers_in(h)) for s, h, r in rows]
    names = [kept_share(names_in(s), names_in(r), h) for s, h, r in rows]
    return Faults(
        repetition=sum(_loops(h, r) for _, h, r in rows) / count,
        wrong_language=sum(_is_foreign(h, r, languages) for _, h, r in rows) / count,
        lost_numbers=_lost(numbers),
        lost_names=_lost(names),
        copied=sum(h == s != r for s, h, r in rows) / count,
    )


def kept_share(wanted: Collection[str], referred: Collection[str], there: Collection[str]) -> tuple[int, int]:
    """Of what source and reference share, how many there are in a translation, and how many in all."""
    shared = [item for item in wanted if item in referred]
    return sum(item in there for item in shared), len(shared)


def _lost(shares: Sequence[tuple[int, int]]) -> float:
    kept, total = (sum(share[i] for share in shares) for i in (0, 1))
    return 1 - kept / total if total else 0.0


def numbers_in(text: str) -> list[str]:
    """The digits of each number, without signs between them, which languages write in their own ways."""
    return ["".join(c for c in number if c.isdigit()) for number in _NUMBER.findall(text)]


@cache
def names_in(text: str) -> tuple[str, ...]:
    """Capitalised words that don't begin a sentence."""
    return tuple(
        match.group()
        for match in _NAME.finditer(text)
        if (before := text[: match.start()].rstrip(" \"'“„«‘(")) and before[-1] not in ".!?:;…"
    )


def _loops(hypothesis: str, reference: str) -> bool:
    return repeated_share(hypothesis) >= _LOOPED > repeated_share(reference)


def _is_foreign(hypothesis: str, reference: str, languages: tuple[str, str]) -> bool:
    if not hypothesis.strip():
        return bool(reference.strip())
    if len(hypothesis.split()) < _WORDS or languages[0] == languages[1]:
        return False
    found = detect(hypothesis, languages)
    return found is not None and found.sure and found.code != languages[1]
