"""Tables: columns for people, tab-separated lines for programs; nothing is ever cut or wrapped."""

import sys
from collections.abc import Sequence

from dragoman.cli.messages import put


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table with its heads."""
    lines = [heads, *rows]
    if not sys.stdout.isatty():
        for line in lines:
            put("\t".join(line))
        return
    from rich.cells import cell_len  # letters of some scripts take two columns

    widths = [max(cell_len(cell) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True))
        put("  ".join(padded).rstrip())
