"""Presentations: the paragraphs of slides, with their tables, notes, charts and diagrams.

Masters and layouts stay, as what they say is for whoever writes slides.
"""

import re

from dragoman.documents import drawing, office, xml
from dragoman.documents.document import Collector, Document
from dragoman.documents.packaged import PackageDocument
from dragoman.documents.zipped import Package
from dragoman.errors import InvalidDocument

_MAIN = re.compile(
    r"presentationml\.(?:presentation|slideshow|template)\.main\+xml"
    r"|ms-powerpoint\.(?:presentation|slideshow|template)\.macroEnabled\.main\+xml"
)
_SLIDE = re.compile(r"presentationml\.slide\+xml")
_NOTES = re.compile(r"presentationml\.notesSlide\+xml")


def parse(data: bytes) -> Document:
    """A .pptx, .pptm, .ppsx or .potx file. Raises InvalidDocument if it is broken or encrypted."""
    package = Package(data)
    kinds = dict(office.types(package))
    main = next((name for name, kind in kinds.items() if _MAIN.search(kind)), None)
    if main is None:
        raise InvalidDocument("the package is no presentation")
    document = PackageDocument(package, "slide")
    done: set[str] = set()
    for number, slide in enumerate(_slides(package, main, kinds), 1):
        others = office.related(package, slide).values()
        wanted = [name for name in others if _NOTES.search(kinds.get(name, "")) or _is_drawing(kinds, name)]
        for name in (slide, *sorted(set(wanted) - {slide})):
            if name not in done:
                found = Collector(xml.read(package.read(name)))
                drawing.find(found, number, counts=False)
                document.add(name, found.document())
                done.add(name)
    return document


def _is_drawing(kinds: dict[str, str], name: str) -> bool:
    return drawing.KINDS.search(kinds.get(name, "")) is not None


def _slides(package: Package, main: str, kinds: dict[str, str]) -> list[str]:
    """The slides in the order in which they are shown, and behind them any that never are."""
    files = office.related(package, main)
    shown = []
    for about in office.tags(package, main, "sldId"):
        number = next((value for key, value in about.items() if key.endswith(":id")), "")
        if number in files and files[number] not in shown:
            shown.append(files[number])
    rest = sorted(name for name, kind in kinds.items() if _SLIDE.search(kind) and name not in shown)
    return [*shown, *rest]
