"""What a model speaks, and how it wants to be used."""

from dataclasses import dataclass, fields
from pathlib import Path

from dragoman.errors import ConfigError
from dragoman.files import read_json
from dragoman.languages import of_code

CARD = "dragoman.json"
NLLB_LICENCE = "CC-BY-NC-4.0 (non-commercial)"
XALMA_LICENCE = "MIT (on a Llama-2 base)"


@dataclass(frozen=True)
class ModelCard:
    """What a model folder's `dragoman.json` says; published folders have none and need none."""

    name: str
    languages: tuple[str, ...]
    """NLLB codes of the languages the model was trained on."""
    max_source_tokens: int
    """Longest sentence it should be given, language code and </s> not counted."""
    pivot: str | None = None
    """Between two other languages it translates by way of this one."""
    licence: str = ""


def read_card(folder: Path) -> ModelCard | None:
    """The card in `folder`; None if there is none, ConfigError if it is broken."""
    path = folder / CARD
    try:
        data = read_json(path, ConfigError)
        known = {field.name for field in fields(ModelCard)}
        card = ModelCard(**{name: value for name, value in data.items() if name in known})
        codes = tuple(of_code(code).nllb for code in card.languages)
        return ModelCard(card.name, codes, int(card.max_source_tokens), card.pivot, card.licence)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is no model card: {error}") from None
