"""Texts in drawings, as slides, charts, diagrams and the text boxes of spreadsheets have them (DrawingML)."""

import re
from functools import cache

from dragoman.documents import runs
from dragoman.documents.document import Collector
from dragoman.documents.runs import Markup

KINDS = re.compile(r"drawingml\.(?:chart|diagramData)\+xml|ms-office\.drawingml\.diagramDrawing\+xml")
"""Kinds of files that are drawings within others; those of spreadsheets are `drawingml.drawing+xml`."""
_NAMESPACE = re.compile(r"""xmlns(?::([\w.-]+))?\s*=\s*["'][^"'<>]*/drawingml/(?:2006/)?main["']""")
# Attributes of words that say nothing of how they look.
_UNSEEN = re.compile(
    r"""\s(?:lang|altLang|dirty|err|smtClean|smtId|noProof|bmk)\s*=\s*(?:"[^"<]*"|'[^'<]*')"""
)


def find(found: Collector, place: int, counts: bool = True) -> int:
    """Collect the paragraphs of a file; see `runs.find`."""
    namespace = _NAMESPACE.search(found.text)
    if namespace is None:
        return 0
    return runs.find(found, _markup(f"{namespace[1]}:" if namespace[1] else ""), place, counts)


@cache
def _markup(prefix: str) -> Markup:
    def style(source: str) -> str:
        tag, end, rest = source.partition(">")
        source = _UNSEEN.sub("", tag) + end + rest
        return "" if source in none else source

    none = (f"<{prefix}rPr></{prefix}rPr>", f"<{prefix}rPr/>", f"<{prefix}rPr />")
    return Markup(
        paragraphs=frozenset((f"{prefix}p",)),
        run=f"{prefix}r",
        properties=f"{prefix}rPr",
        text=f"{prefix}t",
        style=style,
        skipped=frozenset((f"{prefix}pPr", f"{prefix}endParaRPr")),
        reads={f"{prefix}br": "\n", f"{prefix}fld": None},
    )
