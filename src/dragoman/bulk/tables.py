"""The rows of Parquet files. The only file here that knows pyarrow's tables."""

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import pyarrow
from pyarrow import parquet

from dragoman.bulk.formats import JSONL
from dragoman.bulk.rows import Added, as_json
from dragoman.errors import InvalidDocument

_FEATURES = b"huggingface"
"""What a library says of all columns, which would contradict a table with more."""
_BUFFER = 1 << 20
"""Bytes of a column that are read together."""
_AT_ONCE = 1024
"""Rows that are unpacked together."""


class ParquetRows:
    """Rows of a Parquet file, with the types that they have there."""

    def __init__(self, table: pyarrow.Table) -> None:
        self._table = table

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def cells(self, column: str) -> list[object]:
        return list(self._table.column(column).to_pylist())

    def render(self, format: str, added: Added) -> bytes:
        if format == JSONL:
            rows = zip(self._table.to_pylist(), *added.values(), strict=True)
            lines = (as_json({**row, **dict(zip(added, more, strict=True))}) for row, *more in rows)
            return b"".join(line + b"\n" for line in lines)
        table = self._table
        for name, values in added.items():
            table = table.append_column(name, _array(name, values))
        said = {key: value for key, value in (table.schema.metadata or {}).items() if key != _FEATURES}
        return _file(table.replace_schema_metadata(said or None))


class ParquetReader:
    """A Parquet file, from which blocks of rows are taken, best in their order."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        """Raises InvalidDocument."""
        try:
            # A group of rows may be gigabytes: so it is read and unpacked bit by bit.
            self._file = parquet.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER)
        except (pyarrow.ArrowException, OSError) as error:
            raise InvalidDocument(f"{name} is no Parquet, or broken: {str(error).splitlines()[0]}") from None
        self._name = name
        metadata = self._file.metadata
        self._groups = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        self._place = -1
        self._batches: Iterator[Any] = iter(())
        self._rest: Any = None

    @property
    def count(self) -> int:
        """How many rows there are."""
        return sum(self._groups)

    @property
    def columns(self) -> dict[str, str]:
        """The types of all columns; InvalidDocument if two have one name."""
        schema = self._file.schema_arrow
        if len(set(schema.names)) < len(schema.names):
            raise InvalidDocument(f"{self._name} has two columns of one name")
        return {field.name: str(field.type) for field in schema}

    def read(self, first: int, count: int) -> ParquetRows:
        """`count` rows from row `first` on."""
        try:
            if first != self._place:
                self._go(first)
            table = pyarrow.Table.from_batches(list(self._take(count)), self._file.schema_arrow)
        except (pyarrow.ArrowException, OSError) as error:
            raise InvalidDocument(f"{self._name} is broken: {str(error).splitlines()[0]}") from None
        self._place = first + table.num_rows
        return ParquetRows(table)

    def _go(self, first: int) -> None:
        """Stand before a row: in its group, as others need not be read."""
        group = before = 0
        while group < len(self._groups) and before + self._groups[group] <= first:
            before += self._groups[group]
            group += 1
        groups = list(range(group, len(self._groups)))
        self._batches = self._file.iter_batches(_AT_ONCE, row_groups=groups, use_threads=False)
        self._rest = None
        for _ in self._take(first - before):
            pass

    def _take(self, count: int) -> Iterator[Any]:
        while count:
            batch = next(self._batches, None) if self._rest is None else self._rest
            self._rest = None
            if batch is None:
                return
            if batch.num_rows > count:
                batch, self._rest = batch.slice(0, count), batch.slice(count)
            count -= batch.num_rows
            yield batch


def column_of(data: bytes, name: str) -> list[Any]:
    """The values of a column of a Parquet file."""
    return list(parquet.read_table(io.BytesIO(data), columns=[name]).column(name).to_pylist())


def parquet_of(columns: Mapping[str, Sequence[Any]]) -> bytes:
    """A Parquet file of columns of texts, or of lists of them."""
    return _file(pyarrow.table({name: _array(name, values) for name, values in columns.items()}))


def _array(name: str, values: Sequence[Any]) -> Any:
    text = pyarrow.string()
    return pyarrow.array(values, pyarrow.list_(text) if name == "warnings" else text)


def _file(table: Any) -> bytes:
    written = io.BytesIO()
    parquet.write_table(table, written, compression="zstd")
    return written.getvalue()
