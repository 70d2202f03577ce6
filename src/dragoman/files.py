"""Files that are read whole, or that appear whole: JSON in and out, and atomic replacement.

Nothing here knows what the files are for. A file that is being written has a name of its own
until it is complete, so no reader and no crash ever meets half of one.
"""

import contextlib
import errno
import glob
import json
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, BinaryIO, Self

from dragoman.errors import DragomanError, InvalidOption

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]


def read_json(path: Path, error: type[DragomanError]) -> dict[str, Any]:
    """The object in a JSON file.

    FileNotFoundError if there is no such file, for which only the caller knows the right words;
    `error` if it can't be read or holds something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (ValueError, RecursionError, OSError) as reason:
        raise error(f"{path} can't be read: {reason}") from None
    if not isinstance(data, dict):
        raise error(f"{path} should hold an object, but it holds a {type(data).__name__}")
    return data


def write_json(path: Path, data: Mapping[str, Any], sort_keys: bool = False) -> None:
    """Write an object as indented JSON in UTF-8."""
    path.write_text(json.dumps(data, indent=2, sort_keys=sort_keys) + "\n", encoding="utf-8")


@contextlib.contextmanager
def replacing_file(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the block is done.

    Until then, and for good if the block fails, `path` keeps what it had.
    """
    scratch, file = create_beside(path)
    try:
        with file:
            yield file
            sync(file)
        os.replace(scratch, path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def replacing_files(folder: Path, seal: str, is_stale: Callable[[str], bool]) -> Iterator[Path]:
    """A scratch folder whose files move into `folder` when the block is done.

    Until then, and for good if the block fails, `folder` keeps what it had. `seal` names a file
    without which the others can't be taken for a whole: it is removed before the first new one
    arrives. Old files whose names are stale and that were not written anew are removed last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".saving-", dir=folder) as name:
        scratch = Path(name)
        yield scratch
        names = sorted(path.name for path in scratch.iterdir())
        # Some libraries let only the owner read what they write; a new file's own rule is the user's.
        (scratch / "mode").touch()
        for name in names:
            shutil.copymode(scratch / "mode", scratch / name)
            with (scratch / name).open("rb") as file:
                os.fsync(file.fileno())
        if seal in names:
            (folder / seal).unlink(missing_ok=True)
        for name in names:
            os.replace(scratch / name, folder / name)
        for old in list(folder.iterdir()):
            if is_stale(old.name) and old.name not in names:
                old.unlink()


def create_beside(path: Path, mode: int = 0o666) -> tuple[Path, BinaryIO]:
    """A new file in the folder of `path`, under a name that nobody has, open for writing."""
    while True:
        scratch = path.with_name(f"{_stem(path)}.{secrets.token_hex(4)}.part")
        with contextlib.suppress(FileExistsError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
            return scratch, open(os.open(scratch, flags, mode), "wb")


def sync(file: BinaryIO) -> None:
    """Have what was written on the disk, so that a name given to it later never shows less."""
    file.flush()
    os.fsync(file.fileno())


def lock(file: BinaryIO) -> bool:
    """Mark a file as being written, for as long as it is open here; False if another process has done so.

    True also where the system knows no such locks.
    """
    if fcntl:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # some network file systems
            return True
    return True


class OutputFile:
    """A file for results, which takes its name when it is complete; a context manager.

    Until then it lies beside as `NAME.XXXXXXXX.part`. That stays behind with what was done if the block
    fails: the exception gets a note that says where. A symbolic link stays one, a file that is replaced
    gives its mode and its owner to the new one, and a device or pipe is written to directly.
    """

    def __init__(self, path: Path) -> None:
        """Raises InvalidOption if `path` can't be written to, or another process is writing it."""
        self.name = str(path)
        self._target = Path(os.path.realpath(path))
        self._part: Path | None = None
        self._in_place = False
        self._lines = 0
        self.left_behind: list[Path] = []
        """What earlier processes did of the same file and didn't complete."""
        try:
            if _is_special(self._target):
                self._file: BinaryIO = open(self._target, "wb", buffering=0)  # noqa: SIM115
            else:
                self._open_part()
        except OSError as error:
            raise InvalidOption(f"{path} can't be written: {error.strerror}") from None

    @property
    def part(self) -> Path | None:
        """Where it lies until it is complete; None for a device or pipe."""
        return self._part

    def write(self, data: bytes) -> None:
        """Write so that a reader of the file sees it at once; errors name the file."""
        with _naming(self.name):
            self._file.write(data)
            self._file.flush()
        self._lines += data.count(b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._file:
            if self._part is None:
                return
            if error is None:
                with _naming(self.name):
                    self._complete(self._part)
            elif os.fstat(self._file.fileno()).st_size == 0:
                self._part.unlink(missing_ok=True)
            else:
                error.add_note(f"what was done ({self._lines} lines) is in {self._part}")

    def _open_part(self) -> None:
        target = self._target
        with _alone(target.parent):
            for part in sorted(target.parent.glob(f"{glob.escape(_stem(target))}.????????.part")):
                if _is_locked(part):
                    raise InvalidOption(
                        f"another process is writing {self.name} now (to {part}); wait for it, or write to "
                        "another file"
                    )
                self.left_behind.append(part)
            # What was private is private from the beginning.
            old = target.stat() if target.exists() else None
            self._part, self._file = create_beside(target, 0o666 if old is None else 0o600)
            lock(self._file)
        if old is not None:
            self._part.chmod(stat.S_IMODE(old.st_mode))
            mine = self._part.stat()
            if (mine.st_uid, mine.st_gid) != (old.st_uid, old.st_gid):
                try:
                    os.chown(self._part, old.st_uid, old.st_gid)
                except PermissionError:
                    # What we may write to but not give away keeps its owner only if it stays the same file.
                    self._in_place = True

    def _complete(self, part: Path) -> None:
        sync(self._file)
        if self._in_place:
            shutil.copyfile(part, self._target)
            part.unlink()
        else:
            os.replace(part, self._target)


class StandardOutput:
    """Standard output as a file for results. Raises InvalidOption if it is closed."""

    def __init__(self) -> None:
        if sys.stdout is None:
            raise InvalidOption("standard output is closed; give a file to write to")

    def write(self, data: bytes) -> None:
        """Write so that a reader sees it at once; errors name it."""
        with _naming("standard output"):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Put a file's name into errors that come without one."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or name
        raise


def _is_special(path: Path) -> bool:
    """Whether this is a device or pipe. Raises OSError for a folder."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    return not stat.S_ISREG(mode)


def _stem(path: Path) -> str:
    """What the names of files beside `path` begin with; names may have 255 bytes."""
    return os.fsdecode(os.fsencode(path.name)[:240])


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes out of the same block for the same folder, where the system can do that."""
    descriptor = os.open(folder, os.O_RDONLY) if fcntl else None
    try:
        if fcntl and descriptor is not None:
            with contextlib.suppress(OSError):  # some network file systems don't lock folders
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _is_locked(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            if fcntl:
                fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
