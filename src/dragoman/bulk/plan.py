"""The plan: which rows of which files make up each block, and what the block's file is called."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from dragoman.bulk.formats import (
    CSV,
    JSONL,
    PARQUET,
    TEXT,
    compression_of,
    format_of,
    is_tabbed,
    need_pyarrow,
    output_format,
    unpacked,
)
from dragoman.bulk.lines import Row, begin, read_rows, separator_of
from dragoman.bulk.places import InputFile, open_file
from dragoman.bulk.rows import TEXT_COLUMN
from dragoman.errors import InvalidDocument, InvalidOption

_TEXTS = ("string", "large_string", "string_view", "null")
"""Types of columns that hold texts; of dictionaries, the values'."""


@dataclass(frozen=True)
class PlannedFile:
    """An input file as it was when the plan was made."""

    path: str
    size: int
    changed: str
    format: str
    compression: str | None
    output: str
    """The format of what becomes of it."""
    rows: int
    starts: tuple[int, ...] = ()
    """Where each block begins, in bytes, if a reader can go there."""
    names: tuple[str, ...] = ()
    """The columns of a table or of plain text."""
    separator: str | None = None
    """The sign between a table's cells."""
    end: str = "\n"
    """The end of a table's lines."""


@dataclass(frozen=True)
class Block:
    """Rows that become one file."""

    file: int
    number: int
    """From 0 on, within the file."""
    rows: int
    name: str
    """Of its output."""


@dataclass(frozen=True)
class Plan:
    """All blocks, in the order of the input."""

    files: tuple[PlannedFile, ...]
    block: int
    """Rows of each block but a file's last."""

    def blocks(self) -> Iterator[Block]:
        """The blocks; the names of their outputs sort like this, too."""
        most = max((self._count(file) for file in self.files), default=0)
        widths = max(5, len(str(len(self.files)))), max(6, len(str(most)))
        for place, file in enumerate(self.files):
            for number in range(self._count(file)):
                name = f"{place:0{widths[0]}}-{number:0{widths[1]}}{_ending(file)}"
                rows = min(self.block, file.rows - number * self.block)
                yield Block(place, number, rows, name)

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"block": self.block, "files": [asdict(file) for file in self.files]}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Self:
        """What `to_dict` has told. Raises KeyError and TypeError for anything else."""

        def file(each: dict[str, Any]) -> PlannedFile:
            return PlannedFile(**{**each, "starts": tuple(each["starts"]), "names": tuple(each["names"])})

        return cls(tuple(map(file, told["files"])), int(told["block"]))

    def _count(self, file: PlannedFile) -> int:
        return -(-file.rows // self.block)


def make_plan(
    inputs: Sequence[InputFile],
    block: int,
    columns: Sequence[str],
    new: Sequence[str],
    format: str | None = None,
    wanted: str | None = None,
) -> Plan:
    """Look through all inputs once.

    columns: those that must be there; new: those to be added, which must not. format: of the inputs, if their
    names don't tell; wanted: of the outputs, if not that of the inputs.
    Raises InvalidOption and InvalidDocument.
    """
    return Plan(tuple(_planned(one, block, columns, new, format, wanted) for one in inputs), block)


def formats_of(inputs: Sequence[InputFile], format: str | None, wanted: str | None) -> list[tuple[str, str]]:
    """The format of each input and of what it becomes. Raises InvalidOption before anything is read."""
    found = []
    for one in inputs:
        is_ = format or format_of(one.path)
        if is_ is None:
            raise InvalidOption(
                f"{one.path}: its name doesn't say what it is; say it with --input-format text, jsonl, csv "
                "or parquet"
            )
        if is_ == PARQUET and compression_of(one.path):
            raise InvalidOption(f"{one.path}: Parquet can't be read through another compression; unpack it")
        found.append((is_, output_format(is_, wanted)))
    return found


def _planned(
    one: InputFile,
    block: int,
    columns: Sequence[str],
    new: Sequence[str],
    format: str | None,
    wanted: str | None,
) -> PlannedFile:
    ((is_, becomes),) = formats_of([one], format, wanted)
    if PARQUET in (is_, becomes):
        need_pyarrow("Parquet")
    file = PlannedFile(one.path, one.size, one.changed, is_, compression_of(one.path), becomes, 0)
    if is_ == PARQUET:
        return replace(file, rows=_parquet_rows(one.path, columns, new))
    return _looked_through(file, block, columns, new)


def _parquet_rows(path: str, columns: Sequence[str], new: Sequence[str]) -> int:
    from dragoman.bulk.tables import ParquetReader

    with open_file(path) as file:
        reader = ParquetReader(file, path)
        types = reader.columns
        _check_names(path, list(types), columns, new)
        for name in columns:
            bare = types[name].removeprefix("dictionary<values=").partition(",")[0]
            if bare not in _TEXTS:
                raise InvalidOption(f"{path}: column {name!r} has no texts, but {types[name]}")
        return reader.count


def _looked_through(file: PlannedFile, block: int, columns: Sequence[str], new: Sequence[str]) -> PlannedFile:
    """A file of lines with its rows counted, and where blocks begin."""
    path, compression = file.path, file.compression
    with open_file(path) as opened:
        head, place = begin(unpacked(opened, compression), path)
    is_table, separator = file.format == CSV, None
    if is_table:
        separator = "\t" if is_tabbed(path) else separator_of(head[place:])
    names, end = [TEXT_COLUMN], "\n"
    starts: list[int] = []
    count = 0
    with open_file(path) as opened:
        source = unpacked(opened, compression)
        source.read(place)
        rows = read_rows(source, path, file.format, separator or ",")
        if is_table:
            first = next(rows, Row(b"", 0))
            names, place = list(first.cells), place + first.length
            end = "\r\n" if first.length - len(first.raw) == 2 else "\n"
        if file.format != JSONL:
            _check_names(path, names, columns, new)
        for row in rows:
            if count % block == 0:
                starts.append(place)
            if file.format == JSONL:
                _check_keys(path, count, row.raw, new)
            count += 1
            place += row.length
    if compression is not None:  # nobody can go to a place in what is compressed
        starts = []
    return replace(file, rows=count, starts=tuple(starts), names=tuple(names), separator=separator, end=end)


def _check_names(path: str, names: Sequence[str], columns: Sequence[str], new: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        raise InvalidDocument(f"{path} has two columns of one name")
    for name in columns:
        if name not in names:
            there = ", ".join(names[:50])
            raise InvalidOption(f"{path} has no column {name!r}; it has {there}. Name one with --column")
    for name in new:
        if name in names:
            raise InvalidOption(f"{path} has a column {name!r} already, which is to be added; rename it")


def _check_keys(path: str, number: int, raw: bytes, new: Sequence[str]) -> None:
    """InvalidOption if a JSON object has a key that is to be added."""
    if not any(f'"{name}"'.encode() in raw for name in new):
        return
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return
    for name in new:
        if isinstance(found, dict) and name in found:
            raise InvalidOption(
                f"{path}, row {number + 1}, has {name!r} already, which is to be added; rename it"
            )


def _ending(file: PlannedFile) -> str:
    if file.output == CSV and file.separator == "\t":
        return ".tsv"
    return {PARQUET: ".parquet", JSONL: ".jsonl", CSV: ".csv", TEXT: ".txt"}[file.output]


def new_columns(targets: Sequence[str]) -> list[str]:
    """What is added to every row: translations to these languages, and what there is to say."""
    translations = ["translation"] if len(targets) == 1 else [f"translation_{target}" for target in targets]
    return [*translations, "source_language", "warnings", "error"]
