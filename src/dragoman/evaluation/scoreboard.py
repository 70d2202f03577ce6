"""What an evaluation found: a result for each system, test set and direction, and tables of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dragoman.evaluation.comparing import Comparison
from dragoman.evaluation.faults import Faults, faults
from dragoman.evaluation.metrics import length_ratio, scores, sentence_scores
from dragoman.evaluation.testsets import TestSet

WORST = 5
"""So many sentences of each direction are shown."""


@dataclass(frozen=True)
class Speed:
    """How long a test set took, all of it together."""

    seconds: float
    sentences_per_second: float
    source_words_per_second: float


@dataclass(frozen=True)
class Sentence:
    """One that went badly: the source, its reference, the translation, and its chrF++."""

    source: str
    reference: str
    translation: str
    score: float


@dataclass(frozen=True)
class Result:
    """One system on one test set in one direction."""

    system: str
    testset: str
    source: str
    """NLLB code."""
    target: str
    """NLLB code."""
    pair: str
    """In short codes, such as "en-de"."""
    sentences: int
    scores: Mapping[str, float]
    """By metric, from 0 to 100."""
    signatures: Mapping[str, str]
    """sacrebleu's, by metric."""
    length_ratio: float
    faults: Faults
    speed: Speed | None = None
    """None of translations that were there already."""
    worst: tuple[Sentence, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "scores": {name: round(value, 4) for name, value in self.scores.items()},
            "length_ratio": round(self.length_ratio, 4),
            "faults": self.faults.to_dict(),
        }


def result(
    system: str, testset: TestSet, translations: Sequence[str], seconds: float | None = None
) -> list[Result]:
    """The result of a test set, and of the sentences in it that are far from trained ones if it tells them.

    seconds: what translating took, if it was done just now.
    """
    found = [_result(system, testset, translations, seconds)]
    if testset.near is not None:
        far = [text for text, near in zip(translations, testset.near, strict=True) if not near]
        found.append(_result(system, testset.far(), far, None))
    return found


def _result(system: str, testset: TestSet, translations: Sequence[str], seconds: float | None) -> Result:
    found = scores(translations, testset.references, testset.target)
    languages = testset.source, testset.target
    return Result(
        system=system,
        testset=testset.name,
        source=testset.source,
        target=testset.target,
        pair=testset.pair,
        sentences=len(testset),
        scores={score.metric: score.value for score in found},
        signatures={score.metric: score.signature for score in found},
        length_ratio=length_ratio(translations, testset.references, testset.target),
        faults=faults(testset.sources, translations, testset.references, languages),
        speed=None if seconds is None else _speed(testset, seconds),
        worst=tuple(_worst(testset, translations)),
    )


def _speed(testset: TestSet, seconds: float) -> Speed:
    words = sum(len(text.split()) for text in testset.sources)
    rates = (round(count / max(seconds, 1e-9), 2) for count in (len(testset), words))
    return Speed(round(seconds, 2), *rates)


def _worst(testset: TestSet, translations: Sequence[str]) -> Iterable[Sentence]:
    values = sentence_scores(translations, testset.references)
    order = sorted(range(len(testset)), key=lambda i: values[i])
    for i in order[:WORST]:
        yield Sentence(testset.sources[i], testset.references[i], translations[i], round(values[i], 2))


def figures(results: Sequence[Result], comparisons: Mapping[str, Sequence[Comparison]]) -> dict[str, Any]:
    """All figures for a file; comparisons by test set and direction, such as "ntrex en-de"."""
    return {
        "results": [result.to_dict() for result in results],
        "comparisons": {name: [asdict(row) for row in rows] for name, rows in comparisons.items()},
    }


HEADS = ("system", "test set", "direction", "lines", "chrF++", "BLEU", "spBLEU", "length", "loops",
         "wrong language", "numbers lost", "names lost", "lines/s")  # fmt: skip


def rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """The results as a table with `HEADS`, and a mean for each system and test set of several directions."""
    lines = [_row(result) for result in results]
    for system, testset in dict.fromkeys((result.system, result.testset) for result in results):
        some = [r for r in results if (r.system, r.testset) == (system, testset)]
        if len(some) > 1:
            lines.append(_mean_row(some))
    return lines


def mean(results: Sequence[Result], metric: str) -> float | None:
    """A metric's mean over directions; None if one lacks it."""
    values = [result.scores.get(metric) for result in results]
    return None if None in values else sum(value or 0 for value in values) / len(values)


def _row(result: Result) -> tuple[str, ...]:
    metrics = [_one(result.scores.get(name)) for name in ("chrF++", "BLEU", "spBLEU")]
    found = result.faults
    rates = (found.repetition, found.wrong_language, found.lost_numbers, found.lost_names)
    speed = "" if result.speed is None else f"{result.speed.sentences_per_second:.1f}"
    return (result.system, result.testset, result.pair, f"{result.sentences:,}", *metrics,
            f"{result.length_ratio:.2f}", *(f"{rate:.1%}" for rate in rates), speed)  # fmt: skip


def _mean_row(results: Sequence[Result]) -> tuple[str, ...]:
    count = len(results)
    metrics = [_one(mean(results, name)) for name in ("chrF++", "BLEU", "spBLEU")]
    names = ("repetition", "wrong_language", "lost_numbers", "lost_names")
    rates = [sum(getattr(result.faults, name) for result in results) / count for name in names]
    ratio = sum(result.length_ratio for result in results) / count
    sentences = sum(result.sentences for result in results)
    return (results[0].system, results[0].testset, "mean", f"{sentences:,}", *metrics, f"{ratio:.2f}",
            *(f"{rate:.1%}" for rate in rates), "")  # fmt: skip


def _one(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
