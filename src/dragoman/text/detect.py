"""Guess which of a model's languages a text is written in, or say that the text doesn't tell.

The script of the text comes first: it leaves few languages, often one. Among those py3langid decides (a
naive Bayes model over byte n-grams, 139 languages). Its probabilities over all of them also show when the
text is in a language that the model doesn't speak at all.

A language unknown to py3langid is found only if no other language of the model shares its script
(`detectable` tells); otherwise its texts are taken for its nearest relative, or for none.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn

from dragoman.errors import LanguageNotDetected
from dragoman.languages import all_languages, find
from dragoman.text.langid import (
    NO_LANGUAGE,
    STANDARD,
    homes_among,
    identifier,
    label_homes,
    label_scripts,
)
from dragoman.text.scripts import chinese_scripts, letter_script

MIN_CONFIDENCE = 0.5
"""A guess counts when it's likelier than all other languages of the model together."""

SAMPLE = 10_000
"""How many characters are looked at, from the first that isn't white space."""

# A text is foreign if a language outside has 0.3 or more while all those inside have less than 0.1 together.
_FOREIGN, _AT_HOME = 0.3, 0.1
_POSSIBLE = 0.1


@dataclass(frozen=True)
class Detection:
    """A language (NLLB code) and its probability among the languages that came into question."""

    code: str
    confidence: float


def detect(text: str, among: Collection[str]) -> Detection | None:
    """The language of a text among those given (NLLB codes); None if the text doesn't tell.

    That is: no letters, no language of this script, a language outside `among`, or no guess above
    `MIN_CONFIDENCE`. Raises UnknownLanguage for a code that isn't one.
    """
    judgement = _judge(text, frozenset(among))
    return judgement.guesses[0] if judgement.is_clear else None


def detect_or_raise(text: str, among: Collection[str]) -> Detection:
    """As `detect`, but LanguageNotDetected says why the text doesn't tell, and what to do."""
    judgement = _judge(text, frozenset(among))
    if not judgement.is_clear:
        _fail(judgement, among)
    return judgement.guesses[0]


def detectable(among: Collection[str]) -> frozenset[str]:
    """Those of the languages given that `detect` can find among them."""
    languages = [find(code) for code in among]
    found: set[str] = set()
    for script in {language.script for language in languages}:
        candidates = frozenset(language.nllb for language in languages if language.script == script)
        found.update(candidates if len(candidates) == 1 else homes_among(candidates).values())
    return frozenset(found)


# ---- the decision ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Judgement:
    """What a text shows.

    scripts: those it may be in, none if it has no letters; candidates: the languages of these scripts;
    guesses: best first, without those that py3langid doesn't know; foreign: its label of one outside.
    """

    scripts: frozenset[str]
    candidates: frozenset[str]
    guesses: tuple[Detection, ...] = ()
    foreign: str | None = None

    @property
    def is_clear(self) -> bool:
        likely = bool(self.guesses) and self.guesses[0].confidence > MIN_CONFIDENCE
        return likely and self.foreign is None


def _judge(text: str, among: frozenset[str]) -> _Judgement:
    sample = _ADDRESS.sub(" ", text.strip()[:SAMPLE])
    scripts, share = _scripts(sample)
    candidates = _written_in(among, scripts)
    alone = tuple(Detection(code, share) for code in candidates) if len(candidates) == 1 else ()
    homes = homes_among(candidates)
    if not homes:  # py3langid knows none of them, so it could only mislead
        return _Judgement(scripts, candidates, alone)
    inside: defaultdict[str, float] = defaultdict(float)
    outside: defaultdict[str, float] = defaultdict(float)
    for label, probability in identifier().rank(sample):
        if label == "yue" and _CANTONESE.isdisjoint(sample):
            label = "zh"
        if label in homes:
            inside[homes[label]] += probability
        elif label == NO_LANGUAGE or not scripts.isdisjoint(label_scripts(label)):
            outside[label] += probability
    known = sum(inside.values())
    total = known + sum(outside.values())
    foreign = max(outside, key=outside.__getitem__, default=None)
    if foreign and not (outside[foreign] >= _FOREIGN * total and known < _AT_HOME * total):
        foreign = None
    if known == 0:
        return _Judgement(scripts, candidates, alone, foreign)
    _fold_unclear_dialects(inside, known)
    ranked = sorted(inside, key=inside.__getitem__, reverse=True)
    guesses = alone or tuple(Detection(code, inside[code] / known) for code in ranked)
    return _Judgement(scripts, candidates, guesses, foreign)


def _fold_unclear_dialects(inside: dict[str, float], known: float) -> None:
    """Count a dialect as its standard language if none of the candidates is clear by itself."""
    if max(inside.values()) <= MIN_CONFIDENCE * known:
        for dialect, standard in STANDARD.items():
            if standard in inside:
                inside[standard] += inside.pop(dialect, 0.0)


def _fail(judgement: _Judgement, among: Collection[str]) -> NoReturn:
    """Raise the LanguageNotDetected that fits."""
    guesses = [find(guess.code) for guess in judgement.guesses[:2]]
    scripts = " or ".join(
        sorted({each.script_name for each in all_languages() if each.script in judgement.scripts})
    )
    candidates = [find(code) for code in sorted(judgement.candidates)]
    names = " or ".join(language.name for language in guesses or candidates[:3])
    if not judgement.scripts:
        problem = "The text has no letters, so it shows no language."
    elif not candidates:
        problem = (
            f"The text is in {scripts or 'another'} script, and this model speaks no language written in it."
        )
    elif judgement.foreign:
        problem = (
            f"The text looks like {_describe(judgement)}; the nearest that this model speaks is {names}."
        )
    else:
        problem = f"The text doesn't tell its language clearly enough. It might be {names}."
    others = ["fra_Latn"] if "fra_Latn" in among or not among else sorted(among)
    example = [*guesses, *candidates, find(others[0])][0].short_code
    possible = tuple(guess.code for guess in judgement.guesses if guess.confidence >= _POSSIBLE)
    raise LanguageNotDetected(
        f"{problem} Say which language it is, such as: --from {example}",
        None if not judgement.scripts else () if judgement.foreign else possible,
    )


def _describe(judgement: _Judgement) -> str:
    """The foreign language in words."""
    homes = [find(code) for code in label_homes(judgement.foreign or "")]
    if not homes:
        return "no language" if judgement.foreign == NO_LANGUAGE else "another language"
    same = [home for home in homes if home.script in judgement.scripts]
    return same[0].name if same else f"{homes[0].name}, but not in {homes[0].script_name} script"


# ---- scripts -----------------------------------------------------------------------------------------------

# Bounded and in ASCII only, so that hostile text costs nothing and Chinese around an address stays.
_ADDRESS = re.compile(r"(?:https?://|www\.)[!-~]+|[\w.+-]{1,64}@[a-z0-9.-]+", re.IGNORECASE | re.ASCII)

_SYLLABIC = {"Hani", "Kana", "Hang"}
_CANTONESE = frozenset(
    "嘅咗唔冇佢喺嚟哋啲嗰咁噉乜嘢睇啱"
)  # written Cantonese hardly does without one of them


def _scripts(text: str) -> tuple[frozenset[str], float]:
    """The scripts (of `Language.script`) that most letters of a text fit, and the share of those letters."""
    counts: Counter[str] = Counter()
    for character, count in Counter(text).items():
        script = letter_script(character)
        # A Chinese sentence has about a third of the letters of an English one.
        counts[script] += 3 * count if script in _SYLLABIC else count
    del counts[""]
    japanese = counts["Hani"] + counts["Kana"]
    if 10 * counts["Kana"] >= japanese > 0:
        counts["Jpan"] = japanese
        del counts["Hani"], counts["Kana"]
    if not counts:
        return frozenset(), 0.0
    script, count = counts.most_common(1)[0]
    scripts = chinese_scripts(text) if script == "Hani" else {script}
    return frozenset(scripts), count / counts.total()


@lru_cache(maxsize=256)
def _written_in(among: frozenset[str], scripts: frozenset[str]) -> frozenset[str]:
    # Not `find`: a model may speak languages beyond the table's, of which nothing is known here.
    languages = [language for language in all_languages() if language.nllb in among]
    return frozenset(language.nllb for language in languages if language.script in scripts)
