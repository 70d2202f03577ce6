"""Where a user's files are: what lasts (state), and what can be made again (cache)."""

import os
import sys
from pathlib import Path


def state_folder() -> Path:
    """Where jobs are kept: $DRAGOMAN_STATE, or what the system has for such things."""
    given = os.environ.get("DRAGOMAN_STATE")
    if given:
        return Path(given)
    if sys.platform == "win32":
        return _local() / "dragoman"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "dragoman"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "dragoman"


def cache_folder() -> Path | None:
    """Where what can be made again is kept: $DRAGOMAN_CACHE, or what the system has for such things.

    None if $DRAGOMAN_CACHE is empty, or nobody's home is known: then nothing is kept.
    """
    given = os.environ.get("DRAGOMAN_CACHE")
    if given is not None:
        return Path(given).expanduser() if given else None
    try:
        if sys.platform == "win32":
            return _local() / "dragoman" / "cache"
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches" / "dragoman"
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dragoman"
    except RuntimeError:
        return None


def _local() -> Path:
    return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
