"""Files by folders and patterns: what of `docs/` or `texts/*.md` is a document."""

import glob
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dragoman.documents.formats import Format, has_format
from dragoman.errors import InvalidOption


@dataclass(frozen=True)
class Source:
    """A file to translate."""

    path: str
    below: Path = Path()
    """The folder it lies in, from the one that was named."""


def is_folder(text: str, is_likely: bool = False) -> bool:
    """Whether a text is a folder's name, and hardly anything else (unless that is likely)."""
    named = is_likely or "/" in text or os.sep in text or text in (".", "..")
    return named and _exists(text, os.path.isdir)


def is_file(text: str) -> bool:
    """Whether a text is a file's name."""
    return _exists(text, os.path.isfile)


def in_folder(folder: str, format: Format | None) -> list[Source]:
    """The files below a folder that have a format (or this one), in the order of their names.

    Hidden ones are left out, and folders that are only links. Raises InvalidOption if there are none.
    """
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = os.path.join(place, name)
            if not name.startswith(".") and _fits(path, format) and os.path.isfile(path):
                found.append(Source(path, Path(os.path.relpath(place, folder))))
    if not found:
        what = "no file of a known format" if format is None else f"no file of {format.title}"
        raise InvalidOption(f"there is {what} in {folder}")
    return found


def matching(pattern: str, format: Format | None) -> list[Source]:
    """The files that a pattern stands for, as a shell would have it; none if it is no pattern."""
    if not glob.has_magic(pattern) or _exists(pattern, os.path.exists):
        return []
    return [Source(path) for path in sorted(_glob(pattern)) if _fits(path, format) and os.path.isfile(path)]


def _glob(pattern: str) -> list[str]:
    try:
        return glob.glob(pattern, recursive=True)
    except (ValueError, OSError):  # a NUL, or a name that is too long
        return []


def _fits(path: str, format: Format | None) -> bool:
    return has_format(path) if format is None else Path(path).suffix.lower() in format.extensions


def _exists(text: str, ask: Callable[[str], bool]) -> bool:
    try:
        return ask(text)
    except ValueError:  # a NUL, or a lone surrogate
        return False
