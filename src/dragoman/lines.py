"""Lines of text from files, pipes and terminals, each as soon as it has arrived.

The bytes are read from the descriptor. A thread that waits inside `sys.stdin` holds its lock, and
an interpreter that ends meanwhile dies of it; one that waits here can be woken and left behind.
"""

import codecs
import contextlib
import os
import select
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dragoman.errors import InvalidOption, InvalidText

BLOCK = 1 << 16
GZIP = b"\x1f\x8b\x08"

# UTF-32 before UTF-16: the mark of one begins with that of the other.
_ENCODINGS: tuple[tuple[bytes, str, int], ...] = (
    (codecs.BOM_UTF8, "utf-8", 1),
    (codecs.BOM_UTF32_LE, "utf-32-le", 4),
    (codecs.BOM_UTF32_BE, "utf-32-be", 4),
    (codecs.BOM_UTF16_LE, "utf-16-le", 2),
    (codecs.BOM_UTF16_BE, "utf-16-be", 2),
)
_NO_TEXTS: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "a zip archive, or a document such as .docx, .odt or .epub", "save it as plain text"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a document of an older office program", "save it as plain text"),
    (b"%PDF-", "a PDF document", "take the text out of it, e.g. with pdftotext"),
    (b"\xfd7zXZ\x00", "compressed by xz", "uncompress it with xz --decompress"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "uncompress it with zstd --decompress"),
    *(
        (b"BZh%d1AY&SY" % level, "compressed by bzip2", "uncompress it with bzip2 --decompress")
        for level in range(1, 10)
    ),
)
_MARKS = (GZIP, *(mark for mark, *_ in _ENCODINGS), *(mark for mark, *_ in _NO_TEXTS))


@dataclass(frozen=True)
class Line:
    """One line of an input."""

    number: int
    """From 1 on."""
    text: str | InvalidText
    """Without its line end; or why it is none."""
    end: str
    r"""What ended it: "\n", "\r\n", or, at the end of the input, "\r" or nothing."""
    position: int
    """How many bytes of the input had been read when it was complete."""


class Lines(Iterator[Line]):
    """The lines of an input, each as soon as it is complete.

    UTF-8, or UTF-16 and UTF-32 with a byte order mark, and any of these compressed by gzip. A line
    that can't be decoded is one with an error; InvalidText is raised where the input as a whole is no text.
    One thread may iterate, any other may `close`, which ends the iteration even while it waits.
    """

    def __init__(self, descriptor: int, name: str, owned: bool = False) -> None:
        """name: what to call the input in errors; owned: close the descriptor in the end."""
        self.name = name
        self._source = _Source(descriptor, name, owned)
        self._lines = self._decoded()

    @classmethod
    def of_file(cls, path: Path) -> "Lines":
        """The lines of a file, device or pipe. Raises InvalidOption if it can't be opened."""
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise InvalidOption(f"{path} can't be read: {error.strerror}") from None
        return cls(descriptor, str(path), owned=True)

    def __next__(self) -> Line:
        return next(self._lines)

    def close(self) -> None:
        """Read no more; a thread that waits for the next line finds the input at its end."""
        self._source.close()

    def _decoded(self) -> Iterator[Line]:
        read: Callable[[], bytes] = self._source.read
        head = _head(read)
        if head.startswith(GZIP):
            read = _Gunzip(head, read, self.name).read
            head = _head(read)
        for mark, kind, advice in _NO_TEXTS:
            if head.startswith(mark):
                raise InvalidText(f"{self.name} is no text but {kind}; {advice}")
        mark, encoding, width = next(
            (found for found in _ENCODINGS if head.startswith(found[0])), (b"", "utf-8", 1)
        )
        offset = len(mark)
        for number, line in enumerate(_split(head[offset:], read, "\n".encode(encoding), width), 1):
            text, end = _decode(line, encoding, offset)
            yield Line(number, text, end, self._source.position)
            offset += len(line)


class _Source:
    """A descriptor to read from."""

    def __init__(self, descriptor: int, name: str, owned: bool) -> None:
        self._descriptor, self._name, self._owned = descriptor, name, owned
        self._waiting, self._waking = os.pipe()
        self._lock = threading.Lock()
        self._closed = False
        self.position = 0

    def read(self) -> bytes:
        """The bytes that have arrived, at least one; nothing at the end."""
        while not self._closed:
            try:
                self._wait()
                if self._closed:
                    break
                block = os.read(self._descriptor, BLOCK)
            except BlockingIOError:  # somebody made it non-blocking, and another reader was faster
                continue
            except OSError as error:
                error.filename = self._name
                raise
            self.position += len(block)
            return block
        return b""

    def _wait(self) -> None:
        if sys.platform != "win32":  # which can only wait for sockets
            select.select([self._descriptor, self._waiting], [], [])

    def close(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                os.write(self._waking, b"\0")

    def __del__(self) -> None:
        # Not in `close`: a thread may still wait for the descriptors, whose numbers would be given away.
        with contextlib.suppress(AttributeError, OSError):
            os.close(self._waiting)
            os.close(self._waking)
        if self._owned:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)


class _Gunzip:
    """What gzip compressed, in blocks of a bounded size; one file may follow another."""

    def __init__(self, head: bytes, read: Callable[[], bytes], name: str) -> None:
        self._pending, self._source = head, read
        self._name = f"{name}, which gzip compressed,"
        self._inflate = zlib.decompressobj(wbits=31)

    def read(self) -> bytes:
        while True:
            if not self._pending:
                self._pending = self._source()
            if self._inflate.eof and self._pending:
                self._inflate = zlib.decompressobj(wbits=31)
            if not self._pending:
                if not self._inflate.eof:
                    raise InvalidText(f"{self._name} ends too early; it is not whole")
                return b""
            try:
                block = self._inflate.decompress(self._pending, BLOCK)
            except zlib.error as error:
                raise InvalidText(f"{self._name} is damaged ({error})") from None
            self._pending = self._inflate.unused_data or self._inflate.unconsumed_tail
            if block:
                return block


def _head(read: Callable[[], bytes]) -> bytes:
    """The first bytes, as many as tell what they are; no more is waited for than that takes."""
    head = b""
    while any(len(head) < len(mark) and mark.startswith(head) for mark in _MARKS):
        block = read()
        head += block
        if not block:
            break
    return head


def _split(head: bytes, read: Callable[[], bytes], newline: bytes, width: int) -> Iterator[bytes]:
    """The lines of `head` and what follows it, with their ends; `width` is that of a code unit."""
    buffer, searched = bytearray(head), 0
    while True:
        start = 0
        while (found := buffer.find(newline, searched)) >= 0:
            if found % width:
                searched = found + 1
                continue
            searched = found + width
            yield bytes(buffer[start:searched])
            start = searched
        del buffer[:start]
        # A newline may have begun in the last bytes.
        searched = max(len(buffer) - width + 1, 0)
        block = read()
        if not block:
            break
        buffer += block
    if buffer:
        yield bytes(buffer)


def _decode(line: bytes, encoding: str, offset: int) -> tuple[str | InvalidText, str]:
    """A line's text, or why it has none, and its end. offset: how many bytes came before it."""
    try:
        text = line.decode(encoding)
    except UnicodeDecodeError as error:
        end = next((end for end in ("\r\n", "\n") if line.endswith(end.encode(encoding))), "")
        return InvalidText(_undecodable(line, encoding, error)), end
    body = text.removesuffix("\n").removesuffix("\r")
    end = text[len(body) :]
    if "\0" in body:
        return InvalidText(_no_text(line, encoding, offset)), end
    return body, end


def _undecodable(line: bytes, encoding: str, error: UnicodeDecodeError) -> str:
    if encoding != "utf-8":
        return f"not {encoding.upper()}, which the input's byte order mark announces ({error.reason})"
    return (
        f"not UTF-8 (byte 0x{line[error.start]:02x} at column {error.start + 1}); convert the input, "
        "e.g. if it is Western European with: iconv -f windows-1252 -t utf-8"
    )


def _no_text(line: bytes, encoding: str, offset: int) -> str:
    said = "holds NUL characters, which are no text"
    if encoding != "utf-8":
        return said
    # Where the zeros of ordinary letters lie tells the width and order of the code units.
    zeros = [offset + place for place, byte in enumerate(line) if not byte]
    if b"\0\0\0" in line:
        guess = "utf-32be" if any(zero % 4 == 0 for zero in zeros) else "utf-32le"
    else:
        guess = "utf-16be" if sum(zero % 2 == 0 for zero in zeros) * 2 > len(zeros) else "utf-16le"
    return (
        f"{said}; if the input is {guess[:6].upper()} without a byte order mark, convert it with: "
        f"iconv -f {guess} -t utf-8"
    )
