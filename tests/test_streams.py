"""Lines in and out."""

import io
import os

import pytest

from dragoman.errors import InvalidText
from dragoman.streams import available_lines, decode_line


@pytest.mark.parametrize(
    ("line", "number", "text"),
    [(b"a\n", 2, "a"), (b"a\r\n", 2, "a"), (b"a", 2, "a"), (b"\xef\xbb\xbfa\n", 1, "a"), (b"", 3, "")],
)
def test_line_breaks_and_byte_order_mark_are_no_text(line, number, text):
    assert decode_line(line, number) == text


@pytest.mark.parametrize("line", [b"\xff\xfeh\x00", b"caf\xe9", b"\xed\xa0\x80"])
def test_other_encodings_are_errors_with_the_line_number(line):
    error = decode_line(line, 7)
    assert isinstance(error, InvalidText)
    assert str(error).startswith("line 7 is not UTF-8")


def test_all_lines_come_in_order_and_bounded_groups():
    lines = [f"{i}\n".encode() for i in range(1000)]
    groups = list(available_lines(io.BytesIO(b"".join(lines)), 64))
    assert [line for group in groups for line in group] == lines
    assert max(map(len, groups)) <= 64


def test_slow_writer_is_answered_at_once():
    read, write = os.pipe()
    with os.fdopen(read, "rb") as source:
        groups = available_lines(source, 64)
        with os.fdopen(write, "wb", buffering=0) as pipe:
            pipe.write(b"first\n")
            assert next(groups) == [b"first\n"]
            pipe.write(b"second\n")
            assert next(groups) == [b"second\n"]
        assert list(groups) == []


def test_reading_error_reaches_the_caller():
    class Broken(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, buffer):
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        list(available_lines(io.BufferedReader(Broken()), 4))
