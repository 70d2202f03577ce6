"""What is to be done: which inputs, into what, by which model, and all that decides the result."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dragoman
from dragoman.bulk.places import InputFile
from dragoman.checkpoints.catalog import base_of, find_card, locate
from dragoman.checkpoints.families import ADAPTER_CONFIG
from dragoman.errors import InvalidOption
from dragoman.languages import Language, find, find_source, is_code, of_code

if TYPE_CHECKING:
    from dragoman.text.glossary import Glossary

BLOCK = 1000
"""Rows of a block, if nobody says how many."""
LONGEST = 100_000
"""Characters that a text may have, if nobody says how many."""
_LARGE = 4 << 20
"""Files of more bytes are told by samples of their content."""
_SAMPLES, _SAMPLE = 32, 64 << 10
_NOT_DECISIVE = ("batch_size",)
# How what is in these is told: files by what they are of, options by their names alone.
_INSIDE = {"inputs": "inputs: ", "files": "files of the model: ", "options": "", "loading": ""}
_DECISIVE_LOADING = ("device", "precision", "vocabulary")


@dataclass(frozen=True)
class Order:
    """One command's work."""

    output: str
    """A folder: a path, or a URL of fsspec."""
    targets: tuple[Language, ...]
    column: str = "text"
    """Where the texts are."""
    source: Language | None = None
    """What they are in; None if each row's language is in `source_column`, or is to be detected."""
    source_column: str | None = None
    format: str | None = None
    """Of the outputs; None is that of each input, and JSON lines for plain text."""
    input_format: str | None = None
    """Of the inputs, if their names don't tell."""
    block: int = BLOCK
    longest: int = LONGEST
    loading: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `LoadOptions`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `TextOptions` and `GenerationOptions`, without languages and aids."""
    glossary: "Glossary | None" = None
    fallback: str | None = None
    """Another model's name."""

    def __post_init__(self) -> None:
        if self.source is not None and self.source_column is not None:
            raise InvalidOption("give --from or --from-column, not both")
        if self.format == "text" and len(self.targets) > 1:
            raise InvalidOption("--format text has room for one language; give one, or another format")
        if self.block < 1 or self.longest < 1:
            raise InvalidOption("--block and --max-characters must be at least 1")

    @property
    def columns(self) -> list[str]:
        """The columns that are read."""
        return [self.column, *([self.source_column] if self.source_column else [])]

    @property
    def model(self) -> str:
        return str(self.loading.get("model", "mini"))

    def identity(self, inputs: Sequence[InputFile]) -> dict[str, Any]:
        """All that decides the outputs, as JSON has it. Of large files samples are read."""
        return {
            "version": dragoman.__version__,
            "model": {"name": self.model, "files": _checksums(self.model)},
            "fallback": self.fallback and {"name": self.fallback, "files": _checksums(self.fallback)},
            "loading": {name: self.loading.get(name) for name in _DECISIVE_LOADING},
            "options": {
                name: self.options[name] for name in sorted(self.options) if name not in _NOT_DECISIVE
            },
            "glossary": self.glossary and self.glossary.fingerprint,
            "source": self.source and self.source.nllb,
            "source_column": self.source_column,
            "targets": [target.nllb for target in self.targets],
            "column": self.column,
            "format": self.format,
            "input_format": self.input_format,
            "block": self.block,
            "max_characters": self.longest,
            "inputs": {one.path: [one.size, one.changed] for one in inputs},
        }


def languages_of(
    model: str, source: str | None, targets: Sequence[str]
) -> tuple[Language | None, tuple[Language, ...]]:
    """The languages that are meant by any spelling, "auto" being none.

    Raises UnknownLanguage, and InvalidOption if there is no target, or one twice.
    """
    spoken = tuple(map(of_code, find_card(model).languages))

    def one(spelling: str) -> Language:
        # A code may be of a language that was added to this model.
        return of_code(spelling) if is_code(spelling) else find(spelling, spoken)

    found = [one(target.strip()) for target in targets if target.strip()]
    if not found:
        raise InvalidOption("say what to translate to, as in --to de,fr")
    if len(set(found)) < len(found):
        raise InvalidOption(f"--to {','.join(targets)} names a language twice")
    if source is not None and is_code(source):
        return of_code(source), tuple(found)
    return None if source is None else find_source(source, spoken), tuple(found)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """What is not the same in two identities, in words."""
    for name in {**old, **new}:
        before, now = old.get(name), new.get(name)
        where = f"{at}{name}"
        if before == now:
            continue
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            yield from differences(before, now, _INSIDE.get(name, f"{where}."))
        elif at in (_INSIDE["inputs"], _INSIDE["files"]):
            yield f"{where} " + ("is new" if before is None else "is gone" if now is None else "was changed")
        else:
            yield f"{where}: {_told(before)}, now {_told(now)}"


def _told(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return "none" if value is None else str(value)


def _checksums(model: str) -> dict[str, str]:
    """A checksum of each file of a model, by name: the same wherever the model lies.

    Of a large file it is made of its size and of samples from all over it.
    """
    folder = locate(model)
    folders = [folder]
    if (folder / ADAPTER_CONFIG).is_file():
        folders.append(base_of(folder))
    return {
        path.relative_to(place).as_posix(): _checksum(path)
        for place in folders
        for path in sorted(place.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(place).parts)
    }


def _checksum(path: Path) -> str:
    from xxhash import xxh3_64

    size = path.stat().st_size
    told = xxh3_64(str(size).encode())
    with path.open("rb") as file:
        if size <= _LARGE:
            told.update(file.read())
        else:
            for number in range(_SAMPLES):
                file.seek(number * (size - _SAMPLE) // (_SAMPLES - 1), os.SEEK_SET)
                told.update(file.read(_SAMPLE))
    return str(told.hexdigest())
