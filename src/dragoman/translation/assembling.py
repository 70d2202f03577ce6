"""A text's translation, put together from its sentences' and looked over."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dragoman.errors import DragomanError, TranslationWarning
from dragoman.generation.options import GenerationOptions
from dragoman.systems import Request
from dragoman.text.checks import Alphabet
from dragoman.text.glossary import Term, missing
from dragoman.text.sentences import Segment, SplitText, join
from dragoman.translation.attempts import Attempts
from dragoman.translation.legs import Journey
from dragoman.translation.preparing import TextJob
from dragoman.translation.results import MEMORY, Candidate, Match, Sentence, Translation

if TYPE_CHECKING:
    from dragoman.translation.memory import TranslationMemory

GLOSSARY = "glossary"
"""The kind of warnings about terms that a translation lacks."""


def assemble(
    job: TextJob,
    journeys: Sequence[Journey],
    alphabet: Alphabet | None = None,
    memory: "TranslationMemory | None" = None,
    attempts: Attempts | None = None,
) -> Translation:
    """What became of a text whose sentences have all arrived.

    alphabet: the characters that the model knows, to warn of those that it doesn't; memory: what to look for
    similar texts in; attempts: what looks translations over.
    """
    codes = job.source.nllb, job.target.nllb
    sentences = []
    for segment, journey in zip(job.parts.segments, journeys, strict=True):
        outcome = journey.outcome
        if isinstance(outcome, DragomanError):
            return Translation(
                job.text,
                *codes,
                detected=job.detected,
                warnings=job.warnings,
                error=outcome,
                source_text=job.text,
            )
        assert outcome is not None
        similar = _similar(segment.text, outcome[0], job, memory)
        sentences.append(Sentence(segment.text, outcome, journey.terms, similar))
    text = join(job.parts, [sentence.candidates[0].text for sentence in sentences], *codes)
    warnings = [*job.warnings]
    for number, sentence in enumerate(sentences, 1):
        warnings += _look_over(job, sentence, number, alphabet, attempts or Attempts(GenerationOptions()))
    pivot = job.pivot.nllb if job.pivot else None
    return Translation(
        text, *codes, tuple(sentences), job.detected, pivot, tuple(warnings), source_text=job.text
    )


def _similar(
    text: str, best: Candidate, job: TextJob, memory: "TranslationMemory | None"
) -> tuple[Match, ...]:
    is_new = best.origin != MEMORY and not Request(text, job.source, job.target).stays
    return tuple(memory.similar(text, job.source, job.target)) if memory is not None and is_new else ()


def before(job: TextJob, place: int) -> str:
    """What stands before a sentence in the translated text."""
    segment = job.parts.segments[place]
    if place == 0:
        return segment.before
    two = SplitText((Segment("", ""), segment), "")
    return join(two, ("", ""), job.source.nllb, job.target.nllb)


def _look_over(
    job: TextJob, sentence: Sentence, number: int, alphabet: Alphabet | None, attempts: Attempts
) -> Iterator[TranslationWarning]:
    """What the user should know of a sentence, the text's with this number."""
    if Request(sentence.source, job.source, job.target).stays:
        return
    best = sentence.candidates[0]
    if not best.complete:
        said = f"sentence {number} reached the limit of {len(best.tokens)} tokens before its end"
        yield TranslationWarning(said, "limit", number)
    lacking = alphabet.check(sentence.source) if alphabet else None
    findings = attempts.look_over(Request(sentence.source, job.source, job.target), best.text)
    for finding in (*([lacking] if lacking else []), *findings):
        yield TranslationWarning(f"sentence {number}: {finding.message}", finding.kind, number)
    lost = missing(sentence.terms, best.text, job.target)
    if lost:
        yield TranslationWarning(f"sentence {number}: {terms_lacking(lost)}", GLOSSARY, number)


def terms_lacking(terms: Sequence[Term]) -> str:
    """What is to be said of terms that aren't there."""
    return "the glossary has " + ", ".join(f"“{term.target}” for “{term.source}”" for term in terms)
