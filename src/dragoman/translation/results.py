"""What goes in, a text, and what became of it."""

from dataclasses import dataclass

from dragoman.errors import DragomanError, TranslationWarning
from dragoman.languages import of_code
from dragoman.text.detect import Detection
from dragoman.text.glossary import Term, missing


@dataclass(frozen=True)
class Text:
    """A text to translate with languages of its own; one that is None is that of the call."""

    text: str
    source: str | None = None
    """The language it is in, in any spelling; "auto" if it is to be detected, whatever the call's is."""
    target: str | None = None
    """The language to translate it to."""


MEMORY = "memory"
"""The origin of candidates that a translation memory knew."""


@dataclass(frozen=True)
class Candidate:
    """One translation of one sentence; `tokens` as the tokenizer spells them, `score` as in `Hypothesis`."""

    text: str
    score: float
    tokens: tuple[str, ...]
    complete: bool
    """False if the length limit came before the sentence's end."""
    origin: str = "model"
    """MEMORY if it comes from there."""


@dataclass(frozen=True)
class Match:
    """A text of a translation memory that is like one that came, and its translation."""

    source: str
    target: str
    score: float
    """How much alike the texts are, up to 1."""


@dataclass(frozen=True)
class Sentence:
    """A sentence of the source with its translations, best first."""

    source: str
    candidates: tuple[Candidate, ...]
    terms: tuple[Term, ...] = ()
    """What the glossary says of terms that are in it."""
    similar: tuple[Match, ...] = ()
    """What a translation memory has that is like it, best first, if it hasn't the sentence itself."""


@dataclass(frozen=True)
class Translation:
    """What became of one text."""

    text: str
    """The translation. If there is an `error`, the source text unchanged, or nothing if that was no str."""
    source: str
    """NLLB code of the language the text is in; empty if an error came before it was known."""
    target: str
    """NLLB code of the language it was translated to; empty if an error came before it was known."""
    sentences: tuple[Sentence, ...] = ()
    detected: Detection | None = None
    """How the source language was found, if the text itself showed it."""
    pivot: str | None = None
    """NLLB code of the language it went through, if not directly."""
    warnings: tuple[TranslationWarning, ...] = ()
    """What the user should look at."""
    error: DragomanError | None = None
    """Why there is no translation."""
    source_text: str = ""
    """The text that came."""

    @property
    def terms(self) -> tuple[tuple[Term, bool], ...]:
        """The glossary's terms in the text, sentence by sentence, and whether the translation has them."""
        language = of_code(self.target) if self.target else None
        return tuple(
            (term, not missing([term], sentence.candidates[0].text, language))
            for sentence in self.sentences
            for term in sentence.terms
            if language is not None
        )

    @property
    def alternatives(self) -> tuple[str, ...]:
        """Other translations of a text of one sentence, best first."""
        if len(self.sentences) != 1:
            return ()
        return tuple(candidate.text for candidate in self.sentences[0].candidates[1:])
