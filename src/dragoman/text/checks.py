"""What is wrong with a translation, as far as its letters tell: a look at it beside its source.

    findings = check("Hi {name}", "Bonjour", find("en"), find("fr"))

They cost tens of microseconds, so that every translation can be looked at, and they prefer silence to
a false alarm: what people's own translations do now and then is no finding.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import regex

from dragoman.languages import Language, of_code
from dragoman.text.detect import detect, detectable
from dragoman.text.langid import STANDARD
from dragoman.text.markup import kept
from dragoman.text.scripts import script_of, scripts_of

UNKNOWN, MARKUP, NUMBER, REPETITION, UNTRANSLATED, LENGTH, LANGUAGE = (
    "unknown-characters", "markup", "number", "repetition", "untranslated", "length", "wrong-language"
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """Something that is wrong: its kind in a word, and what it is in a sentence that quotes little."""

    kind: str
    message: str


def check(source: str, translation: str, spoken: Language, wanted: Language) -> tuple[Finding, ...]:
    """What is wrong with the translation of a sentence from one language to another."""
    if spoken == wanted:
        return ()
    found = (
        _markup(source, translation),
        _numbers(source, translation),
        _repetition(source, translation),
        _untranslated(source, translation, spoken, wanted),
        _length(source, translation),
    )
    return tuple(finding for finding in found if finding)


# ---- characters that a model doesn't know ------------------------------------------------------------------


class Tokenizer(Protocol):
    """What is asked of a tokenizer here."""

    unk_id: int

    def encode_pieces(self, texts: list[str]) -> list[list[int]]:
        """The ids of each text's pieces."""


class Alphabet:
    """Which characters a tokenizer can keep."""

    MOST = 1 << 16
    """How many characters are remembered."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: set[str] = set()

    def lacks(self, text: str) -> str:
        """The characters of a text that become `<unk>`, each once, in their order."""
        if self._known.issuperset(text):
            return ""
        new = [character for character in dict.fromkeys(text) if character not in self._known]
        rows = self._tokenizer.encode_pieces(new)
        unknown = {char for char, row in zip(new, rows, strict=True) if self._tokenizer.unk_id in row}
        if len(self._known) < self.MOST:
            self._known.update(char for char in new if char not in unknown)
        return "".join(character for character in new if character in unknown)

    def check(self, source: str) -> Finding | None:
        """What is wrong with a source sentence before it is translated."""
        lacking = self.lacks(source)
        if not lacking:
            return None
        return Finding(UNKNOWN, f"the model doesn't know {_quoted(lacking)}, which gets lost or garbled")


# ---- what has to stay --------------------------------------------------------------------------------------


def _markup(source: str, translation: str) -> Finding | None:
    wanted = kept(source)
    if not wanted:
        return None
    missing = Counter(wanted) - Counter({part: translation.count(part) for part in wanted})
    if not missing:
        return None
    return Finding(MARKUP, f"the translation lacks {_quoted(missing)}")


_DIGITS = regex.compile(r"\p{Nd}(?:[.,'’٫٬\u00a0\u202f \u2009]?\p{Nd})*")
_SIGNS = regex.compile(r"\P{Nd}+")
_SMALL = 20
"""Numbers up to it are often written as words, or the other way round."""


def _numbers(source: str, translation: str) -> Finding | None:
    """Digits of the source that aren't anywhere in the translation."""
    wanted = [(number[0], digits) for number in _DIGITS.finditer(source) if (digits := _plain(number[0]))]
    if not wanted:
        return None
    there = _plain(translation)
    missing = [written for written, digits in wanted if not _is_there(digits, there)]
    if not missing:
        return None
    return Finding(NUMBER, f"the translation lacks {_quoted(missing)}")


def _plain(text: str) -> str:
    """The digits of a text as ASCII writes them."""
    digits = _SIGNS.sub("", text)
    return digits if digits.isascii() else "".join(str(int(digit)) for digit in digits)


def _is_there(digits: str, there: str) -> bool:
    bare = digits.strip("0")  # 30,000 is 3万 elsewhere, and 05 is 5
    return not bare or int(bare) <= _SMALL or bare in there


# ---- loops, copies and lengths -----------------------------------------------------------------------------

_GRAM = 8
"""How many characters are compared: a word and a bit."""
_LOOPED = 0.35
"""The share of a text that says again what it has said."""


def _repetition(source: str, translation: str) -> Finding | None:
    looped = repeated_share(translation)
    if looped < _LOOPED or looped < 2 * repeated_share(source):
        return None
    return Finding(REPETITION, "the translation repeats itself")


def repeated_share(text: str) -> float:
    """Which share of a text's strings of eight characters it has had before, from 0 to 1."""
    count = len(text) - _GRAM + 1
    if count < 2 * _GRAM:
        return 0.0
    return 1 - len({text[i : i + _GRAM] for i in range(count)}) / count


_WORDS = 4
"""A sentence of fewer words may well be a name, which stays."""


def _untranslated(source: str, translation: str, spoken: Language, wanted: Language) -> Finding | None:
    if source == translation or source.casefold() == translation.casefold():
        lower = sum(word[:1].islower() for word in source.split())
        if lower >= _WORDS - 1 or (not spoken.writes_spaces and len(source) >= 2 * _WORDS):
            return Finding(UNTRANSLATED, "the translation is the source unchanged")
        return None
    if spoken.script == wanted.script or len(translation.split()) < _WORDS:
        return None
    scripts = Counter(map(script_of, translation))
    del scripts[""]
    if scripts and not scripts_of(wanted).intersection(scripts):
        return Finding(UNTRANSLATED, f"the translation has no letter of {wanted.script_name} script")
    return None


_TELLS = 30
"""Characters from which a text shows its language as a rule."""
_CERTAIN = 0.95


def wrong_language(translation: str, wanted: Language, among: frozenset[str]) -> Finding | None:
    """Whether a translation is in another language of these (NLLB codes), for all that can be told.

    It costs ten times as much as all of `check`, and the language identifier has to be loaded for it.
    """
    if len(translation) < _TELLS or wanted.nllb not in detectable(among):
        return None
    found = detect(translation, among)
    if found is None or not found.sure or found.confidence < _CERTAIN or found.code == wanted.nllb:
        return None
    if STANDARD.get(found.code, found.code) == STANDARD.get(wanted.nllb, wanted.nllb):
        return None
    return Finding(LANGUAGE, f"the translation is {of_code(found.code).name}")


_DENSE = frozenset({"Hani", "Kana", "Hang"})
_LEAST = 20
"""Shorter sentences than it are many times as long or short in other languages."""
_RATIO = 3.5


def _length(source: str, translation: str) -> Finding | None:
    if source.strip() and not translation.strip():
        return Finding(LENGTH, "the translation is empty")
    lengths = _weight(source), _weight(translation)
    if max(lengths) < _LEAST * _RATIO or max(lengths) < _RATIO * min(lengths):
        return None
    word = "shorter" if lengths[0] > lengths[1] else "longer"
    return Finding(LENGTH, f"the translation is much {word} than its source")


def _weight(text: str) -> int:
    """The length of a text; a Chinese or Korean sentence has a third of the letters of an English one."""
    if text.isascii():
        return len(text)
    return sum(3 if script_of(character) in _DENSE else 1 for character in text)


def _quoted(parts: Iterable[str]) -> str:
    """A few parts of a text in quotation marks."""
    shown = [part if len(part) <= 40 else part[:40] + "…" for part in dict.fromkeys(parts)]
    return ", ".join(f"“{part}”" for part in shown[:5]) + (", …" if len(shown) > 5 else "")
