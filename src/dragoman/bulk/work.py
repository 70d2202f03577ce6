"""One block from its rows to its file. Any number of processes may do different ones."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from dragoman.bulk.formats import JSONL, TEXT
from dragoman.bulk.order import Order
from dragoman.bulk.places import Folder
from dragoman.bulk.plan import Block, Plan, new_columns
from dragoman.bulk.reading import Reader
from dragoman.bulk.rows import Added, as_json, errors_in
from dragoman.bulk.translating import Progress, RowResult, RowTranslator

if TYPE_CHECKING:
    from dragoman.translation.translator import Translator


@dataclass(frozen=True)
class Counts:
    """What was done of a block, in numbers."""

    rows: int = 0
    sentences: int = 0
    failed: int = 0
    """Rows with an error."""
    warned: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def __add__(self, other: Self) -> "Counts":
        return Counts(
            self.rows + other.rows,
            self.sentences + other.sentences,
            self.failed + other.failed,
            self.warned + other.warned,
            self.seconds + other.seconds,
            self.cpu_seconds + other.cpu_seconds,
        )


def failures(folder: Folder, block: Block, plan: Plan) -> int:
    """How many rows of a block that is done have an error."""
    file = plan.files[block.file]
    if file.output == TEXT:
        return errors_in(folder.read(f"{block.name}.errors.jsonl") or b"", JSONL)
    return errors_in(folder.read(block.name) or b"", file.output, file.separator)


class Worker:
    """Does blocks with a loaded model."""

    def __init__(
        self, translator: "Translator", order: Order, plan: Plan, fallback: "Translator | None" = None
    ) -> None:
        self._rows = RowTranslator(translator, order, fallback)
        self._order, self._plan = order, plan
        self._reader, self._folder = Reader(plan), Folder(order.output)
        self._new = new_columns([target.short_code for target in order.targets])

    def run(self, block: Block, progress: Progress | None = None) -> Counts:
        """Translate a block and write its file. Raises OSError and DragomanError; then there is none."""
        began, cpu = time.monotonic(), time.process_time()
        rows = self._reader.read(block)
        order = self._order
        sources = rows.cells(order.source_column) if order.source_column else None
        results = self._rows.translate(rows.cells(order.column), sources, progress)
        format = self._plan.files[block.file].output
        data = rows.render(format, self._added(results))
        self._reader.check(block)
        if (
            format == TEXT
        ):  # which has no room for them, so they come first: the block's file says that it is done
            self._write_errors(block, results)
        self._folder.write(block.name, data)
        return Counts(
            len(results),
            sum(result.sentences for result in results),
            sum(result.error is not None for result in results),
            sum(bool(result.warnings) for result in results),
            time.monotonic() - began,
            time.process_time() - cpu,
        )

    def close(self) -> None:
        """Let the input go."""
        self._reader.close()

    def _added(self, results: Sequence[RowResult]) -> Added:
        translations = zip(*(result.translations for result in results), strict=True)
        columns: list[list[str | list[str] | None]] = [list(values) for values in translations]
        columns += [
            [result.source for result in results],
            [list(result.warnings) or None for result in results],
            [result.error for result in results],
        ]
        return dict(zip(self._new, columns, strict=True))

    def _write_errors(self, block: Block, results: Sequence[RowResult]) -> None:
        said = [
            as_json({"row": number, "error": result.error}) + b"\n"
            for number, result in enumerate(results, 1)
            if result.error is not None
        ]
        if said:
            self._folder.write(f"{block.name}.errors.jsonl", b"".join(said))
