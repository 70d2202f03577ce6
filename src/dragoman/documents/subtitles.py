"""Subtitles, SubRip and WebVTT: what is said, with all times as they are."""

import re
from collections.abc import Iterator

from dragoman.documents import cues
from dragoman.documents.cues import Cue, Syntax
from dragoman.documents.document import Collector, Document, Mark, Part
from dragoman.documents.encodings import decode
from dragoman.documents.inline import Pairs
from dragoman.errors import InvalidDocument

_TIME = r"(?:\d{1,3}:)?\d{1,2}:\d{2}[.,]\d{1,3}"
_CUE = re.compile(rf"[ \t]*{_TIME}[ \t]*-->[ \t]*{_TIME}[^\r\n]*(?:\r\n|\r|\n|\Z)")
_NO_CUE = re.compile(r"^[ \t]*(?:NOTE|STYLE|REGION)(?:\s|\Z)", re.MULTILINE)
_LINE_END = re.compile(r"\r\n|\r|\n")
_BLANK_LINE = re.compile(r"(?:\r\n|\r|\n)[ \t]*(?:\r\n|\r|\n|\Z)|\Z")
_TAG_ALONE = re.compile(r"</?[a-zA-Z][^<>]{0,200}>|<\d[\d:.]{4,14}>|\{\\[^{}]{1,200}\}")
_TAG = re.compile(_TAG_ALONE.pattern + r"|&[a-z]{2,6};")
_NAME = re.compile(r"</?([a-zA-Z]+)")
_ENTITIES = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&nbsp;": "\xa0"}


def parse(data: bytes, max_line: int | None = None) -> Document:
    """A file of subtitles. max_line: see `cues.collect`. Raises InvalidDocument if there is no cue in it."""
    found = Collector(decode(data))
    is_vtt = found.text.lstrip("\ufeff").startswith("WEBVTT")
    ending = _LINE_END.search(found.text)
    syntax = Syntax(
        _TAG if is_vtt else _TAG_ALONE,
        _mark,
        _LINE_END,
        ending[0] if ending else "\n",
        _escaped if is_vtt else str,
    )
    cues.collect(found, _cues(found.text), syntax, max_line)
    if found.text.strip() and not found.segments and not is_vtt and _CUE.search(found.text) is None:
        raise InvalidDocument("the file has no cue with times, such as 00:00:01,000 --> 00:00:02,000")
    return found.document()


def _cues(text: str) -> Iterator[Cue]:
    """Where the words of each cue are. Notes and the like part them in kinds."""
    at = notes = 0
    while head := _CUE.search(text, at):
        notes += _NO_CUE.search(text, at, head.start()) is not None
        blank = _BLANK_LINE.search(text, max(head.end() - 1, 0))
        assert blank is not None
        # A cue without words has its blank line right behind its times.
        end = max(blank.start(), head.end())
        words = text[head.end() : end]
        start = head.end() + len(words) - len(words.lstrip())
        last = head.end() + len(words.rstrip())
        if start < last:
            yield Cue(start, last, notes)
        at = max(end, head.end())


def _mark(tag: str, pairs: Pairs) -> Part:
    name = _NAME.match(tag)
    if tag.startswith("&"):
        return _ENTITIES.get(tag, tag)
    if name is None:
        return Mark(tag)
    return pairs.closing(tag, name[1]) if tag.startswith("</") else pairs.opening(tag, name[1])


def _escaped(words: str) -> str:
    for entity, character in _ENTITIES.items():
        words = words.replace(character, entity)
    return words
