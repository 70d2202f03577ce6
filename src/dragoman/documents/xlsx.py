"""Spreadsheets: the texts of cells, comments, text boxes and charts.

What formulas, filters and tables refer to by its words stays: literals in formulas, the heads of tables and
the fields of pivot tables, names of sheets. So do formulas, with what they had computed, and numbers.
"""

import html
import re
from functools import cache

from dragoman.documents import drawing, office, runs, xml
from dragoman.documents.document import Collector, Document
from dragoman.documents.formulas import literals
from dragoman.documents.packaged import PackageDocument
from dragoman.documents.runs import Markup
from dragoman.documents.zipped import Package
from dragoman.errors import InvalidDocument

_MAIN = re.compile(
    r"spreadsheetml\.(?:sheet|template)\.main\+xml|ms-excel\.(?:sheet|template)\.macroEnabled\.main\+xml"
)
_STRINGS = re.compile(r"spreadsheetml\.sharedStrings\+xml")
_COMMENTS = re.compile(r"spreadsheetml\.comments\+xml")
_DRAWINGS = re.compile(r"openxmlformats-officedocument\.drawing\+xml|drawingml\.chart\+xml")
_NAMED = ((r"spreadsheetml\.table\+xml", "tableColumn"), (r"pivotCacheDefinition\+xml", "cacheField"))
"""Files in which the words of cells are names, and the tags that have them."""

# Cells are looked for in sheets, of which there may be millions, without looking at all else.
_CELL = re.compile(r"<(?:[\w.-]+:)?c\s([^<>]*)>\s*<(?:[\w.-]+:)?(?:v>(\d+)</|is[\s>])")
_REFERENCE = re.compile(r"""(?:^|\s)r=["']([A-Z]{1,3}\d{1,7})["']""")
_SHARED = re.compile(r"""(?:^|\s)t=["']s["']""")
_FORMULA = re.compile(
    r"<(?:[\w.-]+:)?(?:f|formula[12]?|definedName)(?:\s[^<>]*)?>([^<]*\"[^<]*|[^<]*&quot;[^<]*)</"
)
_FILTER = re.compile(r"""<(?:[\w.-]+:)?(?:filter|customFilter)\s[^<>]*?val=["']([^"'<>]*)["']""")

_ESCAPED = re.compile("_x([0-9a-fA-F]{4})_")
_ESCAPES = re.compile("_(?=x[0-9a-fA-F]{4}_)|[\x00-\x08\x0b-\x1f]")
_LONGEST = 32_767
"""Characters that a cell may have."""


def parse(data: bytes) -> Document:
    """A .xlsx, .xlsm or .xltx file. Raises InvalidDocument if it is broken or encrypted."""
    package = Package(data)
    kinds = office.types(package)
    main = next((name for name, kind in kinds if _MAIN.search(kind)), None)
    if main is None:
        raise InvalidDocument("the package is no workbook of spreadsheets")
    workbook = _Workbook(package, main, kinds)
    document = PackageDocument(package, "string")
    count = 0
    for name in [name for name, kind in kinds if _STRINGS.search(kind)]:
        count += _add(document, package, name, "si", count, workbook)
    for name in workbook.inline:
        count += _add(document, package, name, "is", count, workbook)
    for name in sorted(name for name, kind in kinds if _COMMENTS.search(kind)):
        count += _add(document, package, name, "text", count, None)
    for name in sorted(name for name, kind in kinds if _DRAWINGS.search(kind)):
        found = Collector(xml.read(package.read(name)))
        count += drawing.find(found, count + 1)
        document.add(name, found.document())
    return document


class _Workbook:
    """What sheets have beside strings: which cells these are in, and which of them are names."""

    def __init__(self, package: Package, main: str, kinds: list[tuple[str, str]]) -> None:
        self.kept: set[str] = set()
        """What strings say that stay, with case folded."""
        self.cells: list[str | None] = []
        """For each shared string the first cell that has it."""
        self.inline: dict[str, list[str | None]] = {}
        """The sheets with strings of their own, and the cells that these are in."""
        for pattern, tag in _NAMED:
            for name in [name for name, kind in kinds if re.search(pattern, kind)]:
                self.kept |= {about.get("name", "").casefold() for about in office.tags(package, name, tag)}
        self._formulas(xml.read(package.read(main)).text)
        files = office.related(package, main)
        for sheet in office.tags(package, main, "sheet"):
            number = next((value for key, value in sheet.items() if key.endswith(":id")), "")
            if number in files:
                self._sheet(files[number], sheet.get("name", ""), xml.read(package.read(files[number])).text)
        self.kept.discard("")

    def _sheet(self, file: str, title: str, text: str) -> None:
        for about, number in ((cell[1], cell[2]) for cell in _CELL.finditer(text)):
            reference = _REFERENCE.search(about)
            name = f"{title}!{reference[1]}" if reference else title
            if number is None:
                self.inline.setdefault(file, []).append(name)
            elif _SHARED.search(about) and len(number) < 8:
                self.cells += [None] * (int(number) + 1 - len(self.cells))
                self.cells[int(number)] = self.cells[int(number)] or name
        self._formulas(text)

    def _formulas(self, text: str) -> None:
        self.kept |= literals(formula[1] for formula in _FORMULA.finditer(text))
        self.kept |= {html.unescape(value[1]).casefold() for value in _FILTER.finditer(text)}


def _add(
    document: PackageDocument,
    package: Package,
    file: str,
    element: str,
    before: int,
    workbook: _Workbook | None,
) -> int:
    """The strings of a file. before: how many there are in others. Returns how many this one has."""
    found = Collector(xml.read(package.read(file)))
    names: list[str | None] = []
    kept: set[str] = set()
    if workbook is not None:
        names, kept = workbook.inline.get(file, workbook.cells), workbook.kept
    count = runs.find(found, _markup(xml.prefix(found.text), element), before + 1, names=names, kept=kept)
    document.add(file, found.document())
    return count


@cache
def _markup(prefix: str, element: str) -> Markup:
    none = (f"<{prefix}rPr></{prefix}rPr>", f"<{prefix}rPr/>")
    return Markup(
        paragraphs=frozenset((prefix + element,)),
        run=f"{prefix}r",
        properties=f"{prefix}rPr",
        text=f"{prefix}t",
        style=lambda source: "" if source in none else source,
        dropped=frozenset((f"{prefix}rPh", f"{prefix}phoneticPr")),
        space=' xml:space="preserve"',
        unescape=lambda text: _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text),
        escape=lambda text: _ESCAPES.sub(lambda match: f"_x{ord(match[0]):04X}_", text),
        longest=_LONGEST,
    )
