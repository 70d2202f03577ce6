"""What subtitles have in common: cues, whose sentences go on from one to the next.

A sentence that runs over several cues is one segment; what is between them are marks in it, at which its
translation is parted again. A cue has at most as many lines afterwards as before, unless that would make
them longer than is allowed.
"""

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from dragoman.documents.document import Collector, Form, Mark, Part, Parts, merged, paired
from dragoman.documents.inline import Pairs
from dragoman.errors import InvalidOption

WIDTH = 42
"""Characters that a line should have at most."""
_MOST_CUES, _MOST_CHARACTERS = 4, 300
"""Of what is translated as one."""
_STARTS = ("-", "–", "—", "♪", "♫", "[", "(", "#", "*")
_ENDS = (".", "!", "?", "…", "。", "！", "？", "♪", "♫", "]", ")", ":", '"', "”", "»")


@dataclass(frozen=True, slots=True)
class Cue:
    """Where the words of a cue are."""

    start: int
    end: int
    kind: Hashable = None
    """Sentences only go on in cues of one kind."""


@dataclass(frozen=True)
class Syntax:
    """How a format writes what is said."""

    tag: re.Pattern[str]
    """What stands between words."""
    mark: Callable[[str, Pairs], Part]
    """What such a thing is."""
    break_: re.Pattern[str]
    """Between two lines."""
    ending: str
    """The same, as it is written."""
    escape: Callable[[str], str] = str

    def shown(self, text: str) -> str:
        """The words of a text."""
        return self.tag.sub("", text)


def collect(found: Collector, cues: Iterable[Cue], syntax: Syntax, max_line: int | None) -> None:
    """Take cues as segments. max_line: characters that no line may have more than; None where cues decide."""
    if max_line is not None and max_line < 1:
        raise InvalidOption(f"lines of at most {max_line} characters can't be; try {WIDTH}")
    for group in _groups(found.text, cues, syntax):
        breaks = [found.text[a.end : b.start] for a, b in pairwise(group)]
        lines = [len(syntax.break_.split(found.text[cue.start : cue.end])) for cue in group]
        writing = _Writing(syntax, breaks, lines, max_line)
        start, end = group[0].start, group[-1].end
        form = Form(writing.write, writing.read, alike=writing.stripped)
        found.add(writing.read(found.text[start:end]), start, end, form)


def _groups(text: str, cues: Iterable[Cue], syntax: Syntax) -> Iterator[list[Cue]]:
    """Cues that are translated as one."""
    group: list[Cue] = []
    for cue in cues:
        if group and not _goes_on(text, group, cue, syntax):
            yield group
            group = []
        group.append(cue)
    if group:
        yield group


def _goes_on(text: str, group: Sequence[Cue], cue: Cue, syntax: Syntax) -> bool:
    """Whether a cue goes on with the sentence of those before."""
    last = group[-1]
    before = syntax.shown(text[last.start : last.end]).rstrip()
    words = syntax.shown(text[cue.start : cue.end]).lstrip()
    return (
        len(group) < _MOST_CUES
        and cue.kind == last.kind
        and sum(each.end - each.start for each in (*group, cue)) < _MOST_CHARACTERS
        and not before.endswith(_ENDS)
        and not words.startswith(_STARTS)
        and not text[last.start : last.end].startswith(_STARTS)
        and words[:1].islower()
    )


@dataclass(frozen=True, slots=True)
class _Writing:
    """How the cues of a segment are read and written."""

    syntax: Syntax
    breaks: Sequence[str]
    """What is between two of them."""
    lines: Sequence[int]
    """How many each has."""
    max_line: int | None

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
        words = " ".join(line.strip() for line in self.syntax.break_.split(words))
        parts: list[Part] = []
        done = 0
        for tag in self.syntax.tag.finditer(words):
            parts += [words[done : tag.start()], self.syntax.mark(tag[0], pairs)]
            done = tag.end()
        return [*parts, words[done:]]

    def stripped(self, parts: Parts) -> list[object]:
        """The cues of a segment without the blanks around each, for comparing."""
        cues: list[object] = []
        for cue in self._cues(parts):
            text = "".join(part if isinstance(part, str) else f"\0{part.source}\0" for part in cue)
            cues.append(" ".join(text.split()))
        order = [part.source for part in parts if isinstance(part, Mark) and part.source in self.breaks]
        return [*cues, order]

    def _cues(self, parts: Parts) -> list[list[Part]]:
        """The parts of each cue."""
        cues: list[list[Part]] = [[]]
        for part in parts:
            if isinstance(part, Mark) and part.source in self.breaks and len(cues) <= len(self.breaks):
                cues.append([])
            else:
                cues[-1].append(part)
        return cues

    def write(self, parts: Parts) -> str:
        cues = self._cues(parts)
        written = [self._wrapped(cue, count) for cue, count in zip(cues, self.lines, strict=False)]
        pieces = [written[0]]
        for break_, cue in zip(self.breaks, written[1:], strict=False):
            pieces += [break_, cue]
        return "".join(pieces)

    def _wrapped(self, cue: Sequence[Part], count: int) -> str:
        """The words of a cue in so many lines at most, of about the same length, and one if they fit."""
        escape = self.syntax.escape
        # Blanks in a tag don't part words.
        text = "".join(p.source.replace(" ", "\0") if isinstance(p, Mark) else escape(p) for p in merged(cue))
        words = text.split()
        lengths = [len(self.syntax.shown(word.replace("\0", " "))) for word in words]
        length = sum(lengths) + len(words) - 1
        width = self.max_line or WIDTH
        count = max(1, min(count, -(-length // width), len(words)))
        lines = _balanced(lengths, count)
        if self.max_line is not None and _longest(lengths, lines) > self.max_line:
            filled = _filled(lengths, self.max_line)
            lines = _balanced(lengths, len(filled))
            lines = filled if _longest(lengths, lines) > self.max_line else lines
        written = [" ".join(words[first:last]) for first, last in lines]
        return self.syntax.ending.join(written).replace("\0", " ")


Lines = list[tuple[int, int]]
"""The first word of each line, and the one behind its last."""


def _balanced(lengths: Sequence[int], count: int) -> Lines:
    """So many lines of about the same length, of words of these lengths."""
    lines: Lines = []
    first, left = 0, sum(lengths) + len(lengths) - 1
    for number in range(count, 1, -1):
        last, length = first + 1, lengths[first]
        wanted = left / number
        while last < len(lengths) and abs(length + 1 + lengths[last] - wanted) <= abs(length - wanted):
            length += 1 + lengths[last]
            last += 1
        lines.append((first, last))
        first, left = last, left - length - 1
        if first == len(lengths):
            return lines
    return [*lines, (first, len(lengths))]


def _filled(lengths: Sequence[int], width: int) -> Lines:
    """Lines of at most so many characters, as few as can be."""
    lines: Lines = []
    first = length = 0
    for place, each in enumerate(lengths):
        if place > first and length + 1 + each > width:
            lines.append((first, place))
            first, length = place, each
        else:
            length += each + (place > first)
    return [*lines, (first, len(lengths))]


def _longest(lengths: Sequence[int], lines: Lines) -> int:
    return max((sum(lengths[first:last]) + last - first - 1 for first, last in lines), default=0)
