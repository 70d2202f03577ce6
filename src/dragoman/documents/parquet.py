"""Parquet tables: columns of texts, all or those that are named. Other columns and what is said of all stay.

Needs pyarrow (`pip install 'dragoman[parquet]'`).
"""

import io
from collections.abc import Sequence
from typing import Any

from dragoman.documents.document import Document, Parts, Segment, renumbered
from dragoman.documents.inline import tagged, untagged
from dragoman.errors import InvalidDocument, InvalidOption

_MOST_BYTES = 1 << 30
"""Of all columns, unpacked."""


def parse(data: bytes, columns: Sequence[str] | None = None) -> Document:
    """A .parquet file. columns: names, or numbers from 1 on; all with texts if None.

    Raises InvalidDocument; InvalidOption without pyarrow, or for a column that isn't there or has no texts.
    """
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError as error:
        raise InvalidOption(
            f"Parquet needs {error.name}, which is not installed: pip install 'dragoman[parquet]'"
        ) from None
    try:
        file = ParquetFile(io.BytesIO(data))
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        size = sum(group.total_byte_size for group in groups)
        if size > _MOST_BYTES:
            raise InvalidDocument(f"the table has {size:,} bytes; at most {_MOST_BYTES:,} are read")
        return Parquet(data, file, _chosen(file.schema_arrow, columns))
    except (pyarrow.ArrowException, OSError, OverflowError) as error:
        raise InvalidDocument(f"the file is no Parquet, or broken: {str(error).splitlines()[0]}") from None


def _chosen(schema: Any, columns: Sequence[str] | None) -> list[str]:
    """The names of the columns to translate."""
    import pyarrow.types as types

    def has_texts(field: Any) -> bool:
        return bool(types.is_string(field.type) or types.is_large_string(field.type))

    if len(set(schema.names)) < len(schema.names):
        raise InvalidDocument("the table has two columns of one name")
    if columns is None:
        return [field.name for field in schema if has_texts(field)]
    chosen = []
    for column in columns:
        number = int(column) - 1 if column.isdecimal() and column not in schema.names else -1
        if column not in schema.names and not 0 <= number < len(schema.names):
            raise InvalidOption(f"the table has no column {column!r}; it has {', '.join(schema.names[:50])}")
        field = schema.field(column if number < 0 else number)
        if not has_texts(field):
            raise InvalidOption(f"column {field.name!r} has no texts, but {field.type}")
        chosen.append(field.name)
    return chosen


class Parquet(Document):
    """A table whose segments are cells."""

    unit = "row"

    def __init__(self, data: bytes, file: Any, columns: Sequence[str]) -> None:
        self._data, self._file, self._columns = data, file, columns
        self.segments: list[Segment] = []
        row = 0
        for group in range(file.metadata.num_row_groups):
            table = file.read_row_group(group, columns=list(columns))
            cells = zip(*(table.column(name).to_pylist() for name in columns), strict=True)
            for number, texts in enumerate(cells, row + 1):
                for name, text in zip(columns, texts, strict=True):
                    if text is not None and any(map(str.isalpha, text)):
                        self.segments.append(Segment(tagged(text), number, name))
            row += table.num_rows

    def render(self, translations: Sequence[Parts | None], language: str | None = None) -> bytes:
        changed = {
            (segment.name, segment.place): untagged(parts)
            for segment, parts in zip(self.segments, translations, strict=True)
            if parts is not None and parts != segment.parts
        }
        if not changed:
            return self._data
        import pyarrow
        from pyarrow.parquet import ParquetWriter

        target = pyarrow.BufferOutputStream()
        schema = self._file.schema_arrow
        with ParquetWriter(target, schema, compression=self._compression()) as writer:
            row = 0
            for group in range(self._file.metadata.num_row_groups):
                table = self._file.read_row_group(group)
                for name in self._columns:
                    texts = table.column(name).to_pylist()
                    new = [changed.get((name, number), text) for number, text in enumerate(texts, row + 1)]
                    field = schema.field(name)
                    column = pyarrow.array(new, type=field.type)
                    table = table.set_column(schema.get_field_index(name), field, column)
                writer.write_table(table, row_group_size=max(table.num_rows, 1))
                row += table.num_rows
        return bytes(target.getvalue())

    def _compression(self) -> dict[str, str]:
        """How each column is packed."""
        metadata = self._file.metadata
        if not metadata.num_row_groups:
            return {}
        columns = [metadata.row_group(0).column(number) for number in range(metadata.num_columns)]
        names = {"UNCOMPRESSED": "NONE"}
        return {one.path_in_schema: names.get(one.compression, one.compression) for one in columns}

    def accepts(self, place: int, parts: Parts) -> bool:
        return renumbered(tagged(untagged(parts))) == renumbered(parts)
