"""API keys: made once, shown once, and kept as hashes."""

import hmac
import json
import os
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

from dragoman.errors import InvalidOption
from dragoman.files import replacing_file

_PREFIX = "dragoman-"
_NAME = re.compile(r"[\w.@-]{1,64}")


@dataclass(frozen=True)
class Key:
    """What is kept of a key; the key itself is not."""

    name: str
    """What its owner is called; it is in logs and metrics."""
    digest: str
    """SHA-256 of the key: its 256 random bits leave nothing to guess."""
    created: str = ""
    requests_per_minute: int | None = None
    """None is no limit."""
    characters_per_minute: int | None = None
    characters_per_month: int | None = None


class KeyFile:
    """The keys in a file, which is read again whenever it has changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._keys: dict[str, Key] = {}

    def all(self) -> list[Key]:
        """Every key. Raises InvalidOption if the file is broken."""
        try:
            facts = self.path.stat()
            seen = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
            if seen != self._seen:
                self._keys = _read(json.loads(self.path.read_text(encoding="utf-8")))
                self._seen = seen
        except FileNotFoundError:
            self._keys, self._seen = {}, None
        except OSError as error:
            raise InvalidOption(f"{self.path} can't be read: {error.strerror}") from None
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise InvalidOption(f"{self.path} holds no API keys: {error}") from None
        return list(self._keys.values())

    def find(self, key: str) -> Key | None:
        """Which key this is; every one is compared, in the same time whatever it is.

        While the file is broken, those that it had before count. Raises InvalidOption if it had none.
        """
        digest = _digest(key)
        found = None
        try:
            keys = self.all()
        except InvalidOption:
            if not self._keys:
                raise
            keys = list(self._keys.values())
        for known in keys:
            if hmac.compare_digest(known.digest, digest):
                found = known
        return found

    def add(self, name: str, **limits: int | None) -> str:
        """Make a key and return it. Raises InvalidOption for a name that is taken, or none."""
        if not _NAME.fullmatch(name):
            raise InvalidOption(f"{name!r} can't name a key; use up to 64 letters, digits and .@_-")
        for limit, value in limits.items():
            if value is not None and value < 1:
                raise InvalidOption(f"{limit} is {value}; it must be 1 or more")
        self.all()
        if name in self._keys:
            raise InvalidOption(f"there is a key named {name!r} already; revoke it, or take another name")
        key = _PREFIX + secrets.token_urlsafe(32)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._write({**self._keys, name: Key(name, _digest(key), now, **limits)})
        return key

    def revoke(self, name: str) -> None:
        """Let a key be none any more. Raises InvalidOption if there is no such one."""
        self.all()
        if name not in self._keys:
            known = ", ".join(self._keys) or "none"
            raise InvalidOption(f"there is no key named {name!r}; the names are: {known}")
        self._write({other: key for other, key in self._keys.items() if other != name})

    def _write(self, keys: Mapping[str, Key]) -> None:
        data = {name: {k: v for k, v in asdict(key).items() if k != "name"} for name, key in keys.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with replacing_file(self.path) as file:
            os.chmod(file.name, 0o600)
            file.write(f"{json.dumps(data, indent=2)}\n".encode())
        self._seen = None


def _digest(key: str) -> str:
    return sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _read(data: Mapping[str, Any]) -> dict[str, Key]:
    known = {field.name for field in fields(Key)}
    keys = {}
    for name, entry in data.items():
        if unknown := entry.keys() - known:
            raise ValueError(f"{name} has {sorted(unknown)[0]!r}, which is nothing a key has")
        key = Key(name=name, **entry)
        if not re.fullmatch("[0-9a-f]{64}", key.digest):
            raise ValueError(f"{name} has no digest")
        keys[name] = key
    return keys
