"""What a model speaks, and how it wants to be used."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from dragoman.errors import ConfigError
from dragoman.files import read_json, replacing_file
from dragoman.languages import of_code

CARD = "dragoman.json"
NLLB_LICENCE = "CC-BY-NC-4.0 (non-commercial)"
M2M100_LICENCE = "MIT (commercial use allowed)"
XALMA_LICENCE = "MIT (on a Llama-2 base)"


@dataclass(frozen=True)
class ModelCard:
    """What a model folder's `dragoman.json` says; published folders have none and need none.

    A file with a `family` and nothing else only tells what the model is.
    """

    name: str
    languages: tuple[str, ...]
    """NLLB codes of the languages the model was trained on."""
    max_source_tokens: int
    """Longest sentence it should be given, language code and </s> not counted."""
    pivot: str | None = None
    """Between two other languages it translates by way of this one."""
    licence: str = ""
    generation: Mapping[str, Any] = field(default_factory=dict)
    """What generation does unless it is told otherwise: fields of `GenerationOptions`."""
    family: str | None = None
    """The model's row in `families`; None where its files tell."""
    pack: Mapping[str, Any] | None = None
    """What a model that was cut to its languages is made of, and what that cost."""


def read_card(folder: Path) -> ModelCard | None:
    """The card in `folder`; None if there is none, ConfigError if it is broken."""
    path = folder / CARD
    try:
        data = read_json(path, ConfigError)
        if data.keys() == {"family"}:
            return None
        known = {each.name for each in fields(ModelCard)}
        card = ModelCard(**{name: value for name, value in data.items() if name in known})
        if not isinstance(card.generation, dict):
            raise TypeError(f"generation is {card.generation!r}; it must hold options by name")
        if card.pack is not None and not isinstance(card.pack, dict):
            raise TypeError(f"pack is {card.pack!r}; it must be an object")
        codes = tuple(of_code(code).nllb for code in card.languages)
        return replace(card, languages=codes, max_source_tokens=int(card.max_source_tokens))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is no model card: {error}") from None


def write_card(folder: Path, card: ModelCard) -> None:
    """Write the card to `folder`, whole or not at all."""
    stated = {name: value for name, value in asdict(card).items() if value is not None}
    with replacing_file(folder / CARD) as file:
        file.write(f"{json.dumps({**stated, 'languages': list(card.languages)}, indent=2)}\n".encode())


def read_family(folder: Path) -> str | None:
    """The family that the card in `folder` says; None if it says none."""
    try:
        family = read_json(folder / CARD, ConfigError).get("family")
    except FileNotFoundError:
        return None
    if family is not None and not isinstance(family, str):
        raise ConfigError(f"{folder / CARD} is no model card: family is {family!r}; it must be a name")
    return family
