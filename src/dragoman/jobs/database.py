"""The SQLite file that jobs are in."""

import contextlib
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

from dragoman.errors import JobError

NAME = "jobs.sqlite"
VERSION = 1
_SCHEMA = """
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, state TEXT NOT NULL, began REAL NOT NULL,
    changed REAL NOT NULL, seconds REAL NOT NULL DEFAULT 0, model TEXT NOT NULL, source TEXT,
    target TEXT NOT NULL, command TEXT NOT NULL, folder TEXT NOT NULL, environment TEXT NOT NULL,
    done INTEGER NOT NULL DEFAULT 0, share REAL NOT NULL DEFAULT 0, error TEXT,
    cancel INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX jobs_by_key ON jobs (key);
CREATE TABLE files (
    job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE, number INTEGER NOT NULL, input TEXT NOT NULL,
    output TEXT NOT NULL, state TEXT NOT NULL, digest TEXT, part TEXT, segments INTEGER NOT NULL DEFAULT 0,
    flagged INTEGER NOT NULL DEFAULT 0, error TEXT, PRIMARY KEY (job, number)
) WITHOUT ROWID;
CREATE TABLE results (
    job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE, key BLOB NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (job, key)
) WITHOUT ROWID;
"""


def state_folder() -> Path:
    """Where jobs are kept: $DRAGOMAN_STATE, or what the system has for such things."""
    given = os.environ.get("DRAGOMAN_STATE")
    if given:
        return Path(given)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "dragoman"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "dragoman"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "dragoman"


def connect(folder: Path) -> sqlite3.Connection:
    """The database in a folder; both are made if they aren't there, for their owner alone.

    A statement is a transaction unless one is begun. Raises JobError.
    """
    path = folder / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # What people translate is nobody else's affair; SQLite gives its other files the same mode.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise _unusable(path, error) from None
    try:
        # A commit then survives the end of the process; the end of the machine may take the last ones.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")
        _prepare(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise _unusable(path, error) from None
    except JobError:
        connection.close()
        raise
    return connection


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


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Raise errors of SQLite and of the file system as JobError."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise JobError(f"the list of jobs can't be used: {error}") from None


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    if _version(connection) == VERSION:
        return
    with transaction(connection):
        version = _version(connection)  # another process may have been faster
        if version == 0:
            for statement in filter(str.strip, _SCHEMA.split(";")):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")
        elif version != VERSION:
            raise JobError(
                f"{path} is of another release of Dragoman (layout {version}, not {VERSION}); finish its "
                "jobs with that one, or set DRAGOMAN_STATE to another folder"
            )


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _unusable(path: Path, error: Exception) -> JobError:
    reason = error.strerror if isinstance(error, OSError) else error
    return JobError(
        f"the list of jobs in {path} can't be used: {reason}; set DRAGOMAN_STATE to another folder, or move "
        "the file away"
    )
