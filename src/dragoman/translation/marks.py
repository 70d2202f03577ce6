"""Words with marks between them: what of a segment a model gets to see, and the marks put back.

A model sees a sentence without tags. Where they belong in its translation is found by what their own words
are in it (`Flat.project`). What a reader sees and no language has (code, placeholders, addresses) stays in
the sentence if the model knows its characters; else a number stands for it.
"""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain

from dragoman.documents.document import Mark, Part, Parts, merged
from dragoman.text.markup import kept
from dragoman.translation.apart import is_kept, protected

NUMBERS = tuple("36 47 85 24 61 79 38 95 27 56 73 42 88 29 54 71 86 23 45 91 37 26 75 34".split())  # noqa: SIM905
"""What stands for things that a model can't be shown. Small models copy numbers of two digits and lose longer
ones: the embedded one kept 47 in 46 of 48 sentences, 4711 in 2."""
_LONGEST = 60
"""Characters of what is shown to a model as it is."""
_TAGS = "biusapqxyz"
TAG = "<b></b>"
"""What a tag looks like to a model; where its characters are unknown, tags can't be shown."""
_WORD = re.compile(r"\w+")
_WORD_END = re.compile(r"\w+[.,;:!?…»”’)\]。，、！？]*")


@dataclass
class Point:
    """A thing that stays, and how it is shown at a place of a text."""

    start: int
    end: int
    part: Part


@dataclass
class Span:
    """The words between the two ends of a pair."""

    start: int
    end: int
    opening: Mark
    closing: Mark


@dataclass
class Flat:
    """A segment as one text, and what stands where in it."""

    text: str = ""
    points: list[Point] = field(default_factory=list)
    """What is seen, in the order of the text."""
    unseen: list[Point] = field(default_factory=list)
    """Marks of which a reader sees nothing; they take no room in the text."""
    spans: list[Span] = field(default_factory=list)

    @property
    def shown(self) -> list[str]:
        """What a translation must have, each as often as it is here."""
        return [shown for point in self.points if (shown := self.text[point.start : point.end]).strip()]

    @property
    def in_whole_words(self) -> Parts | None:
        """The same segment with pairs around whole words only; None if that can't be."""
        spans = [
            Span(*whole_words(self.text, span.start, span.end), span.opening, span.closing)
            for span in self.spans
        ]
        if not _nested_alike(self.spans, spans):
            return None
        return _assembled(self.text, self.points, spans, self.unseen)

    def words(self, span: Span) -> str:
        """The words of a pair, up to the ends of words that are cut by it."""
        return self.text[slice(*whole_words(self.text, span.start, span.end))].strip()

    def project(self, translation: str, said: Sequence[Sequence[str]]) -> Parts | None:
        """The translation of the text with all marks in it; None if the place of one isn't found.

        said: for each span translations of its words alone.
        """
        places = []
        for span, candidates in zip(self.spans, said, strict=True):
            wanted = (span.start + span.end) / 2 / max(len(self.text), 1)
            places.append(_find(translation, [*candidates, self.words(span)], wanted))
        return self.placed(translation, places)

    def placed(self, translation: str, places: Sequence[tuple[int, int] | None]) -> Parts | None:
        """The translation of the text with all marks in it; places: of the words of each span, if known."""
        points = _points(self, translation)
        if points is None:
            return None
        spans = []
        for span, found in zip(self.spans, places, strict=True):
            if found is None or _is_swollen(span, self.text, found, translation):
                return None
            spans.append(Span(*found, span.opening, span.closing))
        if not _nested_alike(self.spans, spans):
            return None
        return _assembled(translation, points, spans, self._places(translation, spans))

    def around(self, translation: str) -> Parts | None:
        """The translation with all pairs around it; None if something that is seen is lost."""
        points = _points(self, translation)
        if points is None:
            return None
        spans = [Span(0, len(translation), span.opening, span.closing) for span in self.spans]
        return _assembled(translation, points, spans, self._places(translation, spans))

    def _places(self, translation: str, spans: Sequence[Span]) -> list[Point]:
        """Where the unseen marks go: about as far into the text as they were, at the end of a word."""
        placed = []
        for point in self.unseen:
            first, last = 0, len(translation)
            old_first, old_last = 0, len(self.text)
            for old, new in zip(self.spans, spans, strict=True):
                if old.start <= point.start <= old.end and new.end - new.start <= last - first:
                    first, last, old_first, old_last = new.start, new.end, old.start, old.end
            share = (point.start - old_first) / max(old_last - old_first, 1)
            at = first + round(share * (last - first))
            ends = [word.end() for word in _WORD_END.finditer(translation, first, last)]
            at = min(ends or [at], key=lambda end: abs(end - at)) if 0 < share < 1 else at
            placed.append(Point(at, at, point.part))
        return placed


def flatten(parts: Parts, lacks: Callable[[str], str], only_numbers: bool = False) -> Flat:
    """A segment as one text.

    lacks: the characters of a text that the model doesn't know; only_numbers: show nothing as it is.
    """
    flat = Flat()
    opened: dict[int, tuple[int, Mark]] = {}
    more = (str(n) for n in range(1000, 10**6))
    numbers = (number for number in chain(NUMBERS, more) if not _has(parts, number))
    for part in protected(parts):
        if isinstance(part, str) and not is_kept(part):
            flat.text += part
        elif isinstance(part, Mark) and part.kind == "open":
            opened[part.number] = len(flat.text), part
        elif isinstance(part, Mark) and part.kind == "close":
            start, opening = opened.pop(part.number)
            flat.spans.append(Span(start, len(flat.text), opening, part))
        else:
            reads = part if isinstance(part, str) else part.reads
            if not reads:
                flat.unseen.append(Point(len(flat.text), len(flat.text), part))
                continue
            is_readable = not only_numbers and len(reads) <= _LONGEST and not lacks(reads)
            shown = reads if is_readable or reads.isspace() else next(numbers)
            flat.points.append(Point(len(flat.text), len(flat.text) + len(shown), part))
            flat.text += shown
    return flat


def with_tags(flat: Flat) -> str:
    """The text with a short tag at both ends of each span."""
    events = sorted(
        [(span.start, 1, -span.end, f"<{tag}>") for span, tag in zip(flat.spans, _TAGS, strict=False)]
        + [(span.end, 0, -span.start, f"</{tag}>") for span, tag in zip(flat.spans, _TAGS, strict=False)]
    )
    pieces, done = [], 0
    for at, _, _, tag in events:
        pieces += [flat.text[done:at], tag]
        done = at
    return "".join([*pieces, flat.text[done:]])


def from_tags(flat: Flat, translation: str) -> tuple[str, list[tuple[int, int]]] | None:
    """A translation of `with_tags`, without the tags, and where its spans are; None if not all are there."""
    starts: dict[str, int] = {}
    spans: dict[str, tuple[int, int]] = {}
    pieces: list[str] = []
    done = length = 0
    for tag in re.finditer(r"<(/?)([a-z])>", translation):
        pieces.append(translation[done : tag.start()])
        length += tag.start() - done
        done = tag.end()
        if not tag[1] and tag[2] not in starts:
            starts[tag[2]] = length
        elif tag[1] and tag[2] in starts and tag[2] not in spans:
            spans[tag[2]] = starts[tag[2]], length
        else:
            return None
    if (
        len(flat.spans) > len(_TAGS)
        or set(spans) != set(_TAGS[: len(flat.spans)])
        or len(starts) != len(spans)
    ):
        return None
    return "".join([*pieces, translation[done:]]), [spans[tag] for tag in _TAGS[: len(spans)]]


def tagged_parts(flat: Flat, translation: str) -> Parts | None:
    """The parts of a translation of `with_tags`; None if it doesn't have all."""
    found = from_tags(flat, translation)
    if found is None:
        return None
    text, places = found
    points = _points(flat, text)
    spans = [
        Span(*_trimmed(text, start, end), span.opening, span.closing)
        for span, (start, end) in zip(flat.spans, places, strict=True)
    ]
    if points is None or any(a.start >= a.end for a in spans) or not _nested_alike(flat.spans, spans):
        return None
    return _assembled(text, points, spans, flat._places(text, spans))


def keeps(source: str, candidate: str, shown: Sequence[str]) -> bool:
    """Whether a sentence's translation has what the sentence has of `shown`, as often, and invents none."""
    if not candidate.strip() or Counter(kept(source)) != Counter(kept(candidate)):
        return False
    return all(_count(candidate, one) == count for one in set(shown) if (count := _count(source, one)))


def whole_words(text: str, start: int, end: int) -> tuple[int, int]:
    """A span made as wide as the words that it cuts."""
    while 0 < start < len(text) and text[start].isalnum() and text[start - 1].isalnum():
        start -= 1
    while 0 < end < len(text) and text[end - 1].isalnum() and text[end].isalnum():
        end += 1
    return start, end


# ---- inside ------------------------------------------------------------------------------------------------


def _points(flat: Flat, translation: str) -> list[Point] | None:
    """Where what is seen stands in a translation, in its order; None if something isn't there."""
    done: dict[str, int] = {}
    found = []
    for point in flat.points:
        shown = flat.text[point.start : point.end]
        match = _shown(shown).search(translation, done.get(shown, 0))
        if match is None:
            return None
        at = match.start()
        done[shown] = at + len(shown)
        found.append(Point(at, at + len(shown), point.part))
    found.sort(key=lambda point: point.start)
    if any(b.start < a.end for a, b in itertools.pairwise(found)):
        return None
    return found


def _shown(shown: str) -> re.Pattern[str]:
    """Finds what is shown, and a number only where it isn't part of another."""
    return re.compile(rf"(?<!\d){shown}(?!\d)" if shown.isdigit() else re.escape(shown))


def _count(text: str, shown: str) -> int:
    return len(_shown(shown).findall(text)) if shown in text else 0


def _find(text: str, phrases: Sequence[str], wanted: float) -> tuple[int, int] | None:
    """Where one of these phrases stands in a text, nearest to a share of its length."""
    folded = text.casefold()
    exact = len(folded) == len(text)
    for phrase in phrases:
        phrase = phrase.strip().rstrip(".!?。")
        if not phrase:
            continue
        pattern = re.compile(r"(?<!\w)" + re.escape(phrase) + r"(?!\w)", re.IGNORECASE)
        places = [match.span() for match in pattern.finditer(text)]
        if not places and exact and not phrase.isascii():
            places = [m.span() for m in re.finditer(re.escape(phrase.casefold()), folded)]
        if places:
            return min(places, key=lambda place: abs(sum(place) / 2 / max(len(text), 1) - wanted))
    return next(filter(None, (_inflected(text, phrase) for phrase in phrases)), None)


def _is_swollen(span: Span, text: str, found: tuple[int, int], translation: str) -> bool:
    """Whether some words became all of the sentence, as those of a model that always says the same."""
    few = 2 * (span.end - span.start) < len(text.strip())
    return few and not any(map(str.isalnum, translation[: found[0]] + translation[found[1] :]))


def _inflected(text: str, phrase: str) -> tuple[int, int] | None:
    """The one place where words stand that begin like those of a phrase."""
    wanted = [word.casefold() for word in _WORD.findall(phrase)]
    if not wanted:  # a phrase of signs alone
        return None
    words = list(_WORD.finditer(text))
    found = [
        (words[at].start(), words[at + len(wanted) - 1].end())
        for at in range(len(words) - len(wanted) + 1)
        if all(_alike(a, b[0].casefold()) for a, b in zip(wanted, words[at:], strict=False))
    ]
    return found[0] if len(found) == 1 else None


def _alike(one: str, other: str) -> bool:
    """Whether two words begin alike, but for an ending."""
    common = 0
    while common < min(len(one), len(other)) and one[common] == other[common]:
        common += 1
    return common >= max(3, 0.6 * max(len(one), len(other))) or one == other


def _nested_alike(before: Sequence[Span], after: Sequence[Span]) -> bool:
    """Whether pairs that were in or beside each other still are."""
    for i, (a, x) in enumerate(zip(before, after, strict=True)):
        for b, y in list(zip(before, after, strict=True))[i + 1 :]:
            if a.end <= b.start or b.end <= a.start:
                if not (x.end <= y.start or y.end <= x.start):
                    return False
            else:
                outer, inner = (x, y) if a.start <= b.start and b.end <= a.end else (y, x)
                if not (outer.start <= inner.start and inner.end <= outer.end):
                    return False
    return True


def _assembled(
    text: str, points: Sequence[Point], spans: Sequence[Span], unseen: Sequence[Point]
) -> Parts | None:
    """A text with its marks; None if something that is seen would be cut by one."""
    if any(
        p.start < at < p.end for p in points for at in [*(s.start for s in spans), *(s.end for s in spans)]
    ):
        return None
    # At one place inner pairs close first, then marks stand, then outer pairs open.
    events: list[tuple[int, int, int, int, Part, int]] = []
    for order, span in enumerate(spans):  # the inner before the outer, as they were closed
        events.append((span.start, 3, -span.end, -order, span.opening, span.start))
        events.append((span.end, 0, -span.start, order, span.closing, span.end))
    for point in unseen:
        at = next((p.end for p in points if p.start < point.start < p.end), point.start)
        inside = any(span.start < at == span.end for span in spans)
        events.append((at, -1 if inside else 1, 0, 0, point.part, at))
    for point in points:
        events.append((point.start, 4, 0, 0, point.part, point.end))
    result: list[Part] = []
    done = 0
    for at, _, _, _, part, end in sorted(events, key=lambda event: event[:4]):
        result += [text[done:at], str(part) if isinstance(part, str) else part]
        done = max(end, at)
    return merged([*result, text[done:]])


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    words = text[start:end]
    return start + len(words) - len(words.lstrip()), end - (len(words) - len(words.rstrip()))


def _has(parts: Parts, number: str) -> bool:
    return any(number in (part if isinstance(part, str) else part.reads) for part in parts)
