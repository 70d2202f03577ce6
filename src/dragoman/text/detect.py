"""Guess which of a model's languages a text is written in, and say whether the text really tells.

The script of the text comes first: it leaves few languages, often one. Among those py3langid decides (a
naive Bayes model over byte n-grams, 139 languages). Its probabilities over all of them also show when the
text is in a language that the model doesn't speak at all. Where n-grams leave a doubt, as in a word or
two, the bundled lists of common words decide with them, and last the languages that are likely anyway.

A language unknown to py3langid is found only if no other language of the model shares its script
(`detectable` tells); otherwise its texts are taken for its nearest relative.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

from dragoman.languages import Language, all_languages, find, of_code
from dragoman.text.langid import (
    NO_LANGUAGE,
    STANDARD,
    homes_among,
    identifier,
    label_homes,
    label_scripts,
)
from dragoman.text.markup import prose
from dragoman.text.scripts import chinese_scripts, letter_script
from dragoman.text.words import commonness, known_share, word_evidence, words_of

MIN_CONFIDENCE = 0.5
"""N-grams decide for a language that is likelier by them than all others of the model together."""

SURE = 0.8
"""N-grams and words together decide above this probability, ..."""

OVERRULE = 0.9
"""... and against n-grams alone above this one."""

SAMPLE = 10_000
"""How many characters are looked at, from the first that isn't white space."""

# A text is foreign if a language outside has 0.3 or more while all those inside have less than 0.1 together.
_FOREIGN, _AT_HOME = 0.3, 0.1

# Above this n-grams alone are never wrong enough for words to mend it, so no list is read.
_BEYOND_DOUBT = 0.99
# In nats: what n-grams give to a language that they exclude; and what a language gets for being so common
# that its list is full, for being English (its words are on screens everywhere), for having been seen before.
_EXCLUDED, _COMMON, _ENGLISH, _LIKELY = math.log(1e-4), 1.0, 0.5, 8.0
# A language without a list is taken to know so much of what the best list knows of the words.
_UNLISTED = 0.6


@dataclass(frozen=True)
class Detection:
    """A language (NLLB code) and its probability among the languages that came into question.

    sure: whether the text tells it. foreign: whether the text is clearly in a language that isn't
    among those given, so that this one is only its nearest.
    """

    code: str
    confidence: float
    sure: bool = True
    foreign: bool = False


def detect(text: str, among: Collection[str], likely: Collection[str] = ()) -> Detection | None:
    """The language of a text among those given (NLLB codes): the best guess, and whether it is `sure`.

    likely: languages seen before, which only a text that doesn't tell is taken for. None if the text has
    no words, or is in a script that no language of `among` is written in. Equal arguments give
    equal answers. Raises UnknownLanguage for a code that isn't one.
    """
    return _decide(text, _judge(text, frozenset(among)), frozenset(likely))


def explain(text: str, among: Collection[str]) -> str:
    """Why `detect` isn't sure of a text, or finds nothing, in a sentence."""
    return _explanation(_judge(text, frozenset(among)), text, among)


def detectable(among: Collection[str]) -> frozenset[str]:
    """Those of the languages given that `detect` can find among them by n-grams or script."""
    languages = [of_code(code) for code in among]
    found: set[str] = set()
    for script in {language.script for language in languages}:
        candidates = frozenset(language.nllb for language in languages if language.script == script)
        found.update(candidates if len(candidates) == 1 else homes_among(candidates).values())
    return frozenset(found)


# ---- the decision ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Judgement:
    """What the script and the n-grams of a text show.

    scripts: those it may be in, none if it has no letters; share: that of its letters in them;
    candidates: the languages of these scripts; guesses: best first, without those that py3langid
    doesn't know; foreign: its label of one outside.
    """

    scripts: frozenset[str]
    share: float
    candidates: frozenset[str]
    guesses: tuple[Detection, ...] = ()
    foreign: str | None = None

    @property
    def clear(self) -> Detection | None:
        """What n-grams alone tell."""
        likely = bool(self.guesses) and self.guesses[0].confidence > MIN_CONFIDENCE
        return self.guesses[0] if likely and self.foreign is None else None


def _decide(text: str, judgement: _Judgement, likely: frozenset[str]) -> Detection | None:
    """What n-grams, words and what is likely make of a text together."""
    clear = judgement.clear
    if not judgement.candidates or (clear and clear.confidence > _BEYOND_DOUBT):
        return clear
    words = words_of(_sample(text))
    chances = _chances(judgement, words, frozenset())
    best = max(chances, key=chances.__getitem__)
    if clear and (chances[best] <= OVERRULE or word_evidence(words, clear.code) is None):
        return clear
    foreign = judgement.foreign is not None and known_share(words, best) < 0.5
    if chances[best] > SURE and not foreign:
        return Detection(best, chances[best])
    if likely:
        chances = _chances(judgement, words, likely)
        best = max(chances, key=chances.__getitem__)
    return Detection(best, chances[best], sure=False, foreign=foreign)


def _chances(judgement: _Judgement, words: tuple[str, ...], likely: frozenset[str]) -> dict[str, float]:
    """The probability of each candidate: n-grams times words times how usual the language is."""
    codes = sorted(judgement.candidates)
    ngrams = {guess.code: guess.confidence for guess in judgement.guesses}
    evidence = {code: word_evidence(words, code) for code in codes}
    unlisted = _UNLISTED * max((found for found in evidence.values() if found is not None), default=0.0)
    scores = {}
    for code in codes:
        found = evidence[code]
        usual = _COMMON * commonness(code) + _ENGLISH * (code == "eng_Latn") + _LIKELY * (code in likely)
        by_ngrams = math.log(ngrams.get(code, 0.0) + math.exp(_EXCLUDED))
        scores[code] = by_ngrams + (unlisted if found is None else found) + usual
    most = max(scores.values())
    weights = {code: math.exp(score - most) for code, score in scores.items()}
    total = sum(weights.values())
    return {code: judgement.share * weight / total for code, weight in weights.items()}


def _sample(text: str) -> str:
    return prose(text.strip()[:SAMPLE])


def _judge(text: str, among: frozenset[str]) -> _Judgement:
    sample = _sample(text)
    scripts, share = _scripts(sample)
    candidates = _written_in(among, scripts)
    alone = tuple(Detection(code, share) for code in candidates) if len(candidates) == 1 else ()
    homes = homes_among(candidates)
    if not homes:  # py3langid knows none of them, so it could only mislead
        return _Judgement(scripts, share, candidates, alone)
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
        return _Judgement(scripts, share, candidates, alone, foreign)
    _fold_unclear_dialects(inside, known)
    ranked = sorted(inside, key=inside.__getitem__, reverse=True)
    guesses = alone or tuple(Detection(code, inside[code] / known) for code in ranked)
    return _Judgement(scripts, share, candidates, guesses, foreign)


def _fold_unclear_dialects(inside: dict[str, float], known: float) -> None:
    """Count a dialect as its standard language if none of the candidates is clear by itself."""
    if max(inside.values()) <= MIN_CONFIDENCE * known:
        for dialect, standard in STANDARD.items():
            if standard in inside:
                inside[standard] += inside.pop(dialect, 0.0)


# ---- in words ----------------------------------------------------------------------------------------------


def _nearest(judgement: _Judgement, text: str) -> list[Language]:
    """The two languages that the text is likeliest in."""
    if not judgement.candidates:
        return []
    chances = _chances(judgement, words_of(_sample(text)), frozenset())
    return [find(code) for code in sorted(chances, key=lambda code: (-chances[code], code))[:2]]


def _explanation(judgement: _Judgement, text: str, among: Collection[str]) -> str:
    if not judgement.scripts:
        return "The text has no words, so it shows no language."
    if not judgement.candidates:
        scripts = " or ".join(
            sorted({each.script_name for each in all_languages() if each.script in judgement.scripts})
        )
        return (
            f"The text is in {scripts or 'another'} script, and this model speaks no language written in it."
        )
    names = " or ".join(language.name for language in _nearest(judgement, text))
    if judgement.foreign:
        return f"The text looks like {_describe(judgement)}; the nearest that this model speaks is {names}."
    return f"The text doesn't tell its language clearly enough. It might be {names}."


def _describe(judgement: _Judgement) -> str:
    """The foreign language in words."""
    homes = [find(code) for code in label_homes(judgement.foreign or "")]
    if not homes:
        return "no language" if judgement.foreign == NO_LANGUAGE else "another language"
    same = [home for home in homes if home.script in judgement.scripts]
    return same[0].name if same else f"{homes[0].name}, but not in {homes[0].script_name} script"


# ---- scripts -----------------------------------------------------------------------------------------------

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
    # A model may speak languages beyond the table's, of which nothing is known that could tell them.
    languages = set(map(of_code, among)).intersection(all_languages())
    return frozenset(language.nllb for language in languages if language.script in scripts)
