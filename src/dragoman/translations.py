"""A text on its way, and what became of it."""

from dataclasses import dataclass

from dragoman.errors import DragomanError
from dragoman.languages import Language
from dragoman.text.detect import Detection
from dragoman.text.sentences import SplitText


@dataclass(frozen=True)
class Candidate:
    """One translation of one sentence; `tokens` as the tokenizer spells them, `score` as in `Hypothesis`."""

    text: str
    score: float
    tokens: tuple[str, ...]
    complete: bool
    """False if the length limit came before the sentence's end."""


@dataclass(frozen=True)
class Sentence:
    """A sentence of the source with its translations, best first."""

    source: str
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class Translation:
    """What became of one text. Either `error` is set, or all else is."""

    text: str
    source: str
    """NLLB code of the language the text is in."""
    target: str
    """NLLB code of the language it was translated to."""
    sentences: tuple[Sentence, ...] = ()
    detected: Detection | None = None
    """How the source language was found, if it was not given."""
    pivot: str | None = None
    """The language it went through, if not directly."""
    warnings: tuple[str, ...] = ()
    error: DragomanError | None = None

    @property
    def alternatives(self) -> tuple[str, ...]:
        """Other translations of a text of one sentence, best first."""
        if len(self.sentences) != 1:
            return ()
        return tuple(candidate.text for candidate in self.sentences[0].candidates[1:])


@dataclass(frozen=True)
class TextJob:
    """A text on its way: its languages, and its sentences."""

    text: str
    source: Language
    target: Language
    detected: Detection | None
    parts: SplitText
    pivot: Language | None
    assumed: bool
    """Whether the source language is that of the texts around it, for want of evidence."""
