"""What holds files: local disks, and whatever fsspec or pyarrow reaches by a URL.

Each store's client has exceptions of its own. Here they all become OSErrors, which others know how to tell.
"""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from dragoman.errors import DragomanError, InvalidOption

_WITH_BUCKETS = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"}
"""Protocols of stores that have no folders; what a path begins with must be there before."""
_READ = 1 << 16
"""Bytes that are asked of a remote file at a time; its client reads more, and keeps it."""


@dataclass(frozen=True)
class Store:
    """A file system, and how to name a file in it for any other process."""

    system: Any
    """As fsspec has it."""
    server: str = ""
    """What URLs begin with whose host isn't in the path, as in `sftp://me@host`."""

    @property
    def is_local(self) -> bool:
        return "file" in self._protocols

    @property
    def has_buckets(self) -> bool:
        return bool(self._protocols & _WITH_BUCKETS)

    @property
    def is_whole(self) -> bool:
        """Whether a file appears when all of it has come, or not at all."""
        return self.has_buckets or "memory" in self._protocols

    def whole(self, path: str) -> str:
        """A path as any process can find it."""
        if self.is_local:
            return path
        return self.server + path if self.server else str(self.system.unstrip_protocol(path))

    def kind(self, path: str) -> str | None:
        """`file`, `directory` or the like; None if nothing is there. Raises OSError."""
        with told(self.whole(path)):
            try:
                return str(self.system.info(path)["type"])
            except (FileNotFoundError, NotADirectoryError):
                return None

    @property
    def _protocols(self) -> set[str]:
        names = self.system.protocol
        return {names} if isinstance(names, str) else set(names)


def find_store(url: str) -> tuple[Store, str]:
    """The store that a path or URL belongs to, and what it is called there. Raises InvalidOption."""
    from fsspec.core import url_to_fs

    server = _server(url)
    try:
        system, place = url_to_fs(url)
    except ImportError as error:
        return _arrow_store(url, error)
    except DragomanError:
        raise
    except Exception as error:  # of its client: no such host, no key, no permission
        raise InvalidOption(f"{url} can't be reached: {error}") from None
    is_apart = "host" in system._get_kwargs_from_urls(url)
    return Store(system, server if is_apart else ""), str(place)


def open_remote(store: Store, path: str) -> BinaryIO:
    """A file for reading, at its beginning. Raises OSError."""
    whole = store.whole(path)
    with told(whole):
        opened: BinaryIO = store.system.open(path, "rb")
    return opened if store.is_local else io.BufferedReader(_RemoteFile(opened, whole), _READ)


@contextlib.contextmanager
def told(path: str) -> Iterator[None]:
    """What a store's client raises becomes an OSError that names the file."""
    try:
        yield
    except (OSError, DragomanError):
        raise
    except Exception as error:
        raise OSError(f"{path}: {type(error).__name__}: {error}") from error


class _RemoteFile(io.RawIOBase):
    """An open file of a store, whose client's errors are told."""

    def __init__(self, file: BinaryIO, path: str) -> None:
        self._file, self._path = file, path

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with told(self._path):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with told(self._path):
            self._file.seek(offset, whence)
            return self._file.tell()  # as not every client's seek says it

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _server(url: str) -> str:
    """The scheme and host of a URL. InvalidOption for one with a password, which the manifest would keep."""
    if "://" not in url:
        return ""
    parts = urlsplit(url)
    if "@" in parts.netloc and ":" in parts.netloc.rpartition("@")[0]:
        host, name = parts.netloc.rpartition("@")[2], parts.scheme.upper()
        raise InvalidOption(
            f"the URL of {host} has a password, which the manifest would keep; leave it out, and use a key "
            f"or set FSSPEC_{name}_PASSWORD"
        )
    return f"{parts.scheme}://{parts.netloc}"


def _arrow_store(url: str, reason: ImportError) -> tuple[Store, str]:
    """What pyarrow has built in, where fsspec would need a package that isn't here."""
    try:
        from fsspec.implementations.arrow import ArrowFSWrapper
        from pyarrow.fs import FileSystem

        system, place = FileSystem.from_uri(url)
    except (ImportError, ValueError):
        raise InvalidOption(f"{url} can't be reached: {reason}") from None
    return Store(ArrowFSWrapper(system)), place
