"""The SQLite file that jobs are in."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from dragoman import database
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


def connect(folder: Path) -> sqlite3.Connection:
    """The database in a folder; both are made if they aren't there. Raises JobError."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return database.connect(folder / NAME, _SCHEMA, VERSION, JobError, "the list of jobs")
    except OSError as error:
        raise JobError(
            f"the list of jobs can't be in {folder}: {error.strerror}; set DRAGOMAN_STATE to another folder"
        ) from None
    except JobError as error:
        raise JobError(f"{error}; set DRAGOMAN_STATE to another folder, or move the file away") from None


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Raise errors of SQLite and of the file system as JobError."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise JobError(f"the list of jobs can't be used: {error}") from None
