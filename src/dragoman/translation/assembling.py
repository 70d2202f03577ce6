"""A text's translation, put together from its sentences' and looked over."""

from collections.abc import Iterator, Sequence

from dragoman.errors import DragomanError, TranslationWarning
from dragoman.text.sentences import Segment, SplitText, join
from dragoman.translation.legs import Journey
from dragoman.translation.preparing import TextJob
from dragoman.translation.results import Candidate, Sentence, Translation


def assemble(job: TextJob, journeys: Sequence[Journey]) -> Translation:
    """What became of a text whose sentences have all arrived."""
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
        sentences.append(Sentence(segment.text, outcome))
    text = join(job.parts, [sentence.candidates[0].text for sentence in sentences], *codes)
    warnings = [*job.warnings]
    for number, sentence in enumerate(sentences, 1):
        warnings += look_over(sentence.source, sentence.candidates[0], number)
    pivot = job.pivot.nllb if job.pivot else None
    return Translation(
        text, *codes, tuple(sentences), job.detected, pivot, tuple(warnings), source_text=job.text
    )


def before(job: TextJob, place: int) -> str:
    """What stands before a sentence in the translated text."""
    segment = job.parts.segments[place]
    if place == 0:
        return segment.before
    two = SplitText((Segment("", ""), segment), "")
    return join(two, ("", ""), job.source.nllb, job.target.nllb)


def look_over(source: str, candidate: Candidate, number: int) -> Iterator[TranslationWarning]:
    """What the user should know of the translation of the sentence with this number."""
    if not candidate.complete:
        yield TranslationWarning(
            f"sentence {number} reached the limit of {len(candidate.tokens)} tokens before its end",
            "limit",
            number,
        )
