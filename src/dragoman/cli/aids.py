"""Options of several commands that name what helps a translation: glossaries, and another model."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dragoman.errors import InvalidOption

if TYPE_CHECKING:
    from dragoman.text.glossary import Glossary

GlossaryFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--glossary",
        metavar="FILE",
        help="What terms are to be: .tsv, .csv, .tbx, or .txt with words that stay; may be given again.",
        rich_help_panel="Texts",
    ),
]
FallbackName = Annotated[
    str | None,
    typer.Option(
        "--fallback",
        metavar="NAME",
        help="Another model, for sentences in which something is still the matter.",
        rich_help_panel="Texts",
    ),
]


def read_glossaries(paths: Sequence[Path]) -> "Glossary":
    """All glossaries in one; what the last says goes. Raises InvalidOption."""
    from dragoman.text.glossary import Glossary

    merged = Glossary({})
    for path in paths:
        try:
            merged |= Glossary.read(path)
        except OSError as error:
            raise InvalidOption(f"--glossary {path} can't be read: {error.strerror}") from None
    return merged
