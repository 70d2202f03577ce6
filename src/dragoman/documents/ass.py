"""Subtitles with styles (Advanced SubStation Alpha): the text of what is said, all else as it is.

What overrides styles within a line is kept among the words, and so are drawings. Karaoke stays, as its times
are those of syllables.
"""

import re
from collections.abc import Iterator

from dragoman.documents import cues
from dragoman.documents.cues import Cue, Syntax
from dragoman.documents.document import Collector, Document, Mark, Part
from dragoman.documents.encodings import decode
from dragoman.documents.inline import Pairs
from dragoman.errors import InvalidDocument

_LINE = re.compile(r"[^\r\n]*")
_SECTION = re.compile(r"\s*\[([^\]]+)\]\s*")
_FORMAT = re.compile(r"\s*Format\s*:(.*)", re.IGNORECASE)
_DIALOGUE = re.compile(r"\s*Dialogue\s*:\s*", re.IGNORECASE)
_FIELDS = "layer, start, end, style, name, marginl, marginr, marginv, effect, text"
_SAME = ("layer", "marked", "style", "name", "actor", "effect")
"""Fields that lines have in common in which a sentence goes on."""
_KARAOKE = re.compile(r"\{[^{}]*\\[kK][fot]?\d")
_TAG = re.compile(
    r"\{[^{}]*\\p[1-9][^{}]*\}.*?(?:\{[^{}]*\\p0[^{}]*\}|\Z)"  # a drawing
    r"|\{[^{}]*\}|\\h"
)
_PAIR = re.compile(r"\{\\([ibus])(0|1|[1-9]00)?\}")
_SYNTAX = Syntax(
    _TAG,
    lambda tag, pairs: _mark(tag, pairs),
    re.compile(r"\\[Nn]"),
    "\\N",
    lambda w: w.replace("\xa0", "\\h"),
)


def parse(data: bytes, max_line: int | None = None) -> Document:
    """A .ass or .ssa file. max_line: see `cues.collect`. Raises InvalidDocument if it isn't one."""
    found = Collector(decode(data))
    if found.text.strip() and not re.search(r"^\s*\[(?:Script Info|Events)\]", found.text, re.M | re.I):
        raise InvalidDocument(
            "the file has no section [Script Info] or [Events], so it holds no such subtitles"
        )
    cues.collect(found, _cues(found.text), _SYNTAX, max_line)
    return found.document()


def _cues(text: str) -> Iterator[Cue]:
    """Where the words of each line of dialogue are."""
    fields = [name.strip() for name in _FIELDS.split(",")]
    is_events = False
    other = 0  # how many lines that are no dialogue have come
    for line in _LINE.finditer(text):
        if not line[0].strip():
            continue
        if section := _SECTION.fullmatch(line[0]):
            is_events = section[1].lower() == "events"
        elif is_events and (names := _FORMAT.fullmatch(line[0])):
            fields = [name.strip().lower() for name in names[1].split(",")]
        elif is_events and (head := _DIALOGUE.match(line[0])):
            values = line[0][head.end() :].split(",", len(fields) - 1)
            words = values[-1]
            end = line.start() + len(line[0].rstrip())
            start = line.end() - len(words.lstrip())
            if len(values) == len(fields) and start < end and not _KARAOKE.search(words):
                said = dict(zip(fields, values, strict=True))
                yield Cue(start, end, (other, *(said.get(name, "").strip() for name in _SAME)))
                continue
        other += 1


def _mark(tag: str, pairs: Pairs) -> Part:
    if tag == "\\h":
        return "\xa0"
    pair = _PAIR.fullmatch(tag)
    if pair is None:
        return Mark(tag)
    return pairs.closing(tag, pair[1]) if pair[2] in ("0", None) else pairs.opening(tag, pair[1])
