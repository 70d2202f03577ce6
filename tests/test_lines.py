"""Lines of text from files, pipes and terminals."""

import gzip
import os
import threading
import time

import pytest

from dragoman.errors import InvalidOption, InvalidText
from dragoman.lines import BLOCK, Lines


def lines_of(tmp_path, content: bytes) -> list[tuple[object, str]]:
    path = tmp_path / "in.txt"
    path.write_bytes(content)
    return [(line.text, line.end) for line in Lines.of_file(path)]


def test_lines_keep_their_ends_and_the_last_its_lack_of_one(tmp_path):
    assert lines_of(tmp_path, b"a\nb\r\n\nc\r\r\n d") == [
        ("a", "\n"),
        ("b", "\r\n"),
        ("", "\n"),
        ("c\r", "\r\n"),
        (" d", ""),
    ]
    assert lines_of(tmp_path, b"") == []
    assert lines_of(tmp_path, b"\n") == [("", "\n")]
    assert lines_of(tmp_path, b"a\r") == [("a", "\r")]


TEXT = "Où est la gare ?\r\nਗੁਰਮੁਖੀ \u0a0d\u0d0a\u0a00 😀\n\nlast"  # U+0A0D and its like hold a newline's byte
WANTED = [("Où est la gare ?", "\r\n"), ("ਗੁਰਮੁਖੀ \u0a0d\u0d0a\u0a00 😀", "\n"), ("", "\n"), ("last", "")]


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]
)
def test_byte_order_marks_and_gzip_are_read(tmp_path, encoding, compress):
    mark = "\ufeff" if encoding[-2:] in ("le", "be") else ""
    content = (mark + TEXT).encode(encoding)
    assert lines_of(tmp_path, compress(content)) == WANTED


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-32-be"])
def test_what_arrives_in_pieces_of_any_size_gives_the_same_lines(encoding, size):
    content = ("\ufeff" + TEXT).encode(encoding)
    for data in (content, gzip.compress(content, mtime=0)):
        read, write = os.pipe()
        lines = Lines(read, "pipe", owned=True)
        found = []
        reader = threading.Thread(target=lambda lines=lines, found=found: found.extend(lines))
        reader.start()
        for start in range(0, len(data), size):
            os.write(write, data[start : start + size])
            time.sleep(0)
        os.close(write)
        reader.join()
        assert [(line.text, line.end) for line in found] == WANTED


def test_gzip_files_one_behind_the_other_and_long_lines(tmp_path):
    long = "x" * (3 * BLOCK)
    content = gzip.compress(f"{long}\n".encode()) + gzip.compress(b"b\n", mtime=0)
    assert lines_of(tmp_path, content) == [(long, "\n"), ("b", "\n")]


def test_positions_grow_to_the_size_of_the_file(tmp_path):
    path = tmp_path / "in.txt"
    path.write_bytes(b"some text\n" * 20_000)
    positions = [line.position for line in Lines.of_file(path)]
    assert positions == sorted(positions)
    assert positions[-1] == 200_000
    assert positions[0] <= BLOCK


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"caf\xe9\n", r"not UTF-8 \(byte 0xe9 at column 4\).*iconv -f windows-1252"),
        (b"\xed\xa0\x80\n", "not UTF-8"),
        ("Hallo\n".encode("utf-16-le"), "NUL characters.*iconv -f utf-16le"),
        ("Hallo\n".encode("utf-16-be"), "NUL characters.*iconv -f utf-16be"),
        ("Hallo\n".encode("utf-32-le"), "NUL characters.*iconv -f utf-32le"),
        ("Hallo\n".encode("utf-32-be"), "NUL characters.*iconv -f utf-32be"),
        ("\ufeffab\0c\n".encode("utf-16-le"), "NUL characters, which are no text$"),
        (
            "\ufeff".encode("utf-16-le") + b"\x00\xd8\n\x00",
            "not UTF-16-LE, which the input's byte",
        ),
    ],
)
def test_a_line_that_is_no_text_is_an_error_with_advice(tmp_path, content, message):
    (error, _), *_ = lines_of(tmp_path, content)
    assert isinstance(error, InvalidText)
    with pytest.raises(InvalidText, match=message):
        raise error


def test_every_line_of_utf16_without_a_mark_gets_the_same_advice(tmp_path):
    errors = [text for text, _ in lines_of(tmp_path, "Hallo\nWelt\nEnde".encode("utf-16-le"))]
    assert len(errors) == 3
    assert len({str(error) for error in errors}) == 1


def test_bad_lines_have_neighbours(tmp_path):
    found = lines_of(tmp_path, b"a\n\xff\r\nb\n")
    assert found[0] == ("a", "\n")
    assert found[1][1] == "\r\n"
    assert found[2] == ("b", "\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04....", "no text but a zip archive.*save it as plain text"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"BZh91AY&SY..", "compressed by bzip2; uncompress it"),
        (b"\xfd7zXZ\x00..", "compressed by xz"),
        (gzip.compress(b"some text\n" * 100, mtime=0)[:-12], "ends too early"),
        (b"\x1f\x8b\x08" + b"\xff" * 50, "is damaged"),
    ],
)
def test_what_is_no_text_at_all_is_named(tmp_path, content, message):
    with pytest.raises(InvalidText, match=rf"in\.txt,? .*{message}"):
        lines_of(tmp_path, content)


def test_the_beginning_of_a_mark_is_text_when_no_more_comes(tmp_path):
    for text in ("P", "%P", "BZh", "BZhang\n"):
        assert lines_of(tmp_path, text.encode())[0][0] == text.strip()


def test_a_line_comes_as_soon_as_it_is_complete():
    read, write = os.pipe()
    lines = Lines(read, "pipe", owned=True)
    for text in ("P", "second"):  # "P" may begin a zip archive; its newline says that it doesn't
        os.write(write, f"{text}\n".encode())
        assert next(lines).text == text
    os.close(write)
    assert list(lines) == []


def test_closing_wakes_the_thread_that_waits():
    read, write = os.pipe()
    lines = Lines(read, "pipe", owned=True)
    found = []
    reader = threading.Thread(target=lambda: found.extend(lines))
    reader.start()
    os.write(write, b"first\nhalf")
    lines.close()
    lines.close()
    reader.join()
    assert [line.text for line in found] in ([], ["first", "half"])
    os.close(write)


def test_reading_errors_name_the_input():
    descriptor = os.open("/", os.O_RDONLY)
    with pytest.raises(OSError, match="standard input"):
        list(Lines(descriptor, "standard input", owned=True))


def test_a_file_that_cannot_be_opened_is_refused(tmp_path):
    with pytest.raises(InvalidOption, match=r"no-such can't be read: No such file"):
        Lines.of_file(tmp_path / "no-such")


def test_a_descriptor_that_does_not_block_is_waited_for():
    read, write = os.pipe()
    os.set_blocking(read, False)
    lines = Lines(read, "pipe", owned=True)
    threading.Timer(0.05, lambda: (os.write(write, b"late\n"), os.close(write))).start()
    assert [line.text for line in lines] == ["late"]
