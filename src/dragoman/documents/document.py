"""What a document is: segments to translate, and what puts them back among all that is not translated.

A segment is a list of parts: words as the reader sees them (`str`), and `Mark`s, which are what the file has
between the words: tags, code, images. A mark is written back as it stood; words are escaped as the format
asks.
"""

from abc import ABC, abstractmethod
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import merge
from itertools import chain
from typing import Literal

from dragoman.documents.encodings import Encoded
from dragoman.errors import InvalidDocument


@dataclass(frozen=True, slots=True)
class Mark:
    """Something between the words of a segment that a translation keeps.

    kind: "open" and "close" are the two ends of a pair with the same `number` and have words between them;
    "kept" stands alone.
    """

    source: str
    """How the file writes it."""
    kind: Literal["kept", "open", "close"] = "kept"
    number: int = 0
    reads: str = ""
    """What a reader sees there, such as the code between backticks; empty for nothing that could be said."""


Part = str | Mark
Parts = tuple[Part, ...]
Edit = tuple[int, int, str]
"""Where something is written in place of what stands there."""
Held = dict[int, dict[tuple[int, int], list[int]]]
"""For segments what of their marks holds others, and which."""

LANGUAGE = "\uffff"
"""What a form writes where the document's language will be named, as it isn't known before."""
_MOST_SEGMENTS = 10_000_000
_SHORT = 40
"""Characters of a mark that is kept once, however often a file has it."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A text to translate: a paragraph, a heading, a message."""

    parts: Parts
    place: int
    """Where it is, from 1 on, in what the document's `unit` says."""
    name: str | None = None
    """What the file calls it, such as the key of a message."""

    @property
    def text(self) -> str:
        """What a reader sees."""
        return plain(self.parts)


class Document(ABC):
    """A parsed file."""

    unit = "line"
    """What `Segment.place` counts."""
    segments: Sequence[Segment]
    skipped: Sequence[int] = ()
    """Where there are words that can't be translated, as they stand otherwise than the format has it."""

    @abstractmethod
    def render(self, translations: Sequence[Parts | None], language: str | None = None) -> bytes:
        """The file with the translation of each segment; one that is None stays as it is.

        language: what the file is to call its language from now on (BCP 47), if it calls it anything. Without
        any of these it is the file that came, byte for byte. Raises InvalidDocument for words that the format
        or its encoding can't hold.
        """

    def accepts(self, place: int, parts: Parts) -> bool:
        """Whether segment number `place` could be `parts`: written and read again they are the same."""
        return True


@dataclass(frozen=True, slots=True)
class Form:
    """How segments are written in a text, and read there. Segments that are alike share theirs."""

    write: Callable[[Parts], str]
    read: Callable[[str], Parts] | None = None
    """Of what is written; None if nothing that is written could be read otherwise."""
    is_target: bool = False
    """Whether the translation has a place of its own, in which the source is not."""
    alike: Callable[[Parts], object] | None = None
    """What of parts has to be the same when they are read again; None for all but the numbers of pairs."""


class Collector:
    """Takes segments and where they stand as a parser finds them."""

    def __init__(self, encoded: Encoded) -> None:
        self.encoded = encoded
        self.text = encoded.text
        self.segments: list[Segment] = []
        # Numbers in arrays and forms that are shared, as a large file has millions of segments.
        self.starts, self.ends = array("q"), array("q")
        self.forms: list[Form] = []
        self.within: dict[int, tuple[int, int, int]] = {}
        """For a segment in a mark of another: the other's number, and where what holds the segment is."""
        self.languages: list[tuple[int, int]] = []
        """Where the file names its own language."""
        self.skipped: list[int] = []
        self._lines = Lines(encoded.text)
        self._marks: dict[Mark, Mark] = {}

    def skip(self, at: int) -> None:
        """Here are words that can't be translated."""
        self.skipped.append(self._lines.number(at))

    def add(
        self,
        parts: Parts,
        start: int,
        end: int,
        form: Form,
        name: str | None = None,
        place: int | None = None,
    ) -> int | None:
        """A segment in text[start:end], unless it has no letter to translate and no place of its own.

        place: of the segment, if it is something else than the line it begins in. Returns its number, if it
        has become one. Raises InvalidDocument for more than can be held.
        """
        parts = merged(parts)
        words = "".join(part for part in parts if isinstance(part, str))
        if not any(map(str.isalpha, words)) and not (form.is_target and words.strip()):
            return None
        if len(self.segments) >= _MOST_SEGMENTS:
            raise InvalidDocument(f"the file has more than {_MOST_SEGMENTS:,} texts; part it")
        number = self._lines.number(start) if place is None else place
        parts = tuple(part if isinstance(part, str) else self._shared(part) for part in parts)
        self.segments.append(Segment(parts, number, name))
        self.starts.append(start)
        self.ends.append(end)
        self.forms.append(form)
        return len(self.segments) - 1

    def _shared(self, mark: Mark) -> Mark:
        return self._marks.setdefault(mark, mark) if len(mark.source) <= _SHORT else mark

    def document(self) -> "TextDocument":
        return TextDocument(self)


class TextDocument(Document):
    """A text file: its segments are spans of it, apart from each other or one within a mark of another."""

    def __init__(self, found: Collector) -> None:
        self.encoded, self.segments, self.skipped = found.encoded, found.segments, found.skipped
        self._starts, self._ends, self._forms = found.starts, found.ends, found.forms
        self._within, self._languages = found.within, found.languages

    def render(self, translations: Sequence[Parts | None], language: str | None = None) -> bytes:
        named = "und" if language is None else language
        edits = ((start, end, one.replace(LANGUAGE, named)) for start, end, one in self._edits(translations))
        if language is not None:
            names = sorted((start, end, language) for start, end in self._languages)
            edits = merge(edits, names, key=lambda edit: edit[0])
        first = next(edits, None)
        if first is None:
            return self.encoded.data
        return self.encoded.encode(_edited(self.encoded.text, chain((first,), edits)))

    def accepts(self, place: int, parts: Parts) -> bool:
        form = self._forms[place]
        alike = renumbered if form.alike is None else form.alike
        return form.read is None or alike(form.read(form.write(parts))) == alike(parts)

    def _edits(self, translations: Sequence[Parts | None]) -> Iterator[Edit]:
        """What is written where, in the order of the text."""
        changed = bytearray(
            parts is not None and (parts != segment.parts or form.is_target)
            for segment, form, parts in zip(self.segments, self._forms, translations, strict=True)
        )
        held: Held = {}
        for number in self._within:
            outer, start, end = self._within[number]
            while not changed[outer] and outer in self._within:
                outer, start, end = self._within[outer]
            if changed[number] and changed[outer]:
                held.setdefault(outer, {}).setdefault((start, end), []).append(number)
        inner = {number for spans in held.values() for numbers in spans.values() for number in numbers}
        numbers = (number for number, is_changed in enumerate(changed) if is_changed and number not in inner)
        for number in sorted(numbers, key=self._starts.__getitem__):
            yield self._edit(number, translations, held)

    def _edit(self, number: int, translations: Sequence[Parts | None], held: Held, before: int = 0) -> Edit:
        """A segment's edit. before: where the text begins that its places count from."""
        parts = translations[number]
        assert parts is not None
        sources = {}
        for (start, end), numbers in held.get(number, {}).items():
            edits = sorted(self._edit(inside, translations, held, start) for inside in numbers)
            source = self.encoded.text[start:end]
            sources[source] = "".join(_edited(source, edits))
        if sources:
            parts = tuple(_with_source(part, sources) for part in parts)
        return self._starts[number] - before, self._ends[number] - before, self._forms[number].write(parts)


def _edited(text: str, edits: Iterable[Edit]) -> Iterator[str]:
    """A text in pieces, with what is written in it."""
    done = 0
    for start, end, written in edits:
        yield text[done:start]
        yield written
        done = end
    yield text[done:]


def _with_source(part: Part, sources: Mapping[str, str]) -> Part:
    """The same with another source, if `sources` has one for all of it or for its first tag."""
    if isinstance(part, str):
        return part
    tag, mark, name = part.source.rpartition("</")
    if part.source in sources:
        return replace(part, source=sources[part.source])
    return replace(part, source=sources[tag] + mark + name) if tag in sources else part


class Lines:
    """Numbers of lines by their places in a text."""

    def __init__(self, text: str) -> None:
        self._starts = array("q", [0])
        at = text.find("\n")
        while at >= 0:
            self._starts.append(at + 1)
            at = text.find("\n", at + 1)

    def number(self, at: int) -> int:
        """The number, from 1 on, of the line that a place is in."""
        return bisect_right(self._starts, at)


def plain(parts: Sequence[Part]) -> str:
    """What a reader sees of these parts."""
    return "".join(part if isinstance(part, str) else part.reads for part in parts)


def merged(parts: Sequence[Part]) -> Parts:
    """The same with neighbouring words in one, and without empty ones."""
    result: list[Part] = []
    words: list[str] = []
    for part in parts:
        if isinstance(part, str):
            words.append(part)
            continue
        if text := "".join(words):
            result.append(text)
        result.append(part)
        words.clear()
    if text := "".join(words):
        result.append(text)
    return tuple(result)


def renumbered(parts: Sequence[Part]) -> Parts:
    """The same with pairs numbered as they come, for comparing."""
    numbers: dict[int, int] = {}
    result: list[Part] = []
    for part in merged(parts):
        if isinstance(part, Mark) and part.kind != "kept":
            number = numbers.setdefault(part.number, len(numbers) + 1)
            part = Mark(part.source, part.kind, number, part.reads)
        result.append(part)
    return tuple(result)


def paired(parts: Sequence[Part]) -> Parts:
    """The same with marks that lack their other end, or cross another pair, standing alone.

    Marks come with the numbers of their pairs; a pair with nothing between its ends is one mark.
    """
    partner: dict[int, int] = {}
    waiting: list[int] = []
    for place, part in enumerate(parts):
        if not isinstance(part, Mark) or part.kind == "kept":
            continue
        if part.kind == "open":
            waiting.append(place)
        elif waiting and _number(parts[waiting[-1]]) == part.number:
            opening = waiting.pop()
            partner[opening], partner[place] = place, opening
        elif any(_number(parts[other]) == part.number for other in waiting):
            while _number(parts[waiting.pop()]) != part.number:
                pass
    result: list[Part] = []
    skipped = -1
    for place, part in enumerate(parts):
        if isinstance(part, str) or part.kind == "kept" or place == skipped:
            if place != skipped:
                result.append(part)
        elif place not in partner:
            result.append(Mark(part.source))
        elif partner[place] == place + 1:
            closing = parts[place + 1]
            assert isinstance(closing, Mark)
            result.append(Mark(part.source + closing.source))
            skipped = place + 1
        else:
            result.append(part)
    return merged(result)


def is_well_formed(parts: Sequence[Part], wanted: Sequence[Part]) -> bool:
    """Whether parts have the marks that are wanted, each once, and pairs are nested in each other."""
    marks = [part for part in parts if isinstance(part, Mark)]
    if sorted(map(_key, marks)) != sorted(_key(part) for part in wanted if isinstance(part, Mark)):
        return False
    waiting = []
    for mark in marks:
        if mark.kind == "open":
            waiting.append(mark.number)
        elif mark.kind == "close" and (not waiting or waiting.pop() != mark.number):
            return False
    return not waiting


def _key(mark: Mark) -> tuple[str, int, str]:
    return mark.kind, mark.number, mark.source


def _number(part: Part) -> int:
    assert isinstance(part, Mark)
    return part.number
