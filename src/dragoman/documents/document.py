"""What a document is: segments to translate, and what puts them back among all that is not translated.

A segment is a list of parts: words as the reader sees them (`str`), and `Mark`s, which are what the file has
between the words: tags, code, images. A mark is written back as it stood; words are escaped as the format
asks.
"""

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from dragoman.documents.encodings import Encoded


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
class Slot:
    """Where in a text a segment is, and how its parts are written there."""

    start: int
    end: int
    write: Callable[[Parts], str]
    read: Callable[[str], Parts] | None = None
    """Of what is written; None if nothing that is written could be read otherwise."""
    is_target: bool = False
    """Whether the translation has a place of its own, in which the source is not."""


class TextDocument(Document):
    """A text file: its segments are spans of it."""

    def __init__(
        self,
        encoded: Encoded,
        segments: Sequence[Segment],
        slots: Sequence[Slot],
        languages: Sequence[tuple[int, int]] = (),
        skipped: Sequence[int] = (),
    ) -> None:
        """slots: one for each segment, apart from each other; languages: where the file names its own."""
        self.encoded, self.segments, self.skipped = encoded, segments, skipped
        self._slots, self._languages = slots, languages

    def render(self, translations: Sequence[Parts | None], language: str | None = None) -> bytes:
        edits = [
            (slot.start, slot.end, slot.write(parts))
            for segment, slot, parts in zip(self.segments, self._slots, translations, strict=True)
            if parts is not None and (parts != segment.parts or slot.is_target)
        ]
        if language is not None:
            edits += [(start, end, language) for start, end in self._languages]
        if not edits:
            return self.encoded.data
        text, done = self.encoded.text, 0
        pieces = []
        for start, end, written in sorted(edits):
            pieces += [text[done:start], written]
            done = end
        return self.encoded.encode("".join([*pieces, text[done:]]))

    def accepts(self, place: int, parts: Parts) -> bool:
        slot = self._slots[place]
        return slot.read is None or renumbered(slot.read(slot.write(parts))) == renumbered(parts)


class Collector:
    """Takes segments with their slots as a parser finds them, in the order of the text."""

    def __init__(self, encoded: Encoded) -> None:
        self.encoded = encoded
        self.text = encoded.text
        self.segments: list[Segment] = []
        self.slots: list[Slot] = []
        self.languages: list[tuple[int, int]] = []
        self.skipped: list[int] = []
        self._lines = Lines(encoded.text)

    def language(self, start: int, end: int) -> None:
        """Here the file names its language."""
        self.languages.append((start, end))

    def skip(self, at: int) -> None:
        """Here are words that can't be translated."""
        self.skipped.append(self._lines.number(at))

    def add(self, parts: Parts, slot: Slot, name: str | None = None, place: int | None = None) -> None:
        """A segment, unless it has no letter to translate; a place of its own is filled all the same.

        place: of the segment, if it is something else than the line of its slot.
        """
        parts = merged(parts)
        words = "".join(part for part in parts if isinstance(part, str))
        if any(map(str.isalpha, words)) or (slot.is_target and words.strip()):
            number = self._lines.number(slot.start) if place is None else place
            self.segments.append(Segment(parts, number, name))
            self.slots.append(slot)

    def document(self) -> TextDocument:
        return TextDocument(self.encoded, self.segments, self.slots, self.languages, self.skipped)


class Lines:
    """Numbers of lines by their places in a text."""

    def __init__(self, text: str) -> None:
        self._starts = [0]
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
    for part in parts:
        if isinstance(part, str) and result and isinstance(last := result[-1], str):
            result[-1] = last + part
        elif part != "":
            result.append(part)
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
