"""A translation memory: what has been translated before, in a SQLite file.

It holds what people have approved of, which was imported or added, and what models have said, under a key of
all that decides their results: so a changed document costs no more than what is new in it. What people say
goes first. A text that differs from one of theirs in its numbers alone is known too.
"""

import contextlib
import difflib
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

import regex

from dragoman import database
from dragoman.database import transaction
from dragoman.errors import InvalidOption
from dragoman.generation.options import GenerationOptions
from dragoman.languages import Language
from dragoman.systems import Request
from dragoman.translation.recall import packed, request_key, unpacked
from dragoman.translation.results import MEMORY, Candidate, Match
from dragoman.translation.tmx import Unit, read_tmx, write_tmx

VERSION = 1
WHAT = "the translation memory"
_SCHEMA = """
CREATE TABLE units (
    id INTEGER PRIMARY KEY, source_language TEXT NOT NULL, target_language TEXT NOT NULL,
    source TEXT NOT NULL, target TEXT NOT NULL, skeleton TEXT NOT NULL,
    UNIQUE (source_language, target_language, source)
);
CREATE INDEX units_by_skeleton ON units (source_language, target_language, skeleton);
CREATE VIRTUAL TABLE words USING fts5 (source);
CREATE TABLE results (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""
LEAST = 0.75
"""How much alike a text must be to be shown, from 0 to 1."""
_CHUNK = 2000
"""Units of one transaction."""
_LOOKED_AT = 30
"""So many units with the most words in common are compared letter by letter."""
_NUMBER = regex.compile(r"\p{Nd}+(?:[.,:]\p{Nd}+)*")
_SIGNS = regex.compile(r"\p{Nd}+")
_WORD = regex.compile(r"\w+")


@dataclass(frozen=True)
class _Keyed:
    """The recall of one model with its options."""

    memory: "TranslationMemory"
    salt: str

    def get(self, request: Request) -> tuple[Candidate, ...] | None:
        known = self.memory.find(request.text, request.source, request.target)
        if known is not None:
            return (Candidate(known, 0.0, (), True, MEMORY),)
        return self.memory._result(request_key(request, self.salt))

    def put(self, request: Request, candidates: tuple[Candidate, ...]) -> None:
        self.memory._keep(request_key(request, self.salt), candidates)


class TranslationMemory:
    """What has been translated before; a context manager.

    >>> with TranslationMemory("memory.sqlite") as memory:
    ...     translator.translate(texts, "en", "de", translation_memory=memory)
    """

    def __init__(self, path: str | Path) -> None:
        """path: of a SQLite file, which is made if there is none; or of a .tmx file, which is only read.

        Raises InvalidOption if it is something else, and OSError.
        """
        self.path = Path(path)
        if self.path.suffix.lower() == ".tmx":
            self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            database.prepare(self._connection, _SCHEMA, VERSION, InvalidOption, WHAT)
            self.add(read_tmx(self.path))
        else:
            self._connection = database.connect(self.path, _SCHEMA, VERSION, InvalidOption, WHAT)

    def __len__(self) -> int:
        """How many units people have approved of."""
        found: int = self._connection.execute("SELECT count(*) FROM units").fetchone()[0]
        return found

    def add(self, units: Iterable[Unit]) -> int:
        """Take in what people have approved of; of equal sources the last. Returns how many there were."""
        count = 0
        waiting = iter(units)
        while chunk := list(islice(waiting, _CHUNK)):  # read before others have to wait for the file
            with self._told(), transaction(self._connection):
                count += sum(map(self._add, chunk))
        return count

    def units(self) -> Iterator[Unit]:
        """What people have approved of, in the order in which it came."""
        rows = self._connection.execute(
            "SELECT source, target, source_language, target_language FROM units ORDER BY id"
        )
        for row in rows:
            yield Unit(*row)

    def export(self, path: str | Path) -> int:
        """Write what people have approved of as TMX 1.4b; returns how many units that is."""
        return write_tmx(Path(path), self.units())

    def find(self, text: str, source: Language, target: Language) -> str | None:
        """What people have made of a text, or of one with other numbers; None if nothing is known."""
        with self._told():
            return self._find(text, (source.nllb, target.nllb))

    def _find(self, text: str, pair: tuple[str, str]) -> str | None:
        row = self._connection.execute(
            "SELECT target FROM units WHERE source_language = ? AND target_language = ? AND source = ?",
            (*pair, _plain(text)),
        ).fetchone()
        if row is not None:
            return str(row[0])
        if not _NUMBER.search(text):
            return None
        rows = self._connection.execute(
            "SELECT source, target FROM units WHERE source_language = ? AND target_language = ? "
            "AND skeleton = ? ORDER BY id DESC LIMIT 5",
            (*pair, _skeleton(_plain(text))),
        )
        found = (_renumbered(_plain(text), known, translation) for known, translation in rows)
        return next((one for one in found if one is not None), None)

    def similar(
        self, text: str, source: Language, target: Language, least: float = LEAST, most: int = 3
    ) -> list[Match]:
        """The units whose texts are most like this one, the best first."""
        plain = _plain(text)
        words = list(dict.fromkeys(_WORD.findall(plain.casefold())))[:60]
        if not words:
            return []
        with self._told():
            rows = self._connection.execute(
                "SELECT units.source, units.target FROM words JOIN units ON units.id = words.rowid "
                "WHERE words MATCH ? AND source_language = ? AND target_language = ? ORDER BY rank LIMIT ?",
                (" OR ".join(f'"{word}"' for word in words), source.nllb, target.nllb, _LOOKED_AT),
            ).fetchall()
        matcher = difflib.SequenceMatcher(b=plain, autojunk=False)
        found = []
        for known, translation in rows:
            matcher.set_seq1(known)
            if matcher.real_quick_ratio() >= least and matcher.quick_ratio() >= least:
                score = matcher.ratio()
                if score >= least:
                    found.append(Match(known, translation, round(score, 4)))
        return sorted(found, key=lambda match: -match.score)[:most]

    def recall(self, fingerprint: str, options: GenerationOptions, others: str = "") -> _Keyed:
        """The `Recall` of a model with these options; others: what else decides its results."""
        told = f"{fingerprint}\0{sorted(asdict(options).items())}\0{others}"
        return _Keyed(self, sha256(told.encode()).hexdigest())

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # Inside

    def _add(self, unit: Unit) -> int:
        source, target = _plain(unit.source), unit.target.strip()
        if not source or not target or unit.source_language == unit.target_language:
            return 0
        pair = unit.source_language, unit.target_language
        self._connection.execute(
            "DELETE FROM words WHERE rowid IN (SELECT id FROM units WHERE source_language = ? AND "
            "target_language = ? AND source = ?)",
            (*pair, source),
        )
        cursor = self._connection.execute(
            "INSERT OR REPLACE INTO units (source_language, target_language, source, target, skeleton) "
            "VALUES (?, ?, ?, ?, ?)",
            (*pair, source, target, _skeleton(source)),
        )
        self._connection.execute(
            "INSERT INTO words (rowid, source) VALUES (?, ?)", (cursor.lastrowid, source.casefold())
        )
        return 1

    def _result(self, key: bytes) -> tuple[Candidate, ...] | None:
        with self._told():
            row = self._connection.execute("SELECT value FROM results WHERE key = ?", (key,)).fetchone()
        return None if row is None else unpacked(row[0])

    def _keep(self, key: bytes, candidates: tuple[Candidate, ...]) -> None:
        values = key, packed(candidates)
        # What can't be kept costs no translation: it is made again another time.
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("INSERT OR REPLACE INTO results VALUES (?, ?)", values)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise InvalidOption(f"{WHAT} in {self.path} can't be used: {error}") from None


def _plain(text: str) -> str:
    """A text with single spaces, as it is compared."""
    return " ".join(text.split())


def _skeleton(text: str) -> str:
    """A text without what its numbers are."""
    # Languages write 1,500 and 2.5 in ways of their own: only what is written alike stands for each other.
    return _NUMBER.sub(lambda number: _SIGNS.sub("0", number[0]), text)


def _renumbered(text: str, known: str, translation: str) -> str | None:
    """The translation of a text that is the known one but for its numbers; None if that isn't clear."""
    before, now = _NUMBER.findall(known), _NUMBER.findall(text)
    counts = Counter(_NUMBER.findall(translation))
    if len(set(before)) != len(before) or counts != Counter(before):
        return None
    if any(_SIGNS.fullmatch(number) is None for number in now) or len(now) != len(before):
        return None
    new = dict(zip(before, now, strict=True))
    return _NUMBER.sub(lambda number: new[number[0]], translation)
