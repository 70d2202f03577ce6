"""What has to be known of a text before it is translated: its languages, its sentences, its way."""

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from dragoman.errors import DragomanError, InvalidText, TranslationWarning
from dragoman.languages import Language, find, find_source, of_code
from dragoman.systems import System
from dragoman.text.detect import Detection, detect, explain
from dragoman.text.markup import is_language
from dragoman.text.sentences import SplitText, split, whole
from dragoman.text.tokenizers.characters import valid_text
from dragoman.translation.options import TextOptions
from dragoman.translation.results import Text, Translation


@dataclass(frozen=True)
class TextJob:
    """A text on its way: its languages, and its sentences."""

    text: str
    source: Language
    target: Language
    detected: Detection | None
    """The evidence for the source language, if it was not given and the text has some."""
    parts: SplitText
    pivot: Language | None
    warnings: tuple[TranslationWarning, ...] = ()

    @property
    def stops(self) -> tuple[Language, ...]:
        """The languages that its sentences pass through, from the source to the target."""
        between = () if self.pivot is None else (self.pivot,)
        return (self.source, *between, self.target)


class Recent:
    """The languages of the texts that came last: what a text that doesn't show its own is likely to be in."""

    SPAN = 64

    def __init__(self) -> None:
        self._latest: deque[Language] = deque()
        self._counts: Counter[Language] = Counter()

    def add(self, language: Language) -> None:
        """One more text is in this language for certain."""
        self._latest.append(language)
        self._counts[language] += 1
        if len(self._latest) > self.SPAN:
            oldest = self._latest.popleft()
            self._counts[oldest] -= 1
            if not self._counts[oldest]:
                del self._counts[oldest]

    def languages(self) -> list[Language]:
        """The most frequent, and those that are at least a quarter as frequent."""
        ranked = self._counts.most_common()
        return [language for language, count in ranked if 4 * count >= ranked[0][1]]


class Preparing:
    """Prepares the texts of one call, in their order.

    The language of a text that doesn't show it depends on the texts before it and on nothing else: neither
    on when they came nor on how they are grouped.
    """

    def __init__(self, system: System, languages: Iterable[Language], options: TextOptions) -> None:
        """Raises UnknownLanguage for a language in the options that isn't among the model's `languages`."""
        self._system, self._card = system, system.card
        self._languages = tuple(languages)
        self._codes = frozenset(language.nllb for language in self._languages)
        self._found: dict[Any, Language | None] = {}
        self._source = self._given(options.source, find_source)
        target = self._given("eng_Latn" if options.target is None else options.target)
        assert target is not None
        self._target: Language = target
        self._likely = self._given(options.likely_source)
        self._direct, self._one_sentence = options.direct, options.one_sentence
        self._recent = Recent()

    def prepare(self, item: object) -> TextJob | Translation:
        """A text with all that has to be known, or the Translation that says what stands against it.

        What was prepared before stays as it is.
        """
        if isinstance(item, TextJob):
            return item
        text = item if isinstance(item, Text) else Text(item)  # type: ignore[arg-type]
        source = target = None
        try:
            if not isinstance(text.text, str):
                raise InvalidText(f"a text must be a str, not {type(text.text).__name__}")
            source = self._source if text.source is None else self._given(text.source, find_source)
            target = self._given(text.target)
            return self._job(valid_text(text.text), source, target or self._target)
        except DragomanError as error:
            kept = text.text if isinstance(text.text, str) else ""
            spoken = source.nllb if source else ""
            return Translation(kept, spoken, (target or self._target).nllb, error=error, source_text=kept)

    def _given(
        self,
        spelling: str | None,
        read: Callable[[str, Collection[Language]], Language | None] = find,
    ) -> Language | None:
        """The language that a caller names."""
        if spelling is None:
            return None
        if not isinstance(spelling, str):
            raise InvalidText(f"a language must be a str, not {type(spelling).__name__}")
        key = read, spelling
        if key not in self._found:
            self._found[key] = read(spelling, self._languages)
        return self._found[key]

    def _job(self, text: str, source: Language | None, target: Language) -> TextJob:
        detected: Detection | None = None
        warnings: tuple[TranslationWarning, ...] = ()
        if source is None:
            source, detected, warnings = self._detect(text, target)
        else:
            self._recent.add(source)
        pivot = self._pivot(source, target)
        room = self._system.room(source, pivot or target)
        parts = whole(text) if self._one_sentence else None
        if parts is None or any(self._system.measure(each.text) > room for each in parts.segments):
            parts = split(text, source.nllb, limit=room, measure=self._system.measure)
        return TextJob(text, source, target, detected, parts, pivot, warnings)

    def _pivot(self, source: Language, target: Language) -> Language | None:
        pivot = self._card.pivot
        if self._direct or pivot is None or source == target or pivot in (source.nllb, target.nllb):
            return None
        return of_code(pivot)

    def _detect(
        self, text: str, target: Language
    ) -> tuple[Language, Detection | None, tuple[TranslationWarning, ...]]:
        """The language of a text, the evidence for it, and what is to be said about a guess."""
        likely = [self._likely] if self._likely else self._recent.languages()
        found = detect(text, self._codes, [language.nllb for language in likely])
        if found is None:
            if not is_language(text):
                return likely[0] if likely else target, None, ()
            return target, None, (_about(f"{explain(text, self._codes)} It was left as it is."),)
        language = of_code(found.code)
        if found.sure:
            self._recent.add(language)
            return language, found, ()
        if language in likely and not found.foreign:
            reason = "which is likely, as was said" if self._likely else "like most texts before it"
            said = f"The text was taken to be {language.name}, {reason}; its own words don't tell."
        else:
            said = f"{explain(text, self._codes)} It was taken to be {language.name}."
        return language, found, (_about(said),)


def _about(said: str) -> TranslationWarning:
    return TranslationWarning(said, "language")
