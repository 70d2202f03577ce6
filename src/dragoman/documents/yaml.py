"""YAML with texts for a screen, as Rails and others have it: the strings that are values.

Comments, anchors, order and how strings are quoted stay. Where a file has all of its texts below the name of
a language, that becomes the name of the new one.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from dragoman import languages
from dragoman.documents.document import Collector, Document, Form, Parts
from dragoman.documents.encodings import decode
from dragoman.documents.inline import tagged, untagged
from dragoman.errors import InvalidDocument, UnknownLanguage

_PROPERTIES = re.compile(r"(?:[&!]\S*\s+)*")
_CODE = re.compile(r"[a-z]{2,3}(?:[-_][A-Za-z0-9]{2,8})*")
_STRING = "tag:yaml.org,2002:str"
_DEEPEST = 200
_SPECIAL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]")
"""Characters that only stand in double quotation marks."""


@dataclass(frozen=True, slots=True)
class _Scalar:
    """A string of a file: its value, and where it is written."""

    value: str
    start: int
    end: int
    path: tuple[str, ...]
    is_key: bool
    is_flow: bool
    """Whether it stands within brackets."""


def parse(data: bytes) -> Document:
    """A YAML file. Raises InvalidDocument if it is none."""
    found = Collector(decode(data))
    text = found.text
    forms = {
        (style, flow): Form(partial(_write, style=style, is_flow=flow), _read)
        for style in "|>'\" "
        for flow in (False, True)
    }
    roots = []
    for scalar in _scalars(text):
        if scalar.is_key and not scalar.path:
            roots.append(scalar)
        elif not scalar.is_key and not scalar.value.startswith(":"):  # a symbol of Ruby's
            style = text[scalar.start] if text[scalar.start] in "|>'\"" else " "
            _add(found, scalar, style, forms[style, scalar.is_flow])
    if len(roots) == 1 and _names_language(roots[0].value):
        quoted = text[roots[0].start] in "'\""
        found.languages.append((roots[0].start + quoted, roots[0].end - quoted))
    return found.document()


def _names_language(key: str) -> bool:
    """Whether a key is the code of a language: any of two letters, and longer ones that are known."""
    if _CODE.fullmatch(key) is None:
        return False
    try:
        return re.match(r"[a-z]{2}\b", key) is not None or languages.find(key) is not None
    except UnknownLanguage:
        return False


def _add(found: Collector, scalar: _Scalar, style: str, form: Form) -> None:
    start, end = scalar.start, scalar.end
    if style in "|>":
        header = found.text.find("\n", start, end)
        lines = found.text[header + 1 : end].split("\n")
        indent = next((line[: len(line) - len(line.lstrip(" "))] for line in lines if line.strip()), "  ")
        form = _block_form(found.text[start : header + 1], indent)
    found.add(tagged(scalar.value), start, end, form, ".".join(scalar.path))


@cache
def _loader() -> Any:
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _events(text: str) -> Iterator[Any]:
    """What a parser finds in a text. Raises InvalidDocument."""
    import yaml

    try:
        yield from yaml.parse(text, Loader=_loader())
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InvalidDocument(f"line {line} is no YAML: {error.problem}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidDocument(f"the file is no YAML: {str(error).splitlines()[0]}") from None


def _scalars(text: str) -> Iterator[_Scalar]:
    """The strings of a file, keys and values, in their order."""
    import yaml

    path: list[str] = []  # for each collection the key or number of what comes in it
    kinds: list[str] = []  # "sequence", or what a mapping has next: "key" or "value"
    flows = 0
    for event in _events(text):
        if isinstance(event, yaml.events.CollectionEndEvent):
            kinds.pop()
            path.pop()
            flows = max(0, flows - 1)
            _next(kinds, path)
        elif isinstance(event, yaml.events.CollectionStartEvent):
            kinds.append("key" if isinstance(event, yaml.events.MappingStartEvent) else "sequence")
            path.append("" if kinds[-1] == "key" else "0")
            flows += bool(flows or event.flow_style)
            if len(kinds) > _DEEPEST:
                raise InvalidDocument(f"the YAML is nested deeper than {_DEEPEST} collections")
        elif isinstance(event, yaml.events.ScalarEvent | yaml.events.AliasEvent):
            is_key = bool(kinds) and kinds[-1] == "key"
            if isinstance(event, yaml.events.ScalarEvent):
                start, end = _span(text, event)
                if is_key:
                    path[-1] = event.value
                if start < end and _is_string(event):
                    yield _Scalar(
                        _value(event), start, end, tuple(path[:-1] if is_key else path), is_key, flows > 0
                    )
            _next(kinds, path)


def _next(kinds: list[str], path: list[str]) -> None:
    """What a collection has next."""
    if not kinds:
        return
    if kinds[-1] == "sequence":
        path[-1] = str(int(path[-1]) + 1)
    else:
        kinds[-1] = "value" if kinds[-1] == "key" else "key"


def _span(text: str, event: Any) -> tuple[int, int]:
    """Where a string is written, without its anchor and the line ends behind it."""
    properties = _PROPERTIES.match(text, event.start_mark.index)
    start = properties.end() if properties and (event.anchor or event.tag) else event.start_mark.index
    end = event.end_mark.index
    return start, start + len(text[start:end].rstrip(" \t\r\n")) if start < end else end


def _is_string(event: Any) -> bool:
    if event.tag is not None:
        return event.tag in ("!", _STRING)
    return bool(event.style) or _resolved(event.value) == _STRING


def _resolved(plain: str) -> str:
    """What kind of value a string without quotation marks is."""
    import yaml

    for tag, pattern in yaml.SafeLoader.yaml_implicit_resolvers.get(plain[:1], []):
        if pattern.match(plain):
            return str(tag)
    return _STRING


def _value(event: Any) -> str:
    """What a string says; of a block without its line end, which stays."""
    value = str(event.value)
    return value.rstrip("\n") if event.style in ("|", ">") else value


def _said(written: str, before: str = "--- ", behind: str = "") -> str | None:
    """The one string in a piece of YAML; None if that is something else."""
    import yaml

    try:
        found = [e for e in _events(before + written + behind) if isinstance(e, yaml.events.NodeEvent)]
    except InvalidDocument:
        return None
    found = [event for event in found if not isinstance(event, yaml.events.CollectionStartEvent)]
    if len(found) != 1 or not isinstance(found[0], yaml.events.ScalarEvent) or not _is_string(found[0]):
        return None
    return _value(found[0])


def _read(written: str) -> Parts:
    said = _said(written)
    return () if said is None else tagged(said)


def _write(parts: Parts, style: str, is_flow: bool) -> str:
    """A string in its style where that can hold it, else in quotation marks."""
    text = untagged(parts)
    if style == "'" and not _SPECIAL.search(text):
        return "'" + text.replace("'", "''") + "'"
    if (
        style == " "
        and not _SPECIAL.search(text)
        and not text.startswith(("'", '"', "|", ">", "&", "!", "*"))
    ):
        around = ("- [", "]") if is_flow else ("- - ", "")
        if _said(text, *around) == text and ": " not in text and not text.endswith(":"):
            return text
    return _quoted(text)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\x7f").replace("\x85", "\\N")


@cache
def _block_form(header: str, indent: str) -> Form:
    """Of a string in lines below a header such as "|"."""

    def write(parts: Parts) -> str:
        text = untagged(parts)
        lines = text.split("\n")
        if header.startswith(">"):
            lines = [line for each in lines for line in ("", each)][1:]
        written = header + "\n".join(indent + line if line else "" for line in lines)
        return written if read(written) == parts else _quoted(text)

    def read(written: str) -> Parts:
        said = _said(written)
        return () if said is None else tagged(said)

    return Form(write, read)
