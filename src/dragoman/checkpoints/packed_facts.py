"""What the config.json of a packed model says of it, and by which it is told from others."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dragoman.errors import ConfigError, InvalidOption
from dragoman.models.config import read_config

FIELD = "dragoman"
"""Of config.json, where only a packed model has one."""
ANEW = "Convert the model anew with dragoman convert."


def packed_facts(folder: Path) -> Mapping[str, Any] | None:
    """What config.json says of a packed model; None if it is that of another, or there is none."""
    if not (folder / "config.json").is_file():
        return None
    facts = read_config(folder).get(FIELD)
    if facts is not None and not isinstance(facts, dict):
        raise ConfigError(f"{folder / 'config.json'}: {FIELD} is {facts!r}; it must be an object. {ANEW}")
    return facts


def is_packed(folder: Path) -> bool:
    """Whether a folder holds a packed model."""
    return packed_facts(folder) is not None


def refuse_packed(folder: Path) -> None:
    """InvalidOption for a packed model where only another will do."""
    facts = packed_facts(folder)
    if facts is not None:
        raise InvalidOption(
            f"{folder} is packed for the kernels (in {facts.get('precision')}), which this can't use; give "
            "the model that it was made from"
        )
