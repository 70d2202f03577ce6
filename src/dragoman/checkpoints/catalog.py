"""Which models there are, and where a name or folder leads."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from math import prod
from pathlib import Path

from dragoman.checkpoints.cards import CARD, M2M100_LICENCE, NLLB_LICENCE, ModelCard
from dragoman.checkpoints.families import ADAPTER_CONFIG, card_of, is_whole
from dragoman.checkpoints.weight_files import find_shards
from dragoman.errors import CheckpointError, DragomanError
from dragoman.files import read_json
from dragoman.models.config import NllbConfig
from dragoman.models.shapes import nllb_shapes
from dragoman.text.tokenizers.m2m100 import VOCABULARY_NAME

EMBEDDED = "mini"
DESCRIPTIONS = (
    "config.json",
    ADAPTER_CONFIG,
    CARD,
    "tokenizer_config.json",
    "added_tokens.json",
    VOCABULARY_NAME,
)
"""The small files that say what a model is and speaks."""
_READ = {".json", ".model", ".safetensors", ".bin"}
"""What files a model is read from are called; others beside them are notes."""
_WHOLE, _PIECE, _PLACES = 64 << 20, 1 << 16, 64
"""Of files up to so many bytes `content` reads all, of larger ones pieces of so many from so many places."""


@dataclass(frozen=True)
class KnownModel:
    """A published model. `size_gb` is about what its download takes, in gigabytes."""

    name: str
    repository: str | None
    parameters: str
    size_gb: float
    licence: str
    summary: str


_NLLB = "dense; 202 languages"
_M2M100 = "dense; 100 languages"
_MOE = "128 experts; 202 languages; needs 218 GB of memory in fp32"


@cache
def embedded_folder() -> Path:
    """The model that ships inside the package."""
    return Path(str(files("dragoman") / "data" / EMBEDDED))


def _embedded() -> KnownModel:
    """As its own files describe it; other models work without them, too."""
    folder = embedded_folder()
    try:
        card = card_of(folder, folder)
        numbers = sum(map(prod, nllb_shapes(NllbConfig.from_folder(folder)).values()))
        size = sum(file.stat().st_size for file in find_shards(folder))
    except (DragomanError, OSError):
        return KnownModel(EMBEDDED, None, "?", 0.0, "?", "embedded; not in this installation")
    summary = f"embedded; {len(card.languages)} languages"
    return KnownModel(EMBEDDED, None, f"{numbers / 1e6:.0f} M", round(size / 1e9, 2), card.licence, summary)


KNOWN = (
    _embedded(),
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
    *(
        KnownModel(repository.split("/")[1], repository, parameters, size_gb, M2M100_LICENCE, summary)
        for repository, parameters, size_gb, summary in (
            ("facebook/m2m100_418M", "484 M", 1.9, _M2M100),
            ("facebook/m2m100_1.2B", "1.2 B", 5.0, _M2M100),
            ("alirezamsh/small100", "333 M", 1.3, f"{_M2M100}; M2M-100 distilled, with a small decoder"),
        )
    ),
    KnownModel(
        "X-ALMA", "haoranxu/X-ALMA", "13 B + 8 × 2 B", 116.2, "MIT (Llama-2 base)", "50 languages by modules"
    ),
)


def locate(name: str | Path, download: bool = True) -> Path:
    """The folder of a model: the embedded one, a folder, or one from the hub (or its local cache).

    download: whether the hub may be asked for what isn't in the cache. CheckpointError says what was tried.
    """
    place = _place(name)
    if isinstance(place, Path):
        return place
    cached = _from_cache(place)
    if cached is not None:
        return cached
    if not download:
        raise CheckpointError(
            f"{place} is not in the local cache; download it (hf download {place}), or give a folder"
        )
    return _from_hub(place)


def identity(folder: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of change (nanoseconds) of the files that a model is read from.

    Those of an adapter's base are among them, where it has one. A hub's cache names files by their content
    and links to them: there the link's target tells.
    """
    found = []
    for place in _folders(folder):
        for path in sorted(place.rglob("*")):
            if path.is_file():
                facts = path.stat()
                name = path.resolve().name if path.is_symlink() else path.relative_to(place).as_posix()
                found.append((name, facts.st_size, facts.st_mtime_ns))
    return found


def content(folder: Path) -> str:
    """Hexadecimal digits that tell a model's files from others, on whatever computer they are.

    Small files count with all their bytes, large ones with their size, their beginning, where a .safetensors
    file names its tensors, and some places of the rest.
    """
    told = sha256()
    for place in _folders(folder):
        for path in sorted(place.rglob("*")):
            if path.suffix in _READ and path.is_file():
                size = path.stat().st_size
                told.update(f"{path.relative_to(place).as_posix()} {size}\n".encode())
                with path.open("rb") as file:
                    for start in range(0, size, _PIECE if size <= _WHOLE else size // _PLACES):
                        file.seek(start)
                        told.update(file.read(_PIECE))
    return told.hexdigest()[:32]


def _folders(folder: Path) -> list[Path]:
    """A model's folder, and that of its base if it is an adapter."""
    if not (folder / ADAPTER_CONFIG).is_file():
        return [folder]
    return [folder, base_of(folder, lambda name: locate(name, download=False))]


def find_card(name: str | Path) -> ModelCard:
    """The card of a model by any name that `locate` takes. Of one on the hub no weights are fetched."""
    folder = _described(name)
    has_config = (folder / "config.json").is_file()
    return card_of(folder, folder if has_config else base_of(folder, _described))


def base_of(adapter: Path, find: Callable[[str], Path] | None = None) -> Path:
    """The folder of the base that a PEFT adapter's config names.

    It names it by a path, perhaps relative to the adapter, or in a way that `find` knows (None: `locate`).
    """
    try:
        name = read_json(adapter / ADAPTER_CONFIG, CheckpointError).get("base_model_name_or_path")
    except FileNotFoundError:
        name = None
    problem = ""
    if isinstance(name, str) and name:
        for folder in (adapter / name, Path(name).expanduser()):
            if folder.is_dir():
                return folder
        try:
            return (find or locate)(name)
        except CheckpointError as error:
            problem = f" ({error})"
    raise CheckpointError(
        f"{adapter} holds an adapter without its base, which it calls {name!r} and which is no folder here"
        f"{problem}. Give the base's folder, and this one as the adapter"
    )


def _described(name: str | Path) -> Path:
    """A folder with the files at least that say what a model is."""
    place = _place(name)
    return place if isinstance(place, Path) else _from_cache(place) or _from_hub(place, DESCRIPTIONS)


def _place(name: str | Path) -> Path | str:
    """A folder, or the name of a repository on the hub."""
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
    return repository


def _from_hub(repository: str, patterns: tuple[str, ...] | None = None) -> Path:
    """The repository's folder in the local cache, downloaded: all that a model needs, or these files."""
    from huggingface_hub import HfApi, snapshot_download

    try:
        if patterns is None:
            siblings = HfApi().model_info(repository, timeout=20).siblings or []
            safe = any(sibling.rfilename.endswith(".safetensors") for sibling in siblings)
            # Weights in one format only: NLLB's repositories hold up to three.
            patterns = ("*.json", "*.model", "*.safetensors" if safe else "*.bin")
        return Path(snapshot_download(repository, allow_patterns=list(patterns)))
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
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return folder if is_whole(folder) else None
