"""Bytes to text and back, so that the same text gives the same bytes."""

import codecs
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from dragoman.errors import InvalidDocument

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

_CHUNK = 1 << 20
"""Characters that are encoded at once."""


@dataclass(frozen=True)
class Encoded:
    """A file's bytes and its text."""

    data: bytes
    text: str
    encoding: str
    mark: bytes = b""
    """A byte order mark before the text."""
    escape: Callable[[str], str] | None = None
    """How the format writes characters that its encoding lacks."""

    def encode(self, pieces: Iterable[str]) -> bytes:
        """A text in pieces as the bytes of such a file. Raises InvalidDocument for what it can't hold."""
        # Piece by piece, as a large text with all of its pieces beside it would take its room twice.
        made = [self.mark, *map(self._encoded, _joined(pieces))]
        return b"".join(made)

    def _encoded(self, text: str) -> bytes:
        try:
            return text.encode(self.encoding)
        except UnicodeEncodeError as error:
            if self.escape is None:
                lacking = text[error.start : error.start + 1]
                raise InvalidDocument(
                    f"the translation has {lacking!r}, which {self.encoding} lacks; convert the file to UTF-8"
                ) from None
        return "".join(map(self._fitting, text)).encode(self.encoding)

    def _fitting(self, character: str) -> str:
        assert self.escape is not None
        try:
            character.encode(self.encoding)
        except UnicodeEncodeError:
            return self.escape(character)
        return character


def _joined(pieces: Iterable[str]) -> Iterator[str]:
    """The same in pieces of some size."""
    waiting: list[str] = []
    length = 0
    for piece in pieces:
        waiting.append(piece)
        length += len(piece)
        if length >= _CHUNK:
            yield "".join(waiting)
            waiting, length = [], 0
    yield "".join(waiting)


def decode(data: bytes, declared: str | None = None, escape: Callable[[str], str] | None = None) -> Encoded:
    """The text of a file: as its byte order mark says, else in the encoding it declares, else UTF-8.

    Raises InvalidDocument if it isn't that.
    """
    mark, encoding = next(
        ((mark, encoding) for mark, encoding in _MARKS if data.startswith(mark)), (b"", declared or "utf-8")
    )
    try:
        name = codecs.lookup(encoding).name
        text = data[len(mark) :].decode(name)
    except LookupError:
        raise InvalidDocument(f"the file says its encoding is {encoding!r}, which is none we know") from None
    except UnicodeDecodeError as error:
        raise InvalidDocument(
            f"byte {error.start + len(mark) + 1} of the file is no {encoding}; convert it to UTF-8 first"
        ) from None
    if "\x00" in text:
        raise InvalidDocument("the file has NUL characters, so it is no text; is its extension right?")
    found = Encoded(data, text, name, mark, escape)
    if mark + text.encode(name) != data:  # such as UTF-7, in which there are many ways to write a letter
        raise InvalidDocument(f"the file's {encoding} can't be written as it was; convert it to UTF-8 first")
    return found
