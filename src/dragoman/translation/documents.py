"""Documents through a translator: their segments in rounds, until each has all of its marks.

First whole sentences without tags, where the tags' own words are looked for in the translation, then what
each word is alone; for those where that fails whole sentences with short tags; then with a number in place of
each pair, whose words are translated by themselves; then the words between marks one by one; then all tags
around the sentence. What none of it can keep stays as it is, and the result says so.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from dragoman.documents.document import Document, Mark, Part, Parts, Segment, is_well_formed, merged, plain
from dragoman.errors import DragomanError, TranslationFailed, TranslationWarning
from dragoman.languages import of_code
from dragoman.text.checks import MARKUP, UNKNOWN, check
from dragoman.text.markup import kept
from dragoman.translation.aligning import place_of, single_words
from dragoman.translation.apart import collapsed, peeled, pieces
from dragoman.translation.marks import (
    TAG,
    Flat,
    flatten,
    keeps,
    tagged_parts,
    whole_words,
    with_tags,
)
from dragoman.translation.results import Translation

WHOLE, WORDS, TAGS, NUMBERS, PIECES, AROUND = "whole", "words", "tags", "numbers", "pieces", "around"
"""How a segment was translated."""

_MANY = 24
"""So many pairs in a segment are looked for; one with more is translated in pieces."""
_ENDS = tuple(".!?。！？…:;,")

_OF_WAY = frozenset({"language", UNKNOWN, "limit", "glossary"})
"""Kinds of warnings of sentences that are a segment's, too."""

Translate = Callable[[Iterable[str]], Iterator[Translation]]
"""Translates texts in their order, with several candidates for a sentence."""


@dataclass(frozen=True)
class SegmentTranslation:
    """What became of a segment."""

    segment: Segment
    parts: Parts | None
    """The translation with its marks; None if the segment stays as it is."""
    way: str | None = None
    """WHOLE, WORDS, TAGS, NUMBERS, PIECES or AROUND; None if there is no translation."""
    warnings: tuple[TranslationWarning, ...] = ()
    error: DragomanError | None = None
    """Why there is no translation."""

    @property
    def text(self) -> str:
        """What a reader will see."""
        return plain(self.segment.parts if self.parts is None else self.parts)


@dataclass
class _Task:
    """A segment on its way."""

    number: int
    segment: Segment
    before: Parts
    middle: Parts
    after: Parts
    flat: Flat
    results: list[Translation] = field(default_factory=list)
    whole: str | None = None
    """The translation of all its words, with everything in it that is seen."""
    whole_result: Translation | None = None
    """Where it comes from."""
    error: DragomanError | None = None


class DocumentTranslator:
    """The segments of one document on their way."""

    def __init__(self, document: Document, translate: Translate, lacks: Callable[[str], str]) -> None:
        """lacks: the characters of a text that the model doesn't know."""
        self._document, self._translate, self._lacks = document, translate, lacks
        self._done: dict[int, SegmentTranslation] = {}

    def run(self) -> list[SegmentTranslation]:
        """Translate all segments."""
        tasks = [self._task(number, segment) for number, segment in enumerate(self._document.segments)]
        rounds: tuple[tuple[str, Callable[[_Task], list[str]], Callable[[_Task], Parts | None]], ...] = (
            (WHOLE, self._whole_texts, self._whole),
            (WORDS, self._word_texts, self._words),
            (TAGS, self._tag_texts, self._tags),
            (NUMBERS, self._number_texts, self._numbers),
            (PIECES, self._piece_texts, self._pieces),
            (AROUND, lambda task: [], self._around),
        )
        for way, texts, read in rounds:
            self._ask(tasks, texts)
            for task in tasks:
                parts = read(task)
                if parts is not None:
                    self._finish(task, way, parts)
            tasks = [task for task in tasks if task.number not in self._done]
        for task in tasks:
            error = task.error or TranslationFailed("no translation keeps all that the text has in it")
            self._done[task.number] = SegmentTranslation(task.segment, None, error=error)
        return [self._done[number] for number in range(len(self._document.segments))]

    def _task(self, number: int, segment: Segment) -> _Task:
        before, middle, after = peeled(segment.parts)
        return _Task(number, segment, before, middle, after, flatten(middle, self._lacks))

    def _ask(self, tasks: Sequence[_Task], texts: Callable[[_Task], list[str]]) -> None:
        """Translate the texts of all tasks, which then have the results of theirs."""
        counts = []

        def asked() -> Iterator[str]:
            for task in tasks:
                wanted = texts(task)
                counts.append(len(wanted))
                yield from wanted

        answers = self._translate([*asked()])
        for task, count in zip(tasks, counts, strict=True):
            task.results = [next(answers) for _ in range(count)]

    def _finish(self, task: _Task, way: str, parts: Parts) -> None:
        """Take a translation if it has everything that the segment has."""
        parts = merged([*task.before, *parts, *task.after])
        wanted = task.segment.parts
        if not is_well_formed(parts, wanted) or _kept(parts) != _kept(wanted):
            return
        if not self._document.accepts(task.number, parts):
            return
        results = task.results if way in (NUMBERS, PIECES) else task.results[:1]
        if way in (WORDS, AROUND) and task.whole_result is not None:
            results = [task.whole_result]
        warnings = _warnings(results)
        warnings += _findings(task, plain(parts))
        if way == AROUND:
            said = "its tags stand around all of the translation, as their own words weren't found in it"
            warnings += (TranslationWarning(said, "markup"),)
        self._done[task.number] = SegmentTranslation(task.segment, parts, way, warnings)

    # The rounds: what is asked for a task, and what its answers give

    def _whole_texts(self, task: _Task) -> list[str]:
        if len(task.flat.spans) > _MANY:
            return []
        return [task.flat.text, *(task.flat.words(span) for span in task.flat.spans)]

    def _whole(self, task: _Task) -> Parts | None:
        if not task.results:
            return None
        whole, *said = task.results
        task.error = whole.error
        if whole.error is not None:
            return None
        task.whole, task.whole_result = _chosen(whole, task.flat.shown), whole
        if task.whole is None:
            return None
        return task.flat.project(task.whole, [_candidates(result) for result in said])

    def _word_texts(self, task: _Task) -> list[str]:
        has_spans = 0 < len(task.flat.spans) <= _MANY
        return single_words(task.flat.text) if has_spans and task.whole is not None else []

    def _words(self, task: _Task) -> Parts | None:
        flat, whole = task.flat, task.whole
        if not task.results or whole is None:
            return None
        said = {one.source_text: _candidates(one) for one in task.results if one.error is None}
        places = [place_of(flat.text, span.start, span.end, whole, said) for span in flat.spans]
        return flat.placed(whole, places)

    def _tag_texts(self, task: _Task) -> list[str]:
        if task.error is not None or len(task.flat.spans) > _MANY:
            return []
        if task.flat.spans and self._lacks(TAG):
            return []
        asked = task.flat.text
        if task.whole is None:
            task.flat = flatten(task.middle, self._lacks, only_numbers=True)
        text = with_tags(task.flat)
        return [] if text == asked else [text]

    def _tags(self, task: _Task) -> Parts | None:
        if not task.results or task.results[0].error is not None:
            return None
        text = _chosen(task.results[0], task.flat.shown)
        if text is None:
            return None
        if not task.flat.spans:
            task.whole = text
        return tagged_parts(task.flat, text)

    def _number_texts(self, task: _Task) -> list[str]:
        if task.error is not None or not 0 < len(task.flat.spans) <= _MANY:
            return []
        if _cuts_words(task.flat):
            task.middle = task.flat.in_whole_words or ()
        outer, inside = collapsed(task.middle)
        task.flat = flatten(outer, self._lacks, only_numbers=True)
        return [task.flat.text, *(text for parts in inside.values() for text in _piece_texts(parts))]

    def _numbers(self, task: _Task) -> Parts | None:
        if not task.results or task.results[0].error is not None:
            return None
        whole, *answers = task.results
        text = _chosen(whole, task.flat.shown)
        outer = None if text is None else task.flat.project(text, [])
        if outer is None:
            return None
        _, inside = collapsed(task.middle)
        said: dict[int, Parts] = {}
        for number, parts in inside.items():
            count = len(_piece_texts(parts))
            pair = _from_pieces(parts, answers[:count])
            if pair is None:
                return None
            said[number], answers = pair, answers[count:]
        result: list[Part] = []
        for part in outer:
            result += said[part.number] if isinstance(part, Mark) and part.number in said else (part,)
        return merged(result)

    def _piece_texts(self, task: _Task) -> list[str]:
        if _cuts_words(task.flat):
            task.middle = task.flat.in_whole_words or ()
        return _piece_texts(task.middle)

    def _pieces(self, task: _Task) -> Parts | None:
        if not task.results:
            return None
        task.error = next((one.error for one in task.results if one.error is not None), None)
        return None if task.error else _from_pieces(task.middle, task.results)

    def _around(self, task: _Task) -> Parts | None:
        flat = flatten(task.middle, self._lacks)
        return None if task.whole is None else flat.around(task.whole)


def _chosen(result: Translation, shown: Sequence[str]) -> str | None:
    """A text's translation of the best candidates that keep what is shown; None if a sentence has none."""
    text, done, chosen = result.text, 0, []
    for sentence in result.sentences:
        best = sentence.candidates[0].text
        good = next((c.text for c in sentence.candidates if keeps(sentence.source, c.text, shown)), None)
        if good is None:
            return None
        at = text.index(best, done)
        chosen += [text[done:at], good]
        done = at + len(best)
    return "".join([*chosen, text[done:]])


def _piece_texts(parts: Parts) -> list[str]:
    """The words between the marks of a segment."""
    return [_core(part)[1] for part, is_words in pieces(parts) if is_words]


def _from_pieces(parts: Parts, answers: Sequence[Translation]) -> Parts | None:
    """A segment of the translations of its `_piece_texts`; None if one of them is no use."""
    result: list[Part] = []
    given = iter(answers)
    for part, is_words in pieces(parts):
        if not is_words:
            result.append(part if isinstance(part, Mark) else str(part))
            continue
        before, core, after = _core(part)
        text = _chosen(next(given), ())
        if text is None:
            return None
        result.append(before + _ended_alike(core, text) + after)
    return merged(result)


def _candidates(result: Translation) -> list[str]:
    return [result.text, *result.alternatives]


def _kept(parts: Parts) -> list[str]:
    """What in the words of a segment is no language, in any order."""
    return sorted(one for part in parts if isinstance(part, str) for one in kept(part))


def _cuts_words(flat: Flat) -> bool:
    """Whether a pair begins or ends within a word, so that its words alone aren't any."""
    return any(whole_words(flat.text, s.start, s.end) != (s.start, s.end) for s in flat.spans)


def _core(part: Part) -> tuple[str, str, str]:
    """A piece of a sentence, and what before and behind it is no letter."""
    assert isinstance(part, str)
    start, end = 0, len(part)
    while start < end and not part[start].isalnum() and part[start] not in "¿¡\"'“„«([":
        start += 1
    while end > start and (part[end - 1].isspace() or part[end - 1] in ",;:–—-"):
        end -= 1
    return part[:start], part[start:end], part[end:]


def _ended_alike(source: str, translation: str) -> str:
    """A piece's translation without the full stop that only whole sentences have."""
    translation = translation.strip()
    if source.endswith(_ENDS):
        return translation
    return translation.rstrip(".。") or translation


def _warnings(results: Sequence[Translation]) -> tuple[TranslationWarning, ...]:
    """What is to be said of how a segment was translated; what came of it is looked at as a whole."""
    found: dict[str, TranslationWarning] = {}
    for result in results:
        for warning in result.warnings:
            if warning.kind in _OF_WAY:
                found.setdefault(str(warning), warning)
    return tuple(found.values())


def _findings(task: _Task, translation: str) -> tuple[TranslationWarning, ...]:
    """What is the matter with a translation; that its marks are there has been seen to."""
    result = next((one for one in task.results if one.source and one.target), None)
    if result is None:
        return ()
    found = check(task.segment.text, translation, of_code(result.source), of_code(result.target))
    return tuple(TranslationWarning(one.message, one.kind) for one in found if one.kind != MARKUP)
