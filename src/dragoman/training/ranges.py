"""Which numbers and file names settings may be; what is out of range is refused before anything is read."""

import dataclasses
from collections.abc import Collection
from typing import Any

from dragoman.errors import InvalidOption

POSITIVE = {
    *("updates", "batch_tokens", "accumulate", "max_tokens", "round_examples", "vocabulary"),
    *("log_every", "evaluate_every", "evaluate_pairs", "save_every"),
    *("rate", "matrix_rate", "epsilon", "clip", "share", "rank", "scale", "beta", "eta", "joined_characters"),
}
"""Above zero."""
SHARES = {"dropout", "average", "label_smoothing", "beta2"}
"""From 0 to below 1."""
CHANCES = {"decay", "frequent_names", "names", "numbers", "joined", "things", "shapes", "noise"}
"""From 0 to 1."""
ANY = {"group"}
"""Has a check of its own."""


def check_ranges(where: str, settings: Any, may_be_zero: Collection[str] = ()) -> None:
    """InvalidOption for a number of a dataclass that is out of its range; below zero is none."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if type(value) not in (int, float) or field.name in ANY or (not value and field.name in may_be_zero):
            continue
        problem = _problem(field.name, value)
        if problem:
            raise InvalidOption(f"{where}{field.name} is {value!r}; it must be {problem}")


def _problem(name: str, value: float) -> str:
    """What a number must be, if it isn't."""
    if name in SHARES:
        return "" if 0 <= value < 1 else "0 or more, and below 1"
    if name in CHANCES:
        return "" if 0 <= value <= 1 else "from 0 to 1"
    if name in POSITIVE:
        return "" if 0 < value < float("inf") else "above 0"
    return "" if 0 <= value < float("inf") else "0 or more"


def check_pattern(where: str, pattern: str) -> None:
    """InvalidOption for a file's name with other braces than {language} and {code}."""
    try:
        pattern.format(language="", code="")
    except (LookupError, ValueError, AttributeError):
        raise InvalidOption(
            f"{where} is {pattern!r}; it may have {{language}} and {{code}}, and other braces doubled"
        ) from None


def is_for_all(pattern: str) -> bool:
    """Whether a name is that of one file for all languages."""
    return pattern.format(language="", code="") == pattern.format(language="x", code="x")
