"""Sentences tried again: with the terms of a glossary, with other options, by another model.

What came of the first attempt stays what it is unless something is the matter with it: then the best of all
attempts is taken, which is the one with the fewest problems, and of equals the earliest.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from dragoman.generation.options import GenerationOptions
from dragoman.languages import Language
from dragoman.systems import Request, System
from dragoman.text.checks import Finding, check, wrong_language
from dragoman.text.glossary import missing
from dragoman.translation.results import Candidate

TERM_BEAMS = 8
"""Beams where terms are to be put in: those on the way to one take some of them."""
RETRY_BEAMS = 8
RETRY_NGRAM = 3
RETRY_PENALTY = 1.15
"""What a second attempt does otherwise: it looks further, and never says the same again."""

_ENDLESS = 1000
"""What a translation that never ends is worse than: any number of missing terms."""

Tries = Sequence[tuple[Candidate, ...]]


@dataclass(frozen=True)
class Attempt:
    """How a sentence is translated."""

    options: GenerationOptions
    stage: int = 0
    """The place of this kind of attempt in the order in which they are made; the first's is 0."""
    with_terms: bool = False
    """Whether the search is to put the request's terms in."""
    by: System | None = None
    """The model that does it, if it isn't the usual one."""


@dataclass(frozen=True)
class Fallback:
    """Another model, for what the usual one can't do."""

    system: System
    options: GenerationOptions
    languages: frozenset[str]
    """NLLB codes of those that it speaks."""

    def speaks(self, request: Request) -> bool:
        return {request.source.nllb, request.target.nllb} <= self.languages


class Attempts:
    """What is tried for each sentence of a call."""

    def __init__(
        self,
        options: GenerationOptions,
        retry: bool = False,
        fallback: Fallback | None = None,
        languages: frozenset[str] = frozenset(),
    ) -> None:
        """options: of the first attempt; retry: whether what failed is tried with other options.

        languages: NLLB codes of those that the model speaks, and may speak by mistake.
        """
        self._options, self._retry, self._fallback = options, retry, fallback
        self._languages = languages
        self._is_watchful = retry or fallback is not None

    def first(self, request: Request) -> Attempt:
        """How a sentence is tried first."""
        options = self._options
        if (request.terms or self._is_watchful) and not options.sample:
            options = replace(options, n_best=options.beams)
        return Attempt(options)

    def only(self, request: Request) -> Attempt:
        """How a sentence is tried where there is no second time."""
        beams = max(self._options.beams, TERM_BEAMS)
        if not request.terms:
            return Attempt(self._options)
        return Attempt(replace(_searching(self._options), beams=beams), with_terms=True)

    def next(self, request: Request, tries: Tries, last: Attempt) -> Attempt | None:
        """How a sentence is to be tried again; None if these attempts, `last` the last of them, are all."""
        best = self.best(request, tries)[0]
        for attempt in (self._for_terms, self._otherwise, self._elsewhere):
            found = attempt(request, best)
            if found is not None and found.stage > last.stage:
                return found
        return None

    def best(self, request: Request, tries: Tries) -> tuple[Candidate, ...]:
        """The candidates of all attempts, those with the fewest problems first, as many as were wanted."""
        first = tries[0]
        if len(tries) == 1 and not (first and self._problems(request, first[0])):
            return first[: self._options.n_best]  # the rest need not be looked at
        ranked = [
            (self._problems(request, one), number, rank, one)
            for number, candidates in enumerate(tries)
            for rank, one in enumerate(candidates)
        ]
        ranked.sort(key=lambda each: each[:3])
        found: dict[str, Candidate] = {}
        for *_, one in ranked:
            found.setdefault(one.text, one)
        return tuple(found.values())[: self._options.n_best]

    # The stages

    def _for_terms(self, request: Request, best: Candidate) -> Attempt | None:
        if not missing(request.terms, best.text, request.target):
            return None
        beams = max(self._options.beams, TERM_BEAMS)
        options = replace(_searching(self._options), beams=beams, n_best=beams)
        return Attempt(options, stage=1, with_terms=True)

    def _otherwise(self, request: Request, best: Candidate) -> Attempt | None:
        if not self._retry or not self._problems(request, best):
            return None
        beams = max(self._options.beams, RETRY_BEAMS)
        options = replace(
            _searching(self._options),
            beams=beams,
            n_best=beams,
            no_repeat_ngram=RETRY_NGRAM,
            repetition_penalty=max(self._options.repetition_penalty, RETRY_PENALTY),
        )
        return Attempt(options, stage=2, with_terms=bool(request.terms))

    def _elsewhere(self, request: Request, best: Candidate) -> Attempt | None:
        fallback = self._fallback
        if fallback is None or not fallback.speaks(request) or not self._problems(request, best):
            return None
        options = replace(fallback.options, n_best=fallback.options.beams)
        return Attempt(options, stage=3, with_terms=bool(request.terms), by=fallback.system)

    def _problems(self, request: Request, candidate: Candidate) -> int:
        """How much is the matter with a translation."""
        if not (request.terms or self._is_watchful):
            return 0
        lacking = len(missing(request.terms, candidate.text, request.target))
        found = self.look_over(request, candidate.text)
        # Terms for the price of a sentence without an end are no bargain.
        return lacking + len(found) + _ENDLESS * (not candidate.complete)

    def look_over(self, request: Request, translation: str) -> tuple[Finding, ...]:
        """What is the matter with a translation."""
        found = check(request.text, translation, request.source, request.target)
        if found or not self._is_watchful or request.source == request.target:
            return found
        other = _other_language(translation, request.target, self._languages)
        return (other,) if other else ()


@lru_cache(maxsize=1024)
def _other_language(translation: str, wanted: Language, among: frozenset[str]) -> Finding | None:
    """`wrong_language`, of which a sentence's attempts, their order and its report all want to know."""
    return wrong_language(translation, wanted, among)


def _searching(options: GenerationOptions) -> GenerationOptions:
    """Beam search instead of sampling."""
    return replace(options, sample=False, temperature=1.0, top_k=0, top_p=1.0)
