"""Translation memories: units in one language get a variant in another. Those that have one stay."""

import re
from collections.abc import Sequence
from functools import partial

from dragoman.documents import marked, xml
from dragoman.documents.document import LANGUAGE, Collector, Document, Form, Mark, Parts
from dragoman.documents.inline import Pairs
from dragoman.errors import InvalidDocument

_CODES = frozenset(("ph", "it", "ut", "x"))
"""What stands alone; what is in it is code."""


def parse(data: bytes) -> Document:
    """A .tmx file. Raises InvalidDocument if it isn't one."""
    found = Collector(xml.read(data))
    if found.text.strip() and xml.root(found.text) != "tmx":
        raise InvalidDocument("the file is no translation memory: it doesn't begin with <tmx>")
    for tokens in xml.elements(found.text, frozenset(("tu",))):
        _add(found, tokens, xml.ends(tokens))
    return found.document()


def _add(found: Collector, tokens: Sequence[xml.Token], ends: dict[int, int]) -> None:
    """A unit of one variant."""
    variants = [at for at, token in enumerate(tokens) if token.name == "tuv" and token.kind == "open"]
    if len(variants) != 1:
        return
    text, first, last = found.text, variants[0], ends[variants[0]]
    segment = next((at for at in range(first, last) if tokens[at].name == "seg" and at in ends), None)
    if segment is None:
        return
    parts = _read(text[tokens[segment].end : tokens[ends[segment]].start])
    end = tokens[last].end
    indent = re.search(r"\s*\Z", text[max(0, tokens[first].start - 200) : tokens[first].start])
    before = f'{indent[0] if indent else ""}<tuv xml:lang="{LANGUAGE}"><seg>'
    write = partial(_write, before=before)
    name = xml.attributes(text[tokens[0].start : tokens[0].end]).get("tuid")
    found.add(parts, end, end, Form(write, is_target=True), name)


def _read(written: str) -> Parts:
    return marked.read(written, marked.plain, _code)


def _code(tag: str, inner: str, pairs: Pairs) -> Mark | None:
    """What an element stands for that is no pair of tags."""
    name, about = xml.name(tag), xml.attributes(tag)
    if name == "bpt":
        return pairs.opening(tag, about.get("i", ""))
    if name == "ept":
        return pairs.closing(tag, about.get("i", ""))
    return Mark(tag, reads="") if name in _CODES else None


def _write(parts: Parts, before: str) -> str:
    return f"{before}{marked.write(parts)}</seg></tuv>"
