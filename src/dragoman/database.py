"""SQLite files that are the product's own: made, opened, and written whole or not at all."""

import contextlib
import os
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path

from dragoman.errors import DragomanError


def connect(
    path: Path, schema: str, version: int, error: type[DragomanError], what: str
) -> sqlite3.Connection:
    """The database in a file, which is made for its owner alone if it isn't there.

    A statement is a transaction unless one is begun; any thread may use it, one at a time. schema: of a new
    one, of this version; what: to call it in an `error`, which is raised if it can't be used.
    """
    try:
        # What people translate is nobody else's affair; SQLite gives its other files the same mode.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as reason:
        raise _unusable(path, reason, error, what) from None
    try:
        # A commit then survives the end of the process; the end of the machine may take the last ones.
        prepare(connection, schema, version, error, f"{what} in {path}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")
    except sqlite3.Error as reason:
        connection.close()
        raise _unusable(path, reason, error, what) from None
    except DragomanError:
        connection.close()
        raise
    return connection


def prepare(
    connection: sqlite3.Connection, schema: str, version: int, error: type[DragomanError], what: str
) -> None:
    """Make the tables of a new database; `error` if it has those of another version, or of somebody else."""
    kind = (
        zlib.crc32(schema.encode()) & 0x7FFFFFFF
    )  # whose tables these are, in a field that SQLite has for it
    if _facts(connection) == (version, kind):
        return
    with transaction(connection):
        found, other = _facts(connection)  # another process may have been faster
        if (found, other) == (version, kind):
            return
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if found or other or tables:
            raise error(f"{what} is of another release or program (layout {found}, not {version})")
        for statement in filter(str.strip, schema.split(";")):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute(f"PRAGMA application_id = {kind}")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All that the block does, or nothing of it; no other process writes meanwhile."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _facts(connection: sqlite3.Connection) -> tuple[int, int]:
    version, kind = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("user_version", "application_id")
    )
    return version, kind


def _unusable(path: Path, reason: Exception, error: type[DragomanError], what: str) -> DragomanError:
    said = reason.strerror if isinstance(reason, OSError) else reason
    return error(f"{what} in {path} can't be used: {said}")
