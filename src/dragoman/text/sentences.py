"""Cut a text into the sentences a model translates, and put the translations back.

    parts = split(text, "eng_Latn", limit=256, measure=count_tokens)
    translations = translate([segment.text for segment in parts.segments])
    result = join(parts, translations, "eng_Latn", "zho_Hans")

Splitting loses nothing: the segments are spans of the text, and all that lies between them is kept.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import regex

from dragoman.errors import InvalidOption
from dragoman.languages import Language, of_code
from dragoman.text.abbreviations import ends_no_sentence

CHUNK = 2048
"""The most characters sentencex gets at once: it's quadratic on runs of quotation marks."""

GRAPHEME = 32
"""The most characters that are kept together as one written sign (Unicode's stream-safe format: 31)."""

# What str.isspace() accepts, and the zero-width space and no-break space (byte order mark).
BLANKS = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009"
)
BLANKS += "\u200a\u200b\u2028\u2029\u202f\u205f\u3000\ufeff"
_BLANKS = re.compile(f"[{BLANKS}]*")
_LINE = re.compile(r"[^\n\v\f\r\x85\u2028\u2029]+")

_CLOSERS = "[\"'’”»›)\\]」』）】》〉]*"
_SENTENCE_END = re.compile(f"(?:[.!?…]+{_CLOSERS}(?=[{BLANKS}])|[。！？｡।॥။።፧፨۔؟։།༎។៕᱾᱿]{_CLOSERS})")
_CLAUSE_END = re.compile(f"(?:[,;:–—](?=[{BLANKS}])|[—，；：、､،؛၊፣፤፥፦])")
_WORD_END = re.compile(f"(?=[{BLANKS}])|[་፡]")
_PHRASE_END = re.compile(f"{_CLAUSE_END.pattern}|(?=[{BLANKS}])")
_SPACED_LEVELS = (_SENTENCE_END, _CLAUSE_END, _WORD_END)
_PHRASE_LEVELS = (_SENTENCE_END, _PHRASE_END, _WORD_END)

Levels = tuple[re.Pattern[str], ...]

# Unicode's grapheme clusters (UAX 29), joined where they are written in one: behind a joiner, a virama or
# half a surrogate pair, and Thai and Lao vowels that stand before their consonant.
_SIGN = regex.compile(
    r"(?:\X(?<=[\u200d\u0e40-\u0e44\u0ec0-\u0ec4\ud800-\udbff]|\p{ccc=9}))*+(?:\X[\uff9e\uff9f\udc00-\udfff]*)?+"
)

# sentencex knows no Khmer or Tibetan. A single Tibetan shad ends clauses too, so it takes two.
_MORE_ENDS = re.compile(f"(?:[។៕༎]|།[{BLANKS}]*།){_CLOSERS}[{BLANKS}]*")

# sentencex pairs quotation marks, and takes the apostrophe of 't or '96 for a closing one.
_OPENING = re.compile(f"(?<=[{BLANKS}])[\"'’‘“„‚«»‹›(\\[¿¡]+$")
_CLOSING = re.compile(f"[\"'’‘”“»›)\\]]+(?=[{BLANKS}])[{BLANKS}]*")

_NO_SPACES_AT_ALL = {"Hans", "Hant", "Jpan"}  # of the others, Thai, Lao, Khmer... part phrases with spaces


@dataclass(frozen=True)
class Segment:
    """What lies before a sentence (white space or nothing), and the sentence or piece of one."""

    before: str
    text: str


@dataclass(frozen=True)
class SplitText:
    """A text in pieces: every `before + text` in turn, then `after`, is the text unchanged."""

    segments: tuple[Segment, ...]
    after: str

    @classmethod
    def whole(cls, text: str) -> "SplitText":
        """A text as one piece, without the white space around it."""
        core = text.strip()
        before, _, after = text.partition(core) if core else (text, "", "")
        return cls((Segment(before, core),), after)


def split(
    text: str, language: str, limit: int | None = None, measure: Callable[[str], int] = len
) -> SplitText:
    """Cut a text into its sentences, each at most `limit` long as `measure` counts.

    Every line is split by itself: a line break always ends a sentence, so prose that was wrapped
    by hand should be unwrapped before. A sentence over the limit is cut at the best place near
    it: after a sentence within it, after a clause, at white space, and last between two written
    signs. A single sign over the limit stays whole. Sentences are at most about `CHUNK` long.

    Thai and Lao mark no sentence ends, so there a line is cut (at spaces) only when over the limit.
    Raises UnknownLanguage and InvalidOption.
    """
    if limit is not None and limit < 1:
        raise InvalidOption(f"limit is {limit}, but a segment holds at least 1. Leave it out for no limit.")
    segments, done = [], 0
    for start, end in _spans(text, of_code(language), limit, measure):
        segments.append(Segment(text[done:start], text[start:end]))
        done = end
    return SplitText(tuple(segments), text[done:])


def whole(text: str) -> SplitText:
    """A text as one sentence, without the white space around it; as none if it is nothing else."""
    start = len(text) - len(text.lstrip(BLANKS))
    sentence = text.strip(BLANKS)
    if not sentence:
        return SplitText((), text)
    return SplitText((Segment(text[:start], sentence),), text[start + len(sentence) :])


def join(parts: SplitText, translations: Sequence[str], source: str, target: str) -> str:
    """Put translations (one for each segment) in place of the sentences.

    White space is kept, but for what stands between two sentences of a line: Chinese and Japanese
    take no space there, and a language that has one gets one when the source had none.
    """
    if len(translations) != len(parts.segments):
        raise ValueError(f"{len(translations)} translations came for {len(parts.segments)} segments.")
    spoken = of_code(source), of_code(target)
    pieces = []
    for number, (segment, translation) in enumerate(zip(parts.segments, translations, strict=True)):
        pieces += [_between(segment.before, *spoken) if number else segment.before, translation]
    return "".join(pieces) + parts.after


def _between(blanks: str, source: Language, target: Language) -> str:
    """What stands between two translated sentences of a line for the `blanks` of the source."""
    parted = [language.script not in _NO_SPACES_AT_ALL for language in (source, target)]
    if parted == [True, False] and blanks in (" ", "  "):  # two: a habit from typewriters
        return ""
    grows = parted == [False, True] or target.writes_spaces > source.writes_spaces
    return " " if grows and blanks in ("", "\u200b") else blanks


def _spans(
    text: str, language: Language, limit: int | None, measure: Callable[[str], int]
) -> Iterator[tuple[int, int]]:
    """Start and end of each segment, without white space around it."""
    parts_phrases = not language.writes_spaces and language.script not in _NO_SPACES_AT_ALL
    levels = _PHRASE_LEVELS if parts_phrases else _SPACED_LEVELS
    for line in _LINE.finditer(text):
        for start, end in _sentences(text, *line.span(), language, levels):
            if limit is None:
                yield start, end
            else:
                yield from _fit(text, start, end, limit, measure, levels)


def _sentences(
    text: str, start: int, end: int, language: Language, levels: Levels
) -> Iterator[tuple[int, int]]:
    """The sentences of the line text[start:end], found in chunks so that no line takes long."""
    while (start := _after_blanks(text, start, end)) < end:
        stop = min(start + CHUNK, end)
        lengths = _sentence_lengths(text[start:stop], language)
        if stop < end and len(lengths) > 1:
            lengths.pop()  # it may go on behind the chunk, so the next chunk starts with it
        elif stop < end:
            lengths = [_cut(text, start, CHUNK, end, levels) - start]
        for length in lengths:
            first = _after_blanks(text, start, start + length)
            start += length
            if first < start:
                yield first, first + len(text[first:start].rstrip(BLANKS))


def _sentence_lengths(chunk: str, language: Language) -> list[int]:
    """Lengths of the sentences that make up a chunk, white space behind a sentence included."""
    import sentencex

    # sentencex 1.0.32 panics on wide white space in "\u3000A\u3000." and takes no lone surrogates.
    plain = re.sub("[\ud800-\udfff]", "\ufffd", re.sub(r"\s", " ", chunk))
    segmented = sentencex.segment(language.iso1 or language.iso3, plain)
    found = [part for sentence in segmented for part in _more_sentences(sentence)]
    if "".join(found) != plain:
        return [len(chunk)]
    joined: list[str] = []
    for sentence in found:
        if joined and (opening := _OPENING.search(joined[-1])) and not sentence[0].isspace():
            joined[-1], sentence = joined[-1][: opening.start()], opening[0] + sentence
        elif joined and (closing := _CLOSING.match(sentence)) and not joined[-1][-1].isspace():
            joined[-1], sentence = joined[-1] + closing[0], sentence[closing.end() :]
        if joined and (not sentence or _belongs_to(joined[-1], sentence, language)):
            joined[-1] += sentence
        elif sentence:
            joined.append(sentence)
    return [len(sentence) for sentence in joined]


def _more_sentences(sentence: str) -> Iterator[str]:
    start = 0
    for end in _MORE_ENDS.finditer(sentence):
        yield sentence[start : end.end()]
        start = end.end()
    if start < len(sentence):
        yield sentence[start:]


def _belongs_to(previous: str, sentence: str, language: Language) -> bool:
    """Whether sentencex cut where no sentence ends."""
    if ends_no_sentence(previous.rstrip(BLANKS), sentence, language):
        return True
    if previous.rstrip(BLANKS).endswith("၊"):  # the Burmese comma
        return True
    if previous.endswith(("」", "』")) and sentence.startswith(("と", "って")):  # 「…。」と言った
        return True
    return not any(character.isalnum() for character in sentence)


def _after_blanks(text: str, start: int, end: int) -> int:
    match = _BLANKS.match(text, start, end)
    assert match is not None
    return match.end()


def _fit(
    text: str, start: int, end: int, limit: int, measure: Callable[[str], int], levels: Levels
) -> Iterator[tuple[int, int]]:
    """The sentence text[start:end] in pieces of about the same size that measure `limit` or less.

    The pieces are found from the running ratio of measure to characters, so that each costs one
    or two calls of `measure` on about its own length.
    """
    total = measure(text[start:end])
    if total <= limit:
        yield start, end
        return
    ratio = total / (end - start)
    while start < end:
        room = max(1, int(limit / ratio))
        pieces = math.ceil((end - start) / room)
        size = min(room, math.ceil(1.2 * (end - start) / pieces))
        while True:
            cut = _cut(text, start, size, end, levels)
            last = start + len(text[start:cut].rstrip(BLANKS))
            measured = measure(text[start:last])
            if measured <= limit or size == 1:
                break
            size = max(1, min(size - 1, int(0.95 * size * limit / measured)))
        yield start, last
        ratio = max(measured, 1) / (last - start)
        start = _after_blanks(text, cut, end)


def _cut(text: str, start: int, size: int, end: int, levels: Levels) -> int:
    """The best place to cut text[start:end] at `size` characters behind `start` or before."""
    if size >= end - start:
        return end
    stop = start + size
    for level in levels:
        # White space anywhere is better than a cut word; for the others half a piece is the least.
        first = start + 1 if level is levels[-1] else start + size // 2
        # One character more, because the patterns look ahead.
        places = [place.end() for place in level.finditer(text, first, stop + 1) if place.end() <= stop]
        if places:
            return _sign_boundary(text, start, places[-1], end)
    return _sign_boundary(text, start, stop, end)


def _sign_boundary(text: str, start: int, at: int, end: int) -> int:
    """The place nearest before `at`, or else behind it, that lies between two written signs."""
    behind = start
    for sign in _SIGN.finditer(text, start, min(at + 2 * GRAPHEME, end)):
        before, behind = behind, sign.end()
        if behind == at:
            return at
        if behind > at:
            if before > max(start, at - GRAPHEME):
                return before
            return behind if behind < start + GRAPHEME else max(at, min(start + GRAPHEME, end))
    return at
