"""XLIFF 1.2 and 2: units that have no translation yet get one."""

import re
from collections.abc import Sequence
from functools import partial

from dragoman.documents import marked, xml
from dragoman.documents.document import Collector, Document, Form, Mark, Parts
from dragoman.documents.inline import Pairs
from dragoman.errors import InvalidDocument

_UNITS = ("trans-unit", "segment")
_CODES = frozenset(("ph", "it", "x", "bx", "ex", "cp", "sc", "ec", "sm", "em"))
"""What stands alone; what is in it is code, of which a reader sees at most the placeholder."""


def parse(data: bytes) -> Document:
    """An XLIFF file. Raises InvalidDocument if it isn't one."""
    found = Collector(xml.read(data))
    text = found.text
    tokens = list(xml.tokens(text))
    ends = xml.ends(tokens)
    root = next((token for token in tokens if token.kind in ("open", "empty")), None)
    if root is None and not text.strip():
        return found.document()
    if root is None or root.name != "xliff":
        raise InvalidDocument("the file is no XLIFF: it doesn't begin with <xliff>")
    stays: list[bool] = []
    for place, token in enumerate(tokens):
        if token.kind == "close":
            stays.pop()
        elif token.kind == "open":
            about = xml.attributes(text[token.start : token.end])
            own = about.get("translate")
            stays.append(own == "no" if own else bool(stays) and stays[-1])
            if token.name in ("xliff", "file"):
                for name in ("trgLang", "target-language"):
                    if span := xml.attribute_span(text, token, name):
                        found.languages.append(span)
            if token.name in _UNITS and not stays[-1]:
                _add(found, tokens, ends, place, about.get("id") or about.get("resname"))
    return found.document()


def _add(
    found: Collector, tokens: Sequence[xml.Token], ends: dict[int, int], place: int, name: str | None
) -> None:
    """The source of a unit, if its target says nothing."""
    text = found.text
    source = target = None
    at = place + 1
    while at < ends[place]:
        if tokens[at].name == "source" and source is None:
            source = at
        elif tokens[at].name == "target" and target is None:
            target = at
        at = ends.get(at, at) + 1
    if source is None or tokens[source].kind == "empty":
        return
    source_end = tokens[ends[source]]
    parts = _read(text[tokens[source].end : source_end.start])
    if target is None:
        indent = re.search(r"\s*\Z", text[max(0, tokens[source].start - 200) : tokens[source].start])
        write = partial(_write, before=f"{indent[0] if indent else ''}<target>", behind="</target>")
        start = end = source_end.end
    elif tokens[target].kind == "empty":
        tag = text[tokens[target].start : tokens[target].end].removesuffix("/>").rstrip()
        write = partial(_write, before=f"{tag}>", behind="</target>")
        start, end = tokens[target].start, tokens[target].end
    else:
        start, end = tokens[target].end, tokens[ends[target]].start
        if text[start:end].strip():
            return
        write = partial(_write, before="", behind="")
    found.add(parts, start, end, Form(write, is_target=True), name)


def _read(written: str) -> Parts:
    return marked.read(written, marked.plain, _code)


def _code(tag: str, inner: str, pairs: Pairs) -> Mark | None:
    """What an element stands for that is no pair of tags."""
    name, about = xml.name(tag), xml.attributes(tag)
    if name == "bpt":
        return pairs.opening(tag, about.get("rid") or about.get("id", ""))
    if name == "ept":
        return pairs.closing(tag, about.get("rid") or about.get("id", ""))
    if name in _CODES or about.get("translate") == "no" or about.get("mtype") == "protected":
        reads = about.get("equiv-text") or about.get("equiv") or about.get("disp") or marked.said(inner)
        return Mark(tag, reads="" if "<" in reads else reads)
    return None


def _write(parts: Parts, before: str, behind: str) -> str:
    return f"{before}{marked.write(parts)}{behind}"
