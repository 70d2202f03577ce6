"""The command line, in this process but for what only a process can show."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from dragoman import cli
from dragoman.translation.translator import Translator


class Result:
    def __init__(self, code: int, out: bytes, err: str) -> None:
        self.code, self.out, self.err = code, out.decode(), err

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@pytest.fixture
def run(translator, monkeypatch, capsysbinary):
    """Run `dragoman ARGS` with `stdin`; the embedded model is loaded once for all tests."""
    monkeypatch.setattr(Translator, "load", classmethod(lambda cls, *args, **options: translator))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("COLUMNS", "200")

    def run(*args: str, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "argv", ["dragoman", *args])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsysbinary.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        out, err = capsysbinary.readouterr()
        return Result(code, out, err.decode())

    return run


def test_translates_its_arguments(run, translator):
    result = run("translate", "--from", "en", "--to", "fr", "Good night.", "I am tired.")
    assert result.code == 0
    assert result.lines == translator.translate(["Good night.", "I am tired."], "en", "fr")
    assert result.err == ""


def test_detects_the_language_and_says_so(run, translator):
    result = run("translate", "Ich weiß es nicht.")
    assert result.lines == [translator.translate("Ich weiß es nicht.", "de", "en")]
    assert "detected: German (deu_Latn)" in result.err


def test_english_without_target_asks_for_one(run):
    result = run("translate", "This is an English sentence.")
    assert result.code == 2
    assert "--to de, es, fr, nl" in result.err


def test_target_defaults_to_the_locale(run, monkeypatch, translator):
    monkeypatch.setenv("LC_ALL", "es_ES.UTF-8")
    result = run("translate", "--from", "en", "Good night.")
    assert result.lines == [translator.translate("Good night.", "en", "es")]


def test_standard_input_gives_a_line_for_each_line(run, translator):
    result = run("translate", "-f", "en", "-t", "de", stdin=b"Good night.\n\nI am tired.\r\nYes.")
    expected = translator.translate(["Good night.", "", "I am tired.", "Yes."], "en", "de")
    assert result.lines == expected


def test_line_that_is_no_utf8_is_reported_and_kept_empty(run, translator):
    result = run("translate", "-f", "fr", "-t", "en", stdin=b"Bonne nuit.\ncaf\xe9\nMerci.\n")
    assert result.code == 1
    assert result.lines == [
        translator.translate("Bonne nuit.", "fr", "en"),
        "",
        translator.translate("Merci.", "fr", "en"),
    ]
    assert "line 2 is not UTF-8 (byte 0xe9 at column 4)" in result.err
    assert "1 of 3 lines could not be translated" in result.err


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_empty_text_comes_back_empty(run, text):
    result = run("translate", "-f", "en", "-t", "fr", text)
    assert result.code == 0
    assert result.out == text + "\n"


def test_input_without_any_text_is_no_error(run, tmp_path):
    path = tmp_path / "empty.txt"
    path.write_bytes(b"\n\n")
    assert run("translate", "-f", "en", "-t", "fr", stdin=b"").out == ""
    result = run("translate", "-f", "en", "-t", "fr", "-i", str(path), "-o", str(tmp_path / "out.txt"))
    assert result.code == 0
    assert (tmp_path / "out.txt").read_bytes() == b"\n\n"
    blank = run("translate", "-t", "fr", stdin=b"\n\n")
    assert (blank.code, blank.out, blank.err) == (0, "\n\n", "")


def test_byte_order_mark_is_no_text(run, translator):
    result = run("translate", "-f", "en", "-t", "fr", stdin=b"\xef\xbb\xbfGood night.\n")
    assert result.lines == [translator.translate("Good night.", "en", "fr")]


def test_json_has_scores_and_tokens(run):
    result = run("translate", "-t", "fr", "--json", "--n-best", "2", "Where do you live now?")
    record = json.loads(result.out)
    assert record["source_text"] == "Where do you live now?"
    assert record["source"] == "eng_Latn"
    assert record["detected"]["confidence"] > 0.9
    (sentence,) = record["sentences"]
    assert len(sentence["candidates"]) == 2
    best = sentence["candidates"][0]
    assert best["text"] == record["text"]
    assert best["score"] < 0
    assert best["tokens"][0] == "fra_Latn"


def test_json_line_of_a_bad_text_says_why(run):
    result = run("translate", "-t", "fr", "--json", stdin=b"\xff\nGood night, my friend.\n")
    bad, good = (json.loads(line) for line in result.lines)
    assert "not UTF-8" in bad["error"]
    assert good["text"]


def test_file_to_file(run, translator, tmp_path):
    source, target = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("Good night.\nI am tired.\n", encoding="utf-8")
    result = run("translate", "-f", "en", "-t", "es", "-i", str(source), "-o", str(target))
    assert result.code == 0
    assert result.out == ""
    assert target.read_text(encoding="utf-8").splitlines() == translator.translate(
        ["Good night.", "I am tired."], "en", "es"
    )
    assert "100%" in result.err
    assert set(tmp_path.iterdir()) == {source, target}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_full_disk_is_a_clear_error(run, tmp_path):
    source = tmp_path / "in.txt"
    source.write_text("Good night.\n", encoding="utf-8")
    result = run("translate", "-f", "en", "-t", "es", "-i", str(source), "-o", "/dev/full")
    assert result.code == 2
    assert "No space left on device" in result.err


def test_what_was_done_before_a_failure_is_kept(run, translator, tmp_path, monkeypatch):
    source, target = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("Good night.\n" * 300, encoding="utf-8")
    monkeypatch.setattr(cli, "CHUNK", 100)
    real = translator.stream
    calls = []

    def breaks_at_the_third(*args, **options):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("power cut")
        return real(*args, **options)

    monkeypatch.setattr(translator, "stream", breaks_at_the_third)
    with pytest.raises(RuntimeError):
        run("translate", "-f", "en", "-t", "es", "-i", str(source), "-o", str(target))
    assert not target.exists()
    (part,) = tmp_path.glob("out.txt.*.part")
    assert len(part.read_text(encoding="utf-8").splitlines()) == 200


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--to", "xx", "Hello."], "'xx' is no language I know"),
        (["--to", "ja", "--from", "en", "Hello."], "Japanese"),
        (["--from", "nope", "Hello."], "'nope' is no language"),
        (["--to", "fr", "--beams", "0", "Hello."], "beams is 0"),
        (["--to", "fr", "--input", "no-such-file"], "is no file"),
        (["--to", "fr", "--input", "x", "Hello."], "not both"),
        (["--to", "fr", "--vocabulary-text", "x", "Hello."], "goes with --vocabulary and --to"),
        (["--vocabulary", "9", "--vocabulary-text", "x", "Hello."], "goes with --vocabulary and --to"),
        (
            ["--to", "fr", "--vocabulary", "9", "--vocabulary-text", "no-such", "Hello."],
            "no-such can't be read",
        ),
    ],
)
def test_mistakes_get_one_clear_line(run, args, message):
    result = run("translate", *args)
    assert result.code == 2
    assert message in result.err
    assert "Traceback" not in result.err


def test_pivot_is_said(run):
    result = run("translate", "-f", "de", "-t", "fr", "Guten Morgen.")
    assert "by way of English" in result.err


def test_languages_lists_all_or_those_of_a_model(run):
    everything = run("languages")
    assert len(everything.lines) == 203
    assert "fra_Latn" in everything.out
    assert len(run("languages", "--model", "mini").lines) == 6
    rows = [json.loads(line) for line in run("languages", "--json").lines]
    assert len(rows) == 202
    assert rows[0]["code"] == "ace_Arab"


def test_models_lists_licences(run):
    assert "CC-BY-NC" in run("models").out
    assert json.loads(run("models", "--json").lines[0])["name"] == "mini"


def test_version(run):
    assert run("--version").out.startswith("dragoman ")


def test_import_is_light():
    heavy = "('torch', 'transformers', 'numpy')"
    code = f"import sys, dragoman, dragoman.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_pipe_answers_line_by_line():
    """A slow writer sees the translation of a line before it writes the next."""
    env = {**os.environ, "LC_ALL": "C.UTF-8"}
    with subprocess.Popen(
        [sys.executable, "-m", "dragoman", "translate", "-f", "en", "-t", "fr"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=env,
    ) as process:
        assert process.stdin
        assert process.stdout
        for line in (b"Good night.\n", b"I am tired.\n"):
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.readline().strip()
        process.stdin.close()
        assert process.wait(60) == 0


def test_reader_that_goes_away_is_no_error():
    done = subprocess.run(
        f"yes 'Good night.' | head -600 | {sys.executable} -m dragoman translate -f en -t fr | head -1",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip()
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("terminal", [True, False])
def test_answer_is_printed_as_it_comes_only_on_a_terminal(run, monkeypatch, terminal):
    class Answering:
        system = SimpleNamespace(precision="fp32")

        def ask(self, question, language, **options):
            return f"{language}: {question} {options['beams']}"

        def ask_live(self, question, language, **options):
            for word in self.ask(question, language, **options).split(" "):
                written.append(word)
                yield word if len(written) == 1 else f" {word}"

    written = []
    monkeypatch.setattr(Translator, "load", classmethod(lambda cls, *args, **options: Answering()))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    result = run("ask", "--model", "X-ALMA", "--lang", "de", "Wie geht es dir?")
    assert result.out == "de: Wie geht es dir? 5\n"
    assert bool(written) == terminal


def test_precision_and_vocabulary_reach_the_model(run, monkeypatch, translator, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("Où est la gare ?\nMerci.\n", encoding="utf-8")
    given = []

    def load(cls, model, **options):
        given.append((model, options))
        return translator

    monkeypatch.setattr(Translator, "load", classmethod(load))
    extra = ["--precision", "int8", "--vocabulary", "3000", "--vocabulary-text", str(words)]
    assert run("translate", "--from", "en", "--to", "fr", *extra, "Thank you.").code == 0
    assert run("translate", "--from", "en", "--to", "fr", "Thank you.").code == 0
    names = ("device", "precision", "vocabulary", "vocabulary_text")
    assert [(model, *map(options.get, names)) for model, options in given] == [
        ("mini", "auto", "int8", 3000, {"fr": ["Où est la gare ?", "Merci."]}),
        ("mini", "auto", "auto", None, None),
    ]


def test_a_precision_that_nobody_asked_for_is_said(run, monkeypatch, translator):
    monkeypatch.setattr(translator.system, "precision", "int8")
    words = ["--from", "en", "--to", "fr", "Thank you."]
    assert "precision: int8, as fp32 would" in run("translate", *words).err
    assert "precision" not in run("translate", "--precision", "int8", *words).err
    monkeypatch.setattr(translator.system, "precision", "fp32")
    assert "precision" not in run("translate", *words).err
