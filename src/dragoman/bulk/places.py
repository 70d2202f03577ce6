"""Where inputs and outputs lie: local paths, and whatever fsspec or pyarrow reaches by a URL."""

import contextlib
import glob
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from dragoman.bulk.formats import format_of
from dragoman.errors import InvalidOption, JobRunning
from dragoman.files import lock, replacing_file

_PARTS = re.compile(r"(manifest\.json|\d{5,}-\d{6,}\.[a-z.]+)\.[0-9a-f]{8}\.part")
"""What the names of files look like that are being written."""
_LOCK = ".lock"


@dataclass(frozen=True)
class InputFile:
    """A file to be read, and what tells that it is still the same."""

    path: str
    """Absolute, or a URL."""
    size: int
    changed: str
    """When it was changed, or what else its store says of its version."""


def open_file(path: str) -> BinaryIO:
    """An input for reading, at its beginning. Raises OSError."""
    system, place = _system(path)
    opened: BinaryIO = system.open(place, "rb")
    return opened


def find_inputs(given: Sequence[str], format: str | None, output: str) -> list[InputFile]:
    """The files that are meant by paths, URLs, folders and patterns, in the order given, each once.

    Of a folder and of a pattern's folders those files are taken whose names tell a format, or all if `format`
    names it; files below `output` never. Raises InvalidOption for what stands for no file.
    """
    own = _whole(*_system(output)).rstrip("/") + "/"
    found: dict[str, InputFile] = {}
    for one in given:
        system, place = _system(one)
        paths = [path for path in _paths(system, place, format) if not _whole(system, path).startswith(own)]
        if not paths:
            raise InvalidOption(f"{one} stands for no file that could be translated; check the path")
        for path in paths:
            whole = _whole(system, path)
            facts = system.info(path)
            if facts.get("type") == "directory":
                continue
            found.setdefault(whole, _input(whole, facts))
    return list(found.values())


def look_at(path: str) -> InputFile:
    """An input as it is now. Raises OSError."""
    system, place = _system(path)
    system.invalidate_cache()
    return _input(path, system.info(place))


def absolute(url: str) -> str:
    """A path or URL as any process finds it, whatever its working directory."""
    return _whole(*_system(url))


class Folder:
    """Where the outputs go. Every file appears whole or not at all."""

    def __init__(self, url: str) -> None:
        """The folder is made. Raises InvalidOption if that is impossible."""
        self.url = url
        self._system, self._root = _system(url)
        self._is_local = _is_local(self._system)
        try:
            self._system.makedirs(self._root, exist_ok=True)
        except OSError as error:
            raise InvalidOption(f"--output {url} can't be a folder: {error.strerror or error}") from None

    def names(self) -> set[str]:
        """The names of all files that lie here."""
        self._system.invalidate_cache()
        try:
            paths = self._system.ls(self._root, detail=False)
        except FileNotFoundError:  # a store has no empty folders
            return set()
        return {path.rstrip("/").rpartition("/")[2] for path in paths}

    def has(self, name: str) -> bool:
        """Whether a file of this name is here."""
        self._system.invalidate_cache()
        return bool(self._system.exists(f"{self._root}/{name}"))

    def read(self, name: str) -> bytes | None:
        """What a file holds; None if there is none."""
        try:
            return bytes(self._system.cat_file(f"{self._root}/{name}"))
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Put a file here, or another in its place."""
        if self._is_local:
            with replacing_file(Path(self._root) / name) as file:
                file.write(data)
        else:  # a store shows what was put into it when all of it has come
            self._system.pipe_file(f"{self._root}/{name}", data)

    def remove(self, names: Sequence[str]) -> None:
        """Remove files, as far as they are there."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                self._system.rm_file(f"{self._root}/{name}")

    def clear(self) -> None:
        """Remove what processes left behind that ended in the middle of a file."""
        self.remove([name for name in self.names() if _PARTS.fullmatch(name)])

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes out for as long as the block takes; JobRunning if one is here.

        In a store, which has no locks, they aren't kept out: they would write the same files.
        """
        if not self._is_local:
            yield
            return
        with open(Path(self._root) / _LOCK, "wb") as file:
            if not lock(file):
                raise JobRunning(f"another process works on {self.url} now; wait for it, or stop it")
            yield


def _system(url: str) -> tuple[Any, str]:
    """The file system that a path or URL belongs to, and what it is called there."""
    from fsspec.core import url_to_fs

    try:
        system, place = url_to_fs(url)
    except ImportError as error:
        return _arrow_system(url, error)
    except ValueError as error:
        raise InvalidOption(f"{url} can't be reached: {error}") from None
    return system, str(place)


def _arrow_system(url: str, reason: ImportError) -> tuple[Any, str]:
    """What pyarrow has built in, where fsspec would need a package that isn't here."""
    try:
        from fsspec.implementations.arrow import ArrowFSWrapper
        from pyarrow.fs import FileSystem

        system, place = FileSystem.from_uri(url)
    except (ImportError, ValueError):
        raise InvalidOption(f"{url} can't be reached: {reason}") from None
    return ArrowFSWrapper(system), place


def _is_local(system: Any) -> bool:
    names = system.protocol
    return "file" in ((names,) if isinstance(names, str) else names)


def _whole(system: Any, path: str) -> str:
    """A path as any process can find it."""
    return path if _is_local(system) else str(system.unstrip_protocol(path))


def _paths(system: Any, place: str, format: str | None) -> list[str]:
    if system.isfile(place):
        return [place]
    if system.isdir(place):
        found = system.find(place)
    elif glob.has_magic(place):
        found = [
            path
            for match in sorted(system.glob(place))
            for path in (sorted(system.find(match)) if system.isdir(match) else [match])
        ]
    else:
        return []
    return [path for path in found if _is_data(path) and (format or format_of(path) is not None)]


def _is_data(path: str) -> bool:
    """Whether a file isn't one of those that tools put beside their data."""
    return not path.rpartition("/")[2].startswith((".", "_"))


def _input(path: str, facts: dict[str, Any]) -> InputFile:
    return InputFile(path, int(facts["size"] or 0), _version(facts))


def _version(facts: dict[str, Any]) -> str:
    for name in ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created"):
        if facts.get(name) is not None:
            return str(facts[name])
    return ""
