"""Blocks of rows out of the files of a plan."""

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice

from dragoman.bulk.formats import CSV, JSONL, PARQUET, unpacked
from dragoman.bulk.lines import Row, begin, read_rows
from dragoman.bulk.places import look_at, open_file
from dragoman.bulk.plan import Block, Plan, PlannedFile
from dragoman.bulk.rows import JsonRows, LineRows, Rows
from dragoman.errors import InvalidDocument


class Reader:
    """Reads blocks. Those that come in the order of their file cost nothing but themselves."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._open: tuple[int, LineFile | TableFile] | None = None

    def read(self, block: Block) -> Rows:
        """The rows of a block. Raises OSError, and InvalidDocument if the file isn't what it was."""
        if self._open is None or self._open[0] != block.file:
            self.close()
            self.check(block)
            file = self._plan.files[block.file]
            self._open = (
                block.file,
                (TableFile if file.format == PARQUET else LineFile)(file, self._plan.block),
            )
        rows = self._open[1].read(block)
        if len(rows) != block.rows:
            raise InvalidDocument(f"{self._plan.files[block.file].path} was changed meanwhile; run again")
        return rows

    def check(self, block: Block) -> None:
        """Raises InvalidDocument if the file of a block was changed since the plan was made, and OSError."""
        file = self._plan.files[block.file]
        now = look_at(file.path)
        if now.size != file.size:
            what = f"it had {file.size:,} bytes, now {now.size:,}"
        elif now.changed != file.changed:
            what = f"its version or time of change was {file.changed}, now {now.changed}"
        else:
            return
        raise InvalidDocument(f"{file.path} was changed meanwhile ({what}); run again with --force")

    def close(self) -> None:
        """Let the file go."""
        if self._open is not None:
            self._open[1].close()
            self._open = None


class TableFile:
    """A Parquet file."""

    def __init__(self, file: PlannedFile, block: int) -> None:
        from dragoman.bulk.tables import ParquetReader

        self._block = block
        self._file = open_file(file.path)
        self._reader = ParquetReader(self._file, file.path)

    def read(self, block: Block) -> Rows:
        return self._reader.read(block.number * self._block, block.rows)

    def close(self) -> None:
        self._file.close()


class LineFile:
    """A file of lines."""

    def __init__(self, file: PlannedFile, block: int) -> None:
        self._facts, self._block = file, block
        self._held = ExitStack()
        self._rows: Iterator[Row] = iter(())
        self._next: int | None = None

    def read(self, block: Block) -> Rows:
        if self._next != block.number:
            self._go(block.number)
        rows = list(islice(self._rows, block.rows))
        self._next = block.number + 1
        facts = self._facts
        if facts.format == JSONL:
            return JsonRows(rows)
        return LineRows(rows, facts.names, facts.separator, facts.end)

    def close(self) -> None:
        self._held.close()

    def _go(self, number: int) -> None:
        """Stand before a block: at once, or by way of all rows before it where the file is compressed."""
        facts = self._facts
        known = facts.starts
        if not known and self._next is not None and number > self._next:
            self._skip((number - self._next) * self._block)
            return
        self._held.close()
        file = self._held.enter_context(open_file(facts.path))
        source = unpacked(file, facts.compression)
        if known:
            file.seek(known[number])
        else:
            with open_file(facts.path) as beginning:
                _, mark = begin(unpacked(beginning, facts.compression), facts.path)
            source.read(mark)
        self._rows = read_rows(source, facts.path, facts.format, facts.separator or ",")
        if not known:
            self._skip((facts.format == CSV) + number * self._block)

    def _skip(self, count: int) -> None:
        for _ in islice(self._rows, count):
            pass
