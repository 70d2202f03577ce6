"""Translation memories in TMX 1.4b, read and written unit by unit."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from dragoman.errors import InvalidOption, UnknownLanguage
from dragoman.files import OutputFile
from dragoman.languages import all_languages, find, of_code
from dragoman.text.prolog import PROLOG, refuse_entities

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_CODES = frozenset({"bpt", "ept", "ph", "it", "ut"})
"""Elements of a segment that hold what is no text."""
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"


@dataclass(frozen=True)
class Unit:
    """A text and its translation."""

    source: str
    target: str
    source_language: str
    """NLLB code."""
    target_language: str


def read_tmx(path: Path) -> Iterator[Unit]:
    """The units of a file: each text of a unit with each of another language, both ways.

    Codes within texts are left out, and languages that nobody here knows. Raises InvalidOption if it is no
    TMX, and OSError.
    """
    from xml.etree import ElementTree

    with path.open("rb") as file:
        try:
            refuse_entities(file.read(PROLOG))
        except InvalidOption as error:
            raise InvalidOption(f"{path} {error}") from None
        file.seek(0)
        root: Element | None = None
        try:
            for event, element in ElementTree.iterparse(file, ("start", "end")):
                if root is None:
                    root = element
                    if _name(element) != "tmx":
                        raise InvalidOption(f"{path} is no TMX: it begins with <{_name(element)}>")
                elif event == "end" and _name(element) == "tu":
                    yield from _units(element)
                    element.clear()
                    if len(root):
                        root[-1].clear()  # or the memory would grow with the file
        except (ElementTree.ParseError, LookupError, ValueError, RecursionError) as error:
            if isinstance(error, InvalidOption):
                raise
            raise InvalidOption(f"{path} is no XML: {error}") from None


def write_tmx(path: Path, units: Iterable[Unit]) -> int:
    """Write units; returns how many. Raises InvalidOption and OSError; then there is no file."""
    count = 0
    with OutputFile(path) as file:
        file.write(
            b'<?xml version="1.0" encoding="UTF-8"?>\n<tmx version="1.4">\n<header creationtool="dragoman" '
            b'creationtoolversion="1" segtype="sentence" o-tmf="dragoman" adminlang="en" srclang="*all*" '
            b'datatype="plaintext"/>\n<body>\n'
        )
        for unit in units:
            count += 1
            sides = (unit.source_language, unit.source), (unit.target_language, unit.target)
            written = "".join(
                f"<tuv xml:lang={quoteattr(of_code(code).short_code)}><seg>{escape(text)}</seg></tuv>"
                for code, text in sides
            )
            file.write(f"<tu>{written}</tu>\n".encode("utf-8", "replace"))
        file.write(b"</body>\n</tmx>\n")
    return count


def _units(element: "Element") -> Iterator[Unit]:
    texts: dict[str, str] = {}  # of several variants in one language the first
    for variant in element:
        segment = next((one for one in variant if _name(one) == "seg"), None)
        spelled = variant.get(_LANGUAGE) or variant.get("lang") or ""
        if _name(variant) != "tuv" or segment is None:
            continue
        try:
            code = find(spelled, all_languages()).nllb
            texts.setdefault(code, "".join(_words(segment)).strip())
        except UnknownLanguage:
            continue
    for source_language, source in texts.items():
        for target_language, target in texts.items():
            if source and target and source_language != target_language:
                yield Unit(source, target, source_language, target_language)


def _words(element: "Element") -> Iterator[str]:
    yield element.text or ""
    for child in element:
        if _name(child) not in _CODES:
            yield from _words(child)
        yield child.tail or ""


def _name(element: "Element") -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""
