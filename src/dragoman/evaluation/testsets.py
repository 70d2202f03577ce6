"""Aligned test text on disk: by name in a data folder, or a file of one's own."""

import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dragoman.errors import InvalidOption
from dragoman.languages import of_code

ENGLISH = "eng_Latn"
NAMES = ("ntrex", "flores", "tatoeba")
"""The sets that a data folder may hold."""


@dataclass(frozen=True)
class TestSet:
    """Sentences and their references in another language, line by line."""

    __test__ = False  # not a pytest class

    name: str
    source: str
    """NLLB code of the sentences' language."""
    target: str
    """NLLB code of the references' language."""
    sources: tuple[str, ...]
    references: tuple[str, ...]
    near: tuple[bool, ...] | None = None
    """Which sentences are close to some that are often trained on, if that is known."""

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def pair(self) -> str:
        """The direction in short codes, such as "en-de"."""
        return f"{of_code(self.source).short_code}-{of_code(self.target).short_code}"

    def first(self, count: int) -> "TestSet":
        """The first sentences."""
        return self._with(range(min(count, len(self))))

    def far(self) -> "TestSet":
        """Only the sentences that are close to none that are often trained on."""
        assert self.near is not None
        chosen = self._with([i for i, near in enumerate(self.near) if not near])
        return replace(chosen, name=f"{self.name} far", near=None)

    def _with(self, kept: Sequence[int]) -> "TestSet":
        return replace(
            self,
            sources=tuple(self.sources[i] for i in kept),
            references=tuple(self.references[i] for i in kept),
            near=None if self.near is None else tuple(self.near[i] for i in kept),
        )


def find_testset(name: str, data: Path | None, source: str, target: str) -> TestSet | None:
    """A test set in one direction; None if it has no text in one of the two languages.

    name: one of `NAMES`, to be found below `data`; a folder of `<xx>-en.tsv[.gz]` (text, English); or a
    `.tsv[.gz]` file of sentences and references, which is of the direction it is said to be. source, target:
    NLLB codes. InvalidOption says what is there if there is no such set.
    """
    if name in NAMES:
        if data is None:
            raise InvalidOption(f"--testset {name} is read from a folder; say which with --data DIR")
        return _named(name, data, source, target)
    path = Path(name).expanduser()
    if path.is_dir():
        return _with_english(path, path.name, source, target)
    if path.is_file():
        return _file(path, source, target)
    raise InvalidOption(
        f"there is no test set {name!r}: it is none of {', '.join(NAMES)}, and no file or folder"
    )


def _named(name: str, data: Path, source: str, target: str) -> TestSet | None:
    folder = data / {"ntrex": "ntrex", "flores": "flores200-devtest", "tatoeba": "held-out"}[name]
    if not folder.is_dir():
        raise InvalidOption(f"{name} would be in {folder}, which is no folder; check --data")
    if name == "tatoeba":
        return _with_english(folder, name, source, target)
    short = name == "ntrex"
    files = [_text_file(folder, of_code(code).short_code if short else code) for code in (source, target)]
    if files[0] is None or files[1] is None:
        return None
    sides = [tuple(_lines(file)) for file in files if file is not None]
    if len(sides[0]) != len(sides[1]):
        raise InvalidOption(f"{files[0]} has {len(sides[0])} lines, {files[1]} has {len(sides[1])}")
    return TestSet(name, source, target, sides[0], sides[1])


def _text_file(folder: Path, stem: str) -> Path | None:
    return next((path for path in (folder / f"{stem}.txt.gz", folder / f"{stem}.txt") if path.exists()), None)


def _with_english(folder: Path, name: str, source: str, target: str) -> TestSet | None:
    """`<xx>-en.tsv`: text, English, and perhaps origin, "dev" or "test", "near" or "far"."""
    if ENGLISH not in (source, target):
        return None
    foreign = target if source == ENGLISH else source
    stem = folder / f"{of_code(foreign).short_code}-en.tsv"
    path = next((path for path in (Path(f"{stem}.gz"), stem) if path.exists()), None)
    if path is None:
        return None
    rows = [row for row in _rows(path) if len(row) < 4 or row[3] == "test"]
    near = tuple(row[4] == "near" for row in rows) if all(len(row) > 4 for row in rows) else None
    sides = tuple(row[0] for row in rows), tuple(row[1] for row in rows)
    if source == ENGLISH:
        sides = sides[1], sides[0]
    return TestSet(name, source, target, *sides, near if near and any(near) else None)


def _file(path: Path, source: str, target: str) -> TestSet:
    rows = list(_rows(path))
    name = path.name.removesuffix(".gz").removesuffix(".tsv")
    return TestSet(name, source, target, tuple(row[0] for row in rows), tuple(row[1] for row in rows))


def _rows(path: Path) -> Iterator[list[str]]:
    for number, line in enumerate(_lines(path), 1):
        row = line.split("\t")
        if len(row) < 2:
            raise InvalidOption(
                f"{path}, line {number}: no tab; a sentence, a tab and its reference are needed"
            )
        yield row


def _lines(path: Path) -> Iterator[str]:
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise InvalidOption(f"{path} can't be read: {error}") from error
    yield from text.removesuffix("\n").split("\n")


def read_lines(path: Path) -> tuple[str, ...]:
    """The lines of a `.txt[.gz]` file; InvalidOption if it can't be read."""
    return tuple(_lines(path))
