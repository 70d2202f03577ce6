"""Subtitles, SubRip and WebVTT: what is said, with all times as they are.

A sentence that runs over several cues is one segment; the times between are marks in it, at which its
translation is parted again. A cue has at most as many lines afterwards as before.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from dragoman.documents.document import (
    Collector,
    Document,
    Form,
    Mark,
    Part,
    Parts,
    TextDocument,
    merged,
    paired,
)
from dragoman.documents.encodings import decode
from dragoman.documents.inline import Pairs
from dragoman.errors import InvalidDocument

WIDTH = 42
"""Characters that a line should have at most."""
_MOST_CUES, _MOST_CHARACTERS = 4, 300
"""Of what is translated as one."""

_TIME = r"(?:\d{1,3}:)?\d{1,2}:\d{2}[.,]\d{1,3}"
_CUE = re.compile(rf"[ \t]*{_TIME}[ \t]*-->[ \t]*{_TIME}[^\r\n]*(?:\r\n|\r|\n|\Z)")
_NO_CUE = re.compile(r"[ \t]*(?:NOTE|STYLE|REGION)(?:\s|\Z)")
_BLANK_LINE = re.compile(r"(?:\r\n|\r|\n)[ \t]*(?:\r\n|\r|\n|\Z)|\Z")
_TAG_ALONE = re.compile(r"</?[a-zA-Z][^<>]{0,200}>|<\d[\d:.]{4,14}>|\{\\[^{}]{1,200}\}")
_TAG = re.compile(_TAG_ALONE.pattern + r"|&[a-z]{2,6};")
_NAME = re.compile(r"</?([a-zA-Z]+)")
_ENTITIES = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&nbsp;": "\xa0"}
_STARTS = ("-", "–", "—", "♪", "♫", "[", "(", "#", "*")
_ENDS = (".", "!", "?", "…", "。", "！", "？", "♪", "♫", "]", ")", ":", '"', "”", "»")


@dataclass(frozen=True, slots=True)
class _Cue:
    start: int
    end: int
    lines: int


def parse(data: bytes) -> Document:
    """A file of subtitles. Raises InvalidDocument if there is no cue in it."""
    found = Collector(decode(data))
    cues = _cues(found.text)
    if found.text.strip() and not cues and not found.text.lstrip("\ufeff").startswith("WEBVTT"):
        raise InvalidDocument("the file has no cue with times, such as 00:00:01,000 --> 00:00:02,000")
    group: list[_Cue] = []
    for cue in cues:
        if group and not _goes_on(found.text, group, cue):
            _add(found, group)
            group = []
        group.append(cue)
    _add(found, group)
    return Subtitles(found)


class Subtitles(TextDocument):
    """Cues in their order."""

    def accepts(self, place: int, parts: Parts) -> bool:
        form = self._forms[place].write.__self__  # type: ignore[attr-defined]
        assert isinstance(form, _Form)
        return _stripped(form.read(form.write(parts)), form) == _stripped(parts, form)


def _stripped(parts: Parts, form: "_Form") -> list[tuple[object, ...]]:
    """The cues of a segment, without the blanks around each."""
    cues = []
    for cue in form.cues(parts):
        text = "".join(part if isinstance(part, str) else f"\0{part.source}\0" for part in cue)
        cues.append((" ".join(text.split()),))
    order = [part.source for part in parts if isinstance(part, Mark) and part.source in form.breaks]
    return [*cues, tuple(order)]


def _cues(text: str) -> list[_Cue]:
    """Where the words of each cue are."""
    cues = []
    at = 0
    while head := _CUE.search(text, at):
        blank = _BLANK_LINE.search(text, max(head.end() - 1, 0))
        assert blank is not None
        # A cue without words has its blank line right behind its times.
        end = max(blank.start(), head.end())
        words = text[head.end() : end]
        start = head.end() + len(words) - len(words.lstrip())
        end = head.end() + len(words.rstrip())
        if start < end:
            cues.append(_Cue(start, end, len(text[start:end].splitlines())))
        at = max(end, head.end())
    return cues


def _goes_on(text: str, group: Sequence[_Cue], cue: _Cue) -> bool:
    """Whether a cue goes on with the sentence of those before."""
    before = _TAG.sub("", text[group[-1].start : group[-1].end]).rstrip()
    words = _TAG.sub("", text[cue.start : cue.end]).lstrip()
    between = text[group[-1].end : cue.start]
    return (
        len(group) < _MOST_CUES
        and cue.end - group[0].start < _MOST_CHARACTERS + len(between)
        and not before.endswith(_ENDS)
        and not words.startswith(_STARTS)
        and not text[group[-1].start : group[-1].end].startswith(_STARTS)
        and words[:1].islower()
        and not any(map(_NO_CUE.match, between.splitlines()))
    )


def _add(found: Collector, group: Sequence[_Cue]) -> None:
    if not group:
        return
    text = found.text
    breaks = [text[a.end : b.start] for a, b in pairwise(group)]
    ending = "\r\n" if "\r\n" in text[group[0].start : group[-1].end] or "\r\n" in text[:2000] else "\n"
    form = _Form(breaks, [cue.lines for cue in group], ending, text.lstrip("\ufeff").startswith("WEBVTT"))
    whole = text[group[0].start : group[-1].end]
    found.add(form.read(whole), group[0].start, group[-1].end, Form(form.write, form.read))


@dataclass(frozen=True)
class _Form:
    """How the cues of a segment are read and written."""

    breaks: Sequence[str]
    """What is between two of them."""
    lines: Sequence[int]
    """How many each has."""
    ending: str
    has_entities: bool
    """As WebVTT has."""

    def read(self, written: str) -> Parts:
        parts: list[Part] = []
        pairs = Pairs()
        for number, break_ in enumerate([*self.breaks, ""]):
            words, found, rest = written.partition(break_) if break_ else (written, "", "")
            if bool(break_) != bool(found) or not words.strip():
                return ()
            if number:
                parts += [" ", Mark(self.breaks[number - 1])]
            parts += self._cue(words, pairs)
            written = rest
        return paired(parts)

    def _cue(self, words: str, pairs: Pairs) -> list[Part]:
        words = " ".join(line.strip() for line in words.splitlines())
        tags = _TAG if self.has_entities else _TAG_ALONE
        parts: list[Part] = []
        done = 0
        for tag in tags.finditer(words):
            parts.append(words[done : tag.start()])
            name = _NAME.match(tag[0])
            if tag[0].startswith("&"):
                parts.append(_ENTITIES.get(tag[0], tag[0]))
            elif name is None:
                parts.append(Mark(tag[0]))
            elif tag[0].startswith("</"):
                parts.append(pairs.closing(tag[0], name[1]))
            else:
                parts.append(pairs.opening(tag[0], name[1]))
            done = tag.end()
        return [*parts, words[done:]]

    def cues(self, parts: Parts) -> list[list[Part]]:
        """The parts of each cue."""
        cues: list[list[Part]] = [[]]
        for part in parts:
            if isinstance(part, Mark) and part.source in self.breaks and len(cues) <= len(self.breaks):
                cues.append([])
            else:
                cues[-1].append(part)
        return cues

    def write(self, parts: Parts) -> str:
        cues = self.cues(parts)
        written = [self._wrapped(cue, count) for cue, count in zip(cues, self.lines, strict=False)]
        pieces = [written[0]]
        for break_, cue in zip(self.breaks, written[1:], strict=False):
            pieces += [break_, cue]
        return "".join(pieces)

    def _wrapped(self, cue: Sequence[Part], count: int) -> str:
        """The words of a cue in so many lines at most, of about the same length, and one if they fit."""
        text = "".join(
            p.source.replace(" ", "\0") if isinstance(p, Mark) else self._escaped(p) for p in merged(cue)
        )
        words = text.split()
        length = len(_TAG.sub("", " ".join(words)))
        count = max(1, min(count, -(-length // WIDTH), len(words)))
        lines: list[str] = []
        for number in range(count, 0, -1):
            left = len(_TAG.sub("", " ".join(words)))
            line: list[str] = []
            while words and (number == 1 or not line or _nearer(line, words[0], left / number)):
                line.append(words.pop(0))
            lines.append(" ".join(line))
        return self.ending.join(lines).replace("\0", " ")

    def _escaped(self, words: str) -> str:
        if not self.has_entities:
            return words
        for entity, character in _ENTITIES.items():
            words = words.replace(character, entity)
        return words


def _nearer(line: Sequence[str], word: str, wanted: float) -> bool:
    """Whether a line is nearer to a length with one more word."""
    length = len(_TAG.sub("", " ".join(line)))
    return abs(length + 1 + len(word) - wanted) <= abs(length - wanted)
