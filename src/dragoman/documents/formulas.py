"""Formulas of spreadsheets: the texts in them, which cells are compared with."""

import html
import re
from collections.abc import Iterable

_LITERAL = re.compile(r'"((?:[^"]|"")*)"')


def literals(formulas: Iterable[str]) -> set[str]:
    """The texts in formulas, as XML writes these, with case folded; also those in a list such as "yes,no"."""
    found = set()
    for formula in formulas:
        for literal in _LITERAL.finditer(html.unescape(formula)):
            said = literal[1].replace('""', '"').casefold()
            found |= {said, *(one.strip() for one in said.split(","))}
    return found - {""}
