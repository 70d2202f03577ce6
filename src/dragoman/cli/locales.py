"""The language that the user's environment asks for."""

import os
from collections.abc import Collection, Iterator, Mapping

from dragoman.errors import DragomanError
from dragoman.languages import find

DEFAULT = "eng_Latn"


def preferred_language(among: Collection[str], environment: Mapping[str, str] = os.environ) -> str:
    """The first language of the environment that is `among` these NLLB codes, or English.

    As other programs do: LANGUAGE, a list, counts where the locale is one of a language; that is said by
    LC_ALL, LC_MESSAGES or LANG, whichever is set first.
    """
    for name in _names(environment):
        try:
            code = find(name).nllb
        except DragomanError:
            continue
        if code in among:
            return code
    return DEFAULT


def _names(environment: Mapping[str, str]) -> Iterator[str]:
    settings = (environment.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    locale = next(filter(None, settings), "")
    if locale.split(".")[0] in ("", "C", "POSIX"):
        return
    yield from filter(None, environment.get("LANGUAGE", "").split(":"))
    yield locale
