"""Files that are read whole, or that appear whole: JSON in and out, and atomic replacement.

Nothing here knows what the files are for. A file that is being written has a name of its own
until it is complete, so no reader and no crash ever meets half of one.
"""

import contextlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from dragoman.errors import DragomanError


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


def create_beside(path: Path) -> tuple[Path, BinaryIO]:
    """A new file in the folder of `path`, under a name that nobody has, open for writing."""
    while True:
        scratch = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}")
        with contextlib.suppress(FileExistsError):
            return scratch, open(scratch, "xb")


def sync(file: BinaryIO) -> None:
    """Have what was written on the disk, so that a name given to it later never shows less."""
    file.flush()
    os.fsync(file.fileno())


@contextlib.contextmanager
def output_file(path: Path) -> Iterator[BinaryIO]:
    """A file for output that takes its name when it is complete.

    Until then it is called `PATH.part`, which stays behind with what was done if
    something fails. A device or pipe is written to directly.
    """
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(path.stat().st_mode):
            with open(path, "wb") as device:
                yield device
            return
    partial = path.with_name(path.name + ".part")
    with open(partial, "wb") as file:
        yield file
        sync(file)
    os.replace(partial, path)
