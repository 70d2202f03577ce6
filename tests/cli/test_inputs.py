"""What `dragoman translate` reads and writes: arguments, files, pipes."""

import gzip
import json
import os
import threading
from pathlib import Path

import pytest

LANGUAGES = ("-f", "en", "-t", "es")
LINES = b"Good night.\r\n\nI am tired."


@pytest.fixture
def expected(translator) -> bytes:
    one, two = translator.translate(["Good night.", "I am tired."], "en", "es")
    return f"{one}\r\n\n{two}".encode()


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "in.txt"
    path.write_bytes(LINES)
    return path


@pytest.mark.parametrize(
    "args", [(), ("-",), ("-i", "-"), ("--input=-",), ("-i", "/dev/stdin"), ("-i", "/dev/stdin", "-o", "-")]
)
def test_standard_input_has_many_names(run, expected, args):
    result = run("translate", *LANGUAGES, *args, stdin=LINES)
    assert (result.code, result.raw, result.err) == (0, expected, "")


def test_a_file_or_pipe_is_read_by_lines(run, expected, file, tmp_path):
    assert run("translate", *LANGUAGES, "-i", file).raw == expected
    packed = tmp_path / "in.txt.gz"
    packed.write_bytes(gzip.compress(LINES))
    assert run("translate", *LANGUAGES, "-i", packed).raw == expected
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(LINES,))
    writer.start()
    assert run("translate", *LANGUAGES, "-i", pipe).raw == expected
    writer.join()


def test_file_to_file(run, expected, file, tmp_path):
    target = tmp_path / "out.txt"
    result = run("translate", *LANGUAGES, "-i", file, "-o", target)
    # No bar either: standard error is no terminal here.
    assert (result.code, result.raw, result.err) == (0, b"", "")
    assert target.read_bytes() == expected
    assert set(tmp_path.iterdir()) == {file, target}


def test_a_file_may_be_translated_into_itself(run, expected, file, tmp_path):
    assert run("translate", *LANGUAGES, "-i", file, "-o", file).code == 0
    assert file.read_bytes() == expected


def test_input_without_any_text_is_no_error(run, tmp_path):
    path, out = tmp_path / "empty.txt", tmp_path / "out.txt"
    for content in (b"\n\n", b""):
        path.write_bytes(content)
        assert run("translate", *LANGUAGES, stdin=content).raw == content
        assert run("translate", *LANGUAGES, "-i", path, "-o", out).code == 0
        assert out.read_bytes() == content
    blank = run("translate", "-t", "fr", stdin=b"\n\n")
    assert (blank.code, blank.out, blank.err) == (0, "\n\n", "")


def test_what_was_done_before_a_failure_is_kept_and_its_place_is_said(run, translator, tmp_path, monkeypatch):
    source, target = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_bytes(b"Good night.\n" * 300)
    real = translator.stream

    def interrupted(texts, **options):
        for number, result in enumerate(real(texts, **options)):
            if number == 200:
                raise KeyboardInterrupt
            yield result

    with monkeypatch.context() as patch:
        patch.setattr(translator, "stream", interrupted)
        result = run("translate", *LANGUAGES, "--no-job", "-i", source, "-o", target)
    assert result.code == 130
    (part,) = tmp_path.glob("out.txt.*.part")
    assert result.err == f"interrupted\nwhat was done (200 lines) is in {part}\n"
    assert part.read_bytes().count(b"\n") == 200
    assert not target.exists()
    again = run("translate", *LANGUAGES, "-i", source, "-o", target)
    assert again.code == 0
    assert f"note: {part} holds what an earlier run did" in again.err
    assert part.read_bytes().count(b"\n") == 200


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_is_one_line_that_names_the_file(run, file):
    result = run("translate", *LANGUAGES, "-i", file, "-o", "/dev/full")
    assert (result.code, result.err) == (2, "error: No space left on device: /dev/full\n")


def test_the_name_of_a_file_of_no_format_is_probably_meant_as_input(run, file):
    file = file.rename(file.with_suffix(".log"))
    result = run("translate", *LANGUAGES, str(file))
    assert result.code == 0
    assert f"its lines with: --input {file}" in result.err


def test_words_without_quotation_marks_are_probably_one_text(run):
    assert "3 texts of one word each" in run("translate", *LANGUAGES, "Where", "are", "you?").err
    assert run("translate", *LANGUAGES, "Where are you?", "Yes.").err == ""
    assert run("translate", *LANGUAGES, "Yes.").err == ""


def test_a_line_that_fails_stays_as_it_was(run, translator, monkeypatch):
    from dragoman.errors import UnknownLanguage

    real = translator.system.measure

    def measure(text: str, *rest: object) -> int:
        if "tired" in text:
            raise UnknownLanguage("not this one")
        return real(text, *rest)

    monkeypatch.setattr(translator.system, "measure", measure)
    result = run("translate", *LANGUAGES, stdin=LINES)
    assert result.code == 1
    assert result.out.endswith("\r\n\nI am tired.")
    assert "line 3: not this one" in result.err
    records = [json.loads(line) for line in run("translate", *LANGUAGES, "--json", stdin=LINES).lines]
    assert records[2] == {"line": 3, "source_text": "I am tired.", "error": "not this one"}
