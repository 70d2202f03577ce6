"""Where inputs and outputs lie: which files are meant, and the folder that results appear in."""

import contextlib
import glob
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from dragoman.bulk.formats import format_of
from dragoman.bulk.stores import Store, find_store, open_remote, told
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
    return open_remote(*find_store(path))


def find_inputs(given: Sequence[str], format: str | None, output: str) -> list[InputFile]:
    """The files that are meant by paths, URLs, folders and patterns, in the order given, each once.

    Of a folder and of a pattern's folders those files are taken whose names tell a format, or all if `format`
    names it; files below `output` never. Raises InvalidOption for what stands for no file, and OSError.
    """
    own = absolute(output).rstrip("/") + "/"
    found: dict[str, InputFile] = {}
    for one in given:
        store, place = find_store(one)
        with told(one):
            paths = [path for path in _paths(store, place, format) if not store.whole(path).startswith(own)]
            if not paths:
                raise InvalidOption(f"{one} stands for no file that could be translated; check the path")
            for path in paths:
                whole = store.whole(path)
                facts = store.system.info(path)
                if facts.get("type") == "directory":
                    continue
                found.setdefault(whole, _input(whole, facts))
    return list(found.values())


def look_at(path: str) -> InputFile:
    """An input as it is now. Raises OSError."""
    store, place = find_store(path)
    with told(path):
        store.system.invalidate_cache()
        return _input(path, store.system.info(place))


def absolute(url: str) -> str:
    """A path or URL as any process finds it, whatever its working directory."""
    store, place = find_store(url)
    return store.whole(place)


class Folder:
    """Where the outputs go. Every file appears whole or not at all."""

    def __init__(self, url: str) -> None:
        """The folder is made; a bucket is not: it may be mistyped. Raises InvalidOption and OSError."""
        self.url = url
        self._store, self._root = find_store(url)
        self._system = self._store.system
        if self._store.has_buckets:
            self._check_bucket()
            return
        try:
            with told(url):
                self._system.makedirs(self._root, exist_ok=True)
        except OSError as error:
            raise InvalidOption(f"--output {url} can't be a folder: {error.strerror or error}") from None

    def names(self) -> set[str]:
        """The names of all files that lie here."""
        with told(self.url):
            self._system.invalidate_cache()
            try:
                paths = self._system.ls(self._root, detail=False)
            except FileNotFoundError:  # a store has no empty folders
                return set()
        return {path.rstrip("/").rpartition("/")[2] for path in paths}

    def has(self, name: str) -> bool:
        """Whether a file of this name is here."""
        self._system.invalidate_cache()
        return self._store.kind(f"{self._root}/{name}") is not None

    def read(self, name: str) -> bytes | None:
        """What a file holds; None if there is none."""
        with told(self.url):
            try:
                return bytes(self._system.cat_file(f"{self._root}/{name}"))
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes) -> None:
        """Put a file here, or another in its place."""
        place = f"{self._root}/{name}"
        if self._store.is_local:
            with replacing_file(Path(place)) as file:
                file.write(data)
            return
        with told(self.url):
            if self._store.is_whole:
                self._system.pipe_file(place, data)
            else:
                self._replace(place, data)

    def _check_bucket(self) -> None:
        bucket = self._root.partition("/")[0]
        with contextlib.suppress(PermissionError):  # some may write that may not look
            if self._store.kind(bucket) is None:
                raise InvalidOption(f"--output {self.url}: there is no bucket {bucket!r}; make it first")

    def _replace(self, place: str, data: bytes) -> None:
        """Write under another name, then move."""
        part = f"{place}.{secrets.token_hex(4)}.part"
        self._system.pipe_file(part, data)
        # Some servers refuse to move to where a file is, each with an error of its own, or with none.
        with contextlib.suppress(Exception):
            self._system.mv(part, place)
        self._system.invalidate_cache()
        if self._system.exists(part):
            if self._system.exists(place):
                self._system.rm_file(place)
            self._system.mv(part, place)

    def remove(self, names: Sequence[str]) -> None:
        """Remove files, as far as they are there."""
        for name in names:
            with told(self.url), contextlib.suppress(FileNotFoundError):
                self._system.rm_file(f"{self._root}/{name}")

    def clear(self) -> None:
        """Remove what processes left behind that ended in the middle of a file."""
        self.remove([name for name in self.names() if _PARTS.fullmatch(name)])

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes out for as long as the block takes; JobRunning if one is here.

        In a store, which has no locks, they aren't kept out: they would write the same files.
        """
        if not self._store.is_local:
            yield
            return
        with open(Path(self._root) / _LOCK, "wb") as file:
            if not lock(file):
                raise JobRunning(f"another process works on {self.url} now; wait for it, or stop it")
            yield


def _paths(store: Store, place: str, format: str | None) -> list[str]:
    system, kind = store.system, store.kind(place)
    if kind == "file":
        return [place]
    if kind == "directory":
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
