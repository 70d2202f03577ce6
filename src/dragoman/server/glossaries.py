"""Glossaries that clients keep on a server: a file each, of their owner alone."""

import contextlib
import csv
import io
import json
import re
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from dragoman.errors import InvalidOption
from dragoman.files import replacing_file
from dragoman.languages import Language
from dragoman.server.faults import Fault, invalid
from dragoman.text.glossary import Glossary, Term

MOST = 1000
"""Glossaries of one owner."""
MOST_ENTRIES = 50_000
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Kept:
    """A glossary as it is kept."""

    id: str
    owner: str
    name: str
    source: str
    """NLLB code."""
    target: str
    created: str
    entries: tuple[tuple[str, str], ...]

    @property
    def glossary(self) -> Glossary:
        """What translates with it. InvalidOption if a term is none."""
        return Glossary((Term(*entry) for entry in self.entries), (self.source, self.target))


class Glossaries:
    """The glossaries in a folder. Any thread may use it."""

    def __init__(self, folder: Path | None) -> None:
        """folder: None is one that goes with the server."""
        self._is_own = folder is None
        self._folder = Path(tempfile.mkdtemp(prefix="dragoman-")) if folder is None else folder
        self._lock = threading.Lock()
        self._kept: dict[str, Kept] = {}
        for kept in _read_all(self._folder):
            self._kept[kept.id] = kept
        self._made: dict[str, Glossary] = {}

    def add(
        self, owner: str, name: str, source: Language, target: Language, entries: Iterable[tuple[str, str]]
    ) -> Kept:
        """Keep a new one. Raises a Fault for terms that are none, or too many."""
        if source == target:
            raise invalid("a glossary is for two languages", "target_lang")
        created = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        return self._keep(
            Kept(str(uuid.uuid4()), owner, name, source.nllb, target.nllb, created, tuple(entries))
        )

    def change(self, owner: str, id: str, name: str, entries: Iterable[tuple[str, str]]) -> Kept:
        """Give one another name and other entries. Raises a Fault, as `add`, and if the owner has none."""
        return self._keep(replace(self.find(owner, id), name=name, entries=tuple(entries)))

    def _keep(self, kept: Kept) -> Kept:
        name, rows, owner = kept.name, kept.entries, kept.owner
        if not name.strip() or len(name) > 1024:
            raise invalid("a glossary needs a name of up to 1,024 characters", "name")
        if not rows or len(rows) > MOST_ENTRIES:
            raise invalid(
                f"a glossary has 1 to {MOST_ENTRIES:,} entries; this one has {len(rows):,}", "entries"
            )
        try:
            made = kept.glossary
        except InvalidOption as error:
            raise invalid(str(error), "entries") from None
        if len(made) != len(rows):
            raise invalid("two entries have the same term", "entries")
        with self._lock:
            others = sum(other.owner == owner for other in self._kept.values() if other.id != kept.id)
            if others >= MOST:
                raise Fault(403, "too_many_glossaries", f"at most {MOST} glossaries are kept", "name")
            try:
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                with replacing_file(self._path(kept.id)) as file:
                    file.write(json.dumps(asdict(kept), ensure_ascii=False).encode())
            except OSError:
                raise Fault(503, "no_room", "the glossary could not be kept", None, 60) from None
            self._kept[kept.id], self._made[kept.id] = kept, made
        return kept

    def of(self, owner: str) -> list[Kept]:
        """Those of an owner, the latest first."""
        with self._lock:
            found = [kept for kept in self._kept.values() if kept.owner == owner]
        return sorted(found, key=lambda kept: kept.created, reverse=True)

    def find(self, owner: str, id: object) -> Kept:
        """One by its id. Raises a Fault if the owner has no such one."""
        with self._lock:
            kept = self._kept.get(id) if isinstance(id, str) else None
        if kept is None or kept.owner != owner:
            raise Fault(404, "no_glossary", "Glossary not found", "glossary_id")
        return kept

    def remove(self, owner: str, id: str) -> None:
        """Forget one. Raises a Fault if the owner has no such one."""
        kept = self.find(owner, id)
        with self._lock:
            self._kept.pop(kept.id, None)
            self._made.pop(kept.id, None)
            self._path(kept.id).unlink(missing_ok=True)

    def together(self, owner: str, ids: Sequence[object]) -> Glossary:
        """Several as one; of terms that several have, that of the first. Raises a Fault."""
        found = [self._glossary(self.find(owner, id)) for id in reversed(ids)]
        whole = found[0]
        for other in found[1:]:
            whole = whole | other
        return whole

    def close(self) -> None:
        if self._is_own:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _glossary(self, kept: Kept) -> Glossary:
        with self._lock:
            made = self._made.get(kept.id)
            if made is None:
                made = self._made[kept.id] = kept.glossary
            return made

    def _path(self, id: str) -> Path:
        return self._folder / f"{id}.json"


def read_entries(text: str, kind: str) -> Iterator[tuple[str, str]]:
    """The entries of a table: `tsv` or `csv`, whose third and fourth columns would be languages.

    Raises a Fault that says which line is none.
    """
    if kind == "tsv":
        rows: Iterable[list[str]] = (line.split("\t") for line in text.splitlines())
        widths = {2}
    else:
        rows = csv.reader(io.StringIO(text), strict=True)
        widths = {2, 4}
    try:
        for number, row in enumerate(rows, 1):
            if not row or row == [""]:
                continue
            if len(row) not in widths or not row[0].strip() or not row[1].strip():
                raise invalid(
                    f"Invalid glossary entries provided: line {number} is no pair of terms", "entries"
                )
            yield row[0].strip(), row[1].strip()
    except csv.Error:
        raise invalid("Invalid glossary entries provided: it is no CSV", "entries") from None


def as_tsv(entries: Iterable[tuple[str, str]]) -> str:
    """Entries as a table with tabs."""
    return "\n".join(f"{source}\t{target}" for source, target in entries)


def of_mapping(terms: Mapping[str, str]) -> Glossary:
    """A glossary that a request brings itself. Raises a Fault."""
    if not 0 < len(terms) <= MOST_ENTRIES:
        raise invalid(f"glossary has {len(terms):,} entries; it may have 1 to {MOST_ENTRIES:,}", "glossary")
    try:
        return Glossary(terms)
    except InvalidOption as error:
        raise invalid(str(error), "glossary") from None


def _read_all(folder: Path) -> Iterator[Kept]:
    """What an earlier process has kept; a file that can't be read is none."""
    for path in folder.glob("*.json"):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            data = json.loads(path.read_text(encoding="utf-8"))
            if _ID.fullmatch(path.stem) and data["id"] == path.stem:
                yield Kept(**{**data, "entries": tuple((str(a), str(b)) for a, b in data["entries"])})
