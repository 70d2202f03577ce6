"""Aligned test text on disk."""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TestSet:
    """Sentences in a language and in English, line by line; `near` marks those close to training text."""

    __test__ = False  # not a pytest class

    name: str
    foreign: tuple[str, ...]
    english: tuple[str, ...]
    near: tuple[bool, ...] | None = None

    def far(self) -> "TestSet":
        """Only the lines that no training sentence resembles."""
        assert self.near is not None
        kept = [i for i, near in enumerate(self.near) if not near]
        return TestSet(
            self.name + " (far)",
            tuple(self.foreign[i] for i in kept),
            tuple(self.english[i] for i in kept),
        )


def read_tatoeba(path: Path, part: str = "test") -> TestSet:
    """The "dev" or "test" lines of a `.tsv[.gz]` file: text, English, origin, dev or test, near or far."""
    rows = [line.split("\t") for line in _lines(path)]
    rows = [row for row in rows if row[3] == part]
    return TestSet(
        "Tatoeba",
        tuple(row[0] for row in rows),
        tuple(row[1] for row in rows),
        tuple(row[4] == "near" for row in rows),
    )


def read_aligned(name: str, foreign: Path, english: Path) -> TestSet:
    """Two `.txt[.gz]` files with as many lines; ValueError if they differ."""
    sides = tuple(_lines(foreign)), tuple(_lines(english))
    if len(sides[0]) != len(sides[1]):
        raise ValueError(f"{foreign} has {len(sides[0])} lines, {english} has {len(sides[1])}")
    return TestSet(name, *sides)


def _lines(path: Path) -> Iterator[str]:
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    yield from text.removesuffix("\n").split("\n")
