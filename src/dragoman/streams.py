"""Lines in and out of files and pipes."""

import queue
import threading
from collections.abc import Iterator
from typing import BinaryIO

from dragoman.errors import InvalidText


def decode_line(line: bytes, number: int) -> str | InvalidText:
    """A line's text without its line break, or why it has none; a file's byte order mark is dropped."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        return InvalidText(
            f"line {number} is not UTF-8 (byte 0x{line[error.start]:02x} at column {error.start + 1}); "
            "convert the input, e.g. with: iconv -f latin1 -t utf-8"
        )
    if number == 1:
        text = text.removeprefix("\ufeff")
    return text.removesuffix("\n").removesuffix("\r")


def available_lines(stream: BinaryIO, most: int) -> Iterator[list[bytes]]:
    """The lines of a pipe in groups: whatever has arrived, at least one line, at most `most`.

    A slow writer gets its answers line by line, a fast one in full batches.
    """
    lines: queue.Queue[bytes | OSError | None] = queue.Queue(maxsize=4 * most)

    def read() -> None:
        try:
            for line in stream:
                lines.put(line)
        except OSError as error:
            lines.put(error)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        group: list[bytes] = []
        item = lines.get()
        while isinstance(item, bytes):
            group.append(item)
            if len(group) == most or lines.empty():
                break
            item = lines.get()
        if group:
            yield group
        if isinstance(item, OSError):
            raise item
        if item is None:
            return
