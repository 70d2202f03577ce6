"""Packages of files, as Office formats are: read within bounds, written with most parts as they were."""

import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from dragoman.errors import InvalidDocument

_MOST_FILES = 20_000
_MOST_BYTES = 1 << 30
"""Of all files together."""
_MOST_IN_ONE = 300 << 20
_RATIO = 300
"""So many times as large as its compressed bytes may a large file be."""
_LARGE = 10 << 20


@dataclass
class Package:
    """The files of a package by name. What is read is checked against its checksum."""

    data: bytes
    names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Raises InvalidDocument for what is no package, or none that should be opened."""
        try:
            with zipfile.ZipFile(io.BytesIO(self.data)) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
            said = (
                "it is encrypted"
                if self.data.startswith(b"\xd0\xcf\x11\xe0")
                else f"it is no package: {error}"
            )
            raise InvalidDocument(f"the file can't be opened, as {said}") from None
        self.names = [entry.filename for entry in entries]
        if len(entries) > _MOST_FILES or sum(entry.file_size for entry in entries) > _MOST_BYTES:
            raise InvalidDocument("the package has too many files, or too large ones")
        if len(set(self.names)) < len(entries):
            raise InvalidDocument("the package has two files of one name")
        for entry in entries:
            if entry.flag_bits & 1:
                raise InvalidDocument("the package is encrypted; save it without a password")
            if entry.filename.startswith(("/", "\\")) or ".." in entry.filename.replace("\\", "/").split("/"):
                raise InvalidDocument("the package has a file that lies outside of it")

    def read(self, name: str) -> bytes:
        """A file, read no further than its size says."""
        try:
            with zipfile.ZipFile(io.BytesIO(self.data)) as archive:
                entry = archive.getinfo(name)
                allowed = min(_MOST_IN_ONE, max(_LARGE, _RATIO * entry.compress_size))
                with archive.open(entry) as file:
                    found = file.read(allowed + 1)
        except KeyError:
            raise InvalidDocument(f"the package has no {name}") from None
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, OSError) as error:
            raise InvalidDocument(f"{name} in the package can't be read: {error}") from None
        if len(found) > allowed:
            raise InvalidDocument(f"{name} in the package is too large for what it was packed from")
        return found

    def replaced(self, files: Mapping[str, bytes]) -> bytes:
        """The package with these files in place of those of the same names."""
        target = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(self.data)) as archive, zipfile.ZipFile(target, "w") as made:
            made.comment = archive.comment
            for entry in archive.infolist():
                content = files[entry.filename] if entry.filename in files else self.read(entry.filename)
                made.writestr(entry, content, compress_type=entry.compress_type)
        return target.getvalue()
