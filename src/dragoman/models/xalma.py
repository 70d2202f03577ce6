"""X-ALMA's languages, and the group of each: what says which language module a row needs."""

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from types import MappingProxyType

from dragoman.errors import UnknownLanguage
from dragoman.languages import Language, all_languages, find

GROUPS = range(1, 9)


@cache
def language_groups() -> Mapping[str, int]:
    """X-ALMA's codes of the 49 languages with a module, and the group of each."""
    rows = [(row.group, row.xalma) for row in all_languages() if row.xalma and row.group]
    return MappingProxyType({code: group for group, code in sorted(rows)})


@cache
def _spoken() -> tuple[Language, ...]:
    return tuple(row for row in all_languages() if row.xalma)


@lru_cache(maxsize=1024)  # asked for every row at every step
def _find(language: str) -> Language:
    return find(language, _spoken())


def group_of(language: str | None) -> int:
    """The group, 1 to 8, whose module translates between English and `language`.

    Any spelling will do: "zh", "zho_Hans", "Chinese". UnknownLanguage, with the choices, for
    a language without a module; English has none, as it is on the other side of every pair.
    """
    choices = f"X-ALMA has modules for {', '.join(language_groups())}"
    if not isinstance(language, str) or not language.strip():
        raise UnknownLanguage(
            f"the language other than English picks X-ALMA's module, and it is {language!r}. {choices}"
        )
    try:
        row = _find(language)
    except UnknownLanguage as error:
        raise UnknownLanguage(f"{error}. {choices}") from None
    if row.group is None:
        raise UnknownLanguage(
            f"{language!r} is {row.name}, which is on one side of every pair and has no module; give the "
            f"other language. {choices}"
        )
    return row.group


def check_rows(languages: Sequence[str], rows: int) -> None:
    """UnknownLanguage if there are not as many languages as rows."""
    if len(languages) != rows:
        raise UnknownLanguage(
            f"{len(languages)} languages for {rows} rows; give one for all, or one for each"
        )
