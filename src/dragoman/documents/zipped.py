"""Packages of files, as Office formats are: read within bounds, written with most parts as they were."""

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from dragoman.errors import InvalidDocument

_MOST_FILES = 20_000
_MOST_BYTES = 1 << 30
"""Of all files together."""
_MOST_READ = 512 << 20
"""Of files that have text, together."""
_MOST_IN_ONE = 256 << 20
_RATIO = 100
"""So many times as large as its compressed bytes may a large file be."""
_LARGE = 10 << 20
_HEAD = struct.Struct("<4s22xHH")
"""Of a file within a package, up to the lengths of its name and of what is behind that."""
_SIZES_BEHIND = 8
"""The flag of a file whose sizes stand behind it."""


@dataclass
class Package:
    """The files of a package by name. What is read is checked against its checksum."""

    data: bytes
    names: list[str] = field(default_factory=list)
    _unpacked: int = 0

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
        self._check(entries)

    @property
    def kind(self) -> bytes:
        """What a file called mimetype says it is, as in OpenDocument files and books."""
        return self.read("mimetype").strip() if "mimetype" in self.names else b""

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
        self._unpacked += len(found)
        if self._unpacked > min(_MOST_READ, max(_LARGE * 10, _RATIO * len(self.data))):
            raise InvalidDocument("the package is too large for what it was packed from")
        return found

    def replaced(self, files: Mapping[str, bytes]) -> bytes:
        """The package with these files in place of those of their names; others as they were packed."""
        target = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(self.data)) as archive, zipfile.ZipFile(target, "w") as made:
            made.comment = archive.comment
            for entry in archive.infolist():
                if entry.filename in files:
                    made.writestr(entry, files[entry.filename], compress_type=entry.compress_type)
                    continue
                start, end = self._packed(entry)
                entry.flag_bits &= ~_SIZES_BEHIND
                entry.header_offset = target.tell()
                target.write(entry.FileHeader() + self.data[start:end])
                made.filelist.append(entry)
                made.NameToInfo[entry.filename] = entry
                made.start_dir = target.tell()
        return target.getvalue()

    def _check(self, entries: Sequence[zipfile.ZipInfo]) -> None:
        """Raises InvalidDocument for entries that no honest package has."""
        if len(entries) > _MOST_FILES or sum(entry.file_size for entry in entries) > _MOST_BYTES:
            raise InvalidDocument("the package has too many files, or too large ones")
        if len({entry.filename for entry in entries}) < len(entries):
            raise InvalidDocument("the package has two files of one name")
        for entry in entries:
            if entry.flag_bits & 1:
                raise InvalidDocument("the package is encrypted; save it without a password")
            if entry.filename.startswith(("/", "\\")) or ".." in entry.filename.replace("\\", "/").split("/"):
                raise InvalidDocument("the package has a file that lies outside of it")
            if stat.S_ISLNK(entry.external_attr >> 16):
                raise InvalidDocument("the package has a link instead of a file")
        spans = sorted((entry.header_offset, self._packed(entry)[1]) for entry in entries)
        if any(end > start for (_, end), (start, _) in pairwise(spans)):
            raise InvalidDocument("the package has files that lie in each other")

    def _packed(self, entry: zipfile.ZipInfo) -> tuple[int, int]:
        """Where the packed bytes of a file are."""
        head = self.data[entry.header_offset : entry.header_offset + _HEAD.size]
        if len(head) < _HEAD.size or not head.startswith(b"PK\x03\x04"):
            raise InvalidDocument("the package is broken: a file is not where its directory says")
        start = entry.header_offset + _HEAD.size + sum(_HEAD.unpack(head)[-2:])
        if start + entry.compress_size > len(self.data):
            raise InvalidDocument("the package is broken: it ends within a file")
        return start, start + entry.compress_size
