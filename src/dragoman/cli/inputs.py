"""What a command is to read: arguments, a file, or standard input."""

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dragoman.cli.messages import say
from dragoman.errors import InvalidOption, InvalidText
from dragoman.lines import Lines

STREAM = "-"
"""Standard input as a text or file, standard output as a file."""


@dataclass(frozen=True)
class Item:
    """A text to translate and where it came from."""

    number: int
    """From 1 on: which line, or which of the arguments."""
    text: str | InvalidText
    """The text; or why there is none."""
    end: str
    """What followed it, and follows its translation."""
    position: int = 0
    """How many bytes of the input had been read with it."""


class Input:
    """The texts of a command, in their order."""

    def __init__(
        self,
        lines: Lines | None,
        arguments: Sequence[str] = (),
        size: int | None = None,
        path: str | None = None,
    ) -> None:
        """lines: what is read, if it isn't the arguments; size: of the file in bytes, if it has one.

        path: of the file, if it can be read again.
        """
        self._lines, self._arguments, self.size, self.path = lines, arguments, size, path
        self.unit = "text" if lines is None else "line"
        """What to call one of them."""

    def __iter__(self) -> Iterator[Item]:
        if self._lines is None:
            yield from (Item(number, text, "\n") for number, text in enumerate(self._arguments, 1))
        else:
            yield from (Item(line.number, line.text, line.end, line.position) for line in self._lines)

    def close(self) -> None:
        """Read no more, also in a thread that waits for more."""
        if self._lines is not None:
            self._lines.close()

    def __enter__(self) -> "Input":
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()


def open_input(texts: Sequence[str] | None, file: str | None) -> Input:
    """What is to be translated: `texts`, the lines of `file`, or else those of standard input.

    A "-" stands for standard input. Raises InvalidOption if that is contradictory or can't be read.
    """
    if texts and file is not None:
        raise InvalidOption("give texts or --input, not both")
    if file is not None and file != STREAM:
        return _open_file(file)
    if texts and list(texts) != [STREAM]:
        if STREAM in texts:
            raise InvalidOption("'-' stands for standard input, so it can't be one of several texts")
        _hint(texts)
        return Input(None, texts)
    return Input(standard_input())


def standard_input() -> Lines:
    """The lines of standard input; a person at a terminal is told that they are awaited."""
    if sys.stdin is None:  # and 0 would be the next file that is opened
        raise InvalidOption("standard input is closed; give texts or --input")
    if os.isatty(0):
        say("reading standard input; end with Ctrl-D")
    return Lines(0, "standard input")


def _open_file(file: str) -> Input:
    path = Path(file)
    try:
        found = path.stat()
    except OSError as error:
        raise InvalidOption(f"--input {file} can't be read: {error.strerror}") from None
    if stat.S_ISDIR(found.st_mode):
        raise InvalidOption(f"--input {file} is a folder; give one of its files")
    if not stat.S_ISREG(found.st_mode):
        return Input(Lines.of_file(path))
    return Input(Lines.of_file(path), size=found.st_size, path=file)


def _hint(texts: Sequence[str]) -> None:
    """Say what was probably meant; what was said is done all the same."""
    if len(texts) == 1 and _is_file(texts[0]):
        say(f"note: {texts[0]} is a file, and its name is translated; its lines with: --input {texts[0]}")
    elif len(texts) > 1 and all(len(text.split()) == 1 for text in texts):
        say(f"note: these are {len(texts)} texts of one word each; put a sentence in quotation marks")


def _is_file(text: str) -> bool:
    try:
        return os.path.isfile(text)
    except ValueError:  # a NUL, or a lone surrogate
        return False


def read_all(text: str | None) -> str:
    """`text`, or for none or "-" all of standard input, without the line end at its end."""
    if text is not None and text != STREAM:
        return text
    read = []
    for line in standard_input():
        if isinstance(line.text, InvalidText):
            raise InvalidText(f"standard input, line {line.number}: {line.text}")
        read.append(line.text + line.end)
    return "".join(read).removesuffix("\n").removesuffix("\r")
