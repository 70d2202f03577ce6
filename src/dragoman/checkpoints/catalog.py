"""Which models there are, and where a name or folder leads."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from dragoman.checkpoints.weight_files import find_shards
from dragoman.errors import CheckpointError, ConfigError
from dragoman.files import read_json
from dragoman.languages import nllb_codes, of_code
from dragoman.models.config import NllbConfig

EMBEDDED = "mini"
CARD = "dragoman.json"


@dataclass(frozen=True)
class KnownModel:
    """A published model. `size_gb` is about what its download takes, in gigabytes."""

    name: str
    repository: str | None
    parameters: str
    size_gb: float
    licence: str
    summary: str


NLLB_LICENCE = "CC-BY-NC-4.0 (non-commercial)"
_NLLB = "dense; 202 languages"
_MOE = "128 experts; 202 languages; needs 218 GB of memory in fp32"
KNOWN = (
    KnownModel(EMBEDDED, None, "25 M", 0.05, "Apache-2.0 (data: CC-BY and others)", "embedded; 5 languages"),
    *(
        KnownModel(name, f"facebook/{name}", parameters, size_gb, NLLB_LICENCE, summary)
        for name, parameters, size_gb, summary in (
            ("nllb-200-distilled-600M", "615 M", 2.5, _NLLB),
            ("nllb-200-distilled-1.3B", "1.4 B", 5.5, _NLLB),
            ("nllb-200-1.3B", "1.4 B", 5.5, _NLLB),
            ("nllb-200-3.3B", "3.3 B", 17.6, _NLLB),
            ("nllb-moe-54b", "54.5 B", 222.0, _MOE),
        )
    ),
    KnownModel(
        "X-ALMA", "haoranxu/X-ALMA", "13 B + 8 × 2 B", 116.2, "MIT (Llama-2 base)", "50 languages by modules"
    ),
)


@dataclass(frozen=True)
class ModelCard:
    """What a model folder's `dragoman.json` says; published NLLB folders have none and need none."""

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

    @classmethod
    def from_folder(cls, folder: Path, max_positions: int) -> "ModelCard":
        """Read the card in `folder`; without one, all of NLLB's languages at the length it was trained on."""
        path = folder / CARD
        if not path.exists():
            # NLLB-200 has 1,024 positions but was trained at 512.
            return cls(folder.name, nllb_codes(), min(512, max_positions) - 2, licence=NLLB_LICENCE)
        try:
            data = read_json(path, ConfigError)
            known = {field.name for field in fields(cls)}
            card = cls(**{name: value for name, value in data.items() if name in known})
            if not isinstance(card.generation, dict):
                raise TypeError(f"generation is {card.generation!r}; it must hold options by name")
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path} is no model card: {error}") from None
        return cls(
            card.name,
            tuple(of_code(code).nllb for code in card.languages),
            int(card.max_source_tokens),
            card.pivot,
            card.licence,
            dict(card.generation),
        )


def locate(name: str | Path) -> Path:
    """The folder of a model: the embedded one, a folder, or one from the hub (or its local cache).

    CheckpointError says what was tried.
    """
    if name == EMBEDDED:
        return embedded_folder()
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise CheckpointError(f"{name} is a file; give the folder that holds config.json and the weights")
    known = {model.name: model.repository for model in KNOWN}
    repository = known.get(str(name)) or str(name)
    if repository.count("/") != 1 or repository.startswith((".", "/", "~")):
        names = ", ".join(model.name for model in KNOWN)
        raise CheckpointError(
            f"{str(name)!r} is no folder and no model I know ({names}); "
            "give one of these, a folder, or a hub repository as owner/name"
        )
    return _from_hub(repository)


@cache
def embedded_folder() -> Path:
    """The model that ships inside the package."""
    return Path(str(files("dragoman") / "data" / EMBEDDED))


def _from_hub(repository: str) -> Path:
    """The repository's folder in the local cache, downloaded if it isn't there whole."""
    from huggingface_hub import HfApi, snapshot_download

    cached = _from_cache(repository)
    if cached is not None:
        return cached
    try:
        siblings = HfApi().model_info(repository, timeout=20).siblings or []
        safe = any(sibling.rfilename.endswith(".safetensors") for sibling in siblings)
        # Weights in one format only: NLLB's repositories hold up to three.
        patterns = ["*.json", "*.model", "*.safetensors" if safe else "*.bin"]
        return Path(snapshot_download(repository, allow_patterns=patterns))
    except Exception as error:  # whatever the hub's client and its HTTP library raise
        problem = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{repository} is not in the local cache, and the Hugging Face hub did not give it: {problem}. "
            "Download it where there is a network (hf download) and give the folder"
        ) from None


def _from_cache(repository: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repository, local_files_only=True))
        NllbConfig.from_folder(folder)
        find_shards(folder)
    except (LocalEntryNotFoundError, HFValidationError, CheckpointError, ConfigError):
        return None
    return folder
