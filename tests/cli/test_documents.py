"""`dragoman translate` with files that are documents."""

import json
from pathlib import Path

import pytest

from dragoman import documents

TEXT = "# Good night\n\nWhere is the **station**? Run `ls`, {name}.\n"


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "report.md"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_a_document_lies_beside_its_source(run, file, translator):
    result = run("translate", file, "--from", "en", "--to", "de")
    assert (result.code, result.out) == (0, "")
    assert result.err == f"{file}: translated to {file.with_name('report.de.md')}\n"
    data = file.with_name("report.de.md").read_bytes()
    assert data == translator.translate_document(documents.open(file), "en", "de").data
    assert b"`ls`" in data
    assert data.count(b"**") == 2
    assert b"{name}" in data
    assert file.read_text(encoding="utf-8") == TEXT


def test_a_translation_that_is_there_is_replaced_only_on_demand(run, file):
    beside = file.with_name("report.de.md")
    beside.write_text("mine", encoding="utf-8")
    result = run("translate", file, "-f", "en", "-t", "de")
    assert result.code == 2
    assert "exists already" in result.err
    assert beside.read_text(encoding="utf-8") == "mine"
    assert run("translate", file, "-f", "en", "-t", "de", "--overwrite").code == 0
    assert beside.read_text(encoding="utf-8") != "mine"


def test_several_documents_go_to_a_folder(run, file, tmp_path):
    other = file.with_name("notes.en.txt")
    other.write_text("Good night.\n", encoding="utf-8")
    folder = tmp_path / "out"
    assert run("translate", file, other, "-f", "en", "-t", "fr", "--output-dir", folder).code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["notes.fr.txt", "report.fr.md"]


def test_a_document_from_standard_input_goes_to_standard_output(run, translator, file):
    result = run("translate", "--format", "markdown", "-f", "en", "-t", "de", stdin=TEXT.encode())
    assert result.code == 0
    assert result.raw == translator.translate_document(documents.open(file), "en", "de").data


def test_the_language_is_detected_from_all_of_a_document(run, file):
    result = run("translate", file, "--to", "de", "-o", "-")
    assert "detected: English (eng_Latn)" in result.err
    assert result.out.startswith("# ")


def test_a_document_in_the_target_language_is_not_written(run, file):
    result = run("translate", file, "--to", "en")
    assert result.code == 2
    assert "is English already" in result.err
    assert [path.name for path in file.parent.iterdir()] == ["report.md"]


def test_json_tells_of_the_file(run, file, tmp_path):
    result = run("translate", file, "-f", "en", "-t", "de", "--json", "-o", tmp_path / "x.md")
    record = json.loads(result.out)
    assert record["output"] == str(tmp_path / "x.md")
    assert (record["segments"], record["source"], record["target"]) == (2, "eng_Latn", "deu_Latn")
    assert sum(record["ways"].values()) == 2


def test_what_stays_is_told_with_its_place(run, file, monkeypatch):
    from dragoman.documents.document import TextDocument

    monkeypatch.setattr(TextDocument, "accepts", lambda self, place, parts: place != 1)
    result = run("translate", file, "-f", "en", "-t", "de", "-o", "-")
    assert result.code == 1
    assert (
        f"{file}, line 3: no translation keeps all that the text has in it; it stays as it is" in result.err
    )
    assert "1 of 2 segments stay as they were" in result.err
    assert result.out.endswith(TEXT.partition("\n\n")[2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report.md", "hello"], "'hello' is no file"),
        (["report.md", "other.xyz"], "'other.xyz' is a file of no known format"),
        (["report.md", "report.md"], "several files would become"),
        (["report.md", "a.md", "-o", "x.md"], "can't go to one --output"),
        (["report.md", "-o", "x.md", "--output-dir", "y"], "give --output or --output-dir"),
        (["report.md", "-o", "-", "--json"], "give an --output"),
        (["report.md", "--format", "markdwon"], "do you mean 'markdown'"),
        (["report.md", "--columns", "1"], "columns are for tables"),
        (["gone.md", "--format", "md"], "can't be read"),
        (["hello", "--overwrite"], "--overwrite is for documents"),
        (["bad.md"], "bad.md: byte 4 of the file is no utf-8"),
        (["other.xyz", "--format", "md", "--input", "report.md"], "give files or --input"),
    ],
)
def test_contradictions_are_refused_and_nothing_is_written(run, file, monkeypatch, arguments, message):
    monkeypatch.chdir(file.parent)
    Path("other.xyz").write_text("x", encoding="utf-8")
    Path("a.md").write_text("x", encoding="utf-8")
    Path("bad.md").write_bytes(b"abc\xff")
    before = sorted(Path().iterdir())
    result = run("translate", "-f", "en", "-t", "de", *arguments)
    assert result.code == 2
    assert message in result.err
    assert sorted(Path().iterdir()) == before


def test_input_of_plain_text_is_still_read_by_lines(run, file, translator):
    text = file.with_name("in.txt")
    text.write_text("Good night.\nI am tired.\n", encoding="utf-8")
    result = run("translate", "-f", "en", "-t", "fr", "--input", text)
    assert result.lines == translator.translate(["Good night.", "I am tired."], "en", "fr")
    lines = run("translate", "-f", "en", "-t", "fr", "--input", file, "--format", "lines").lines
    assert len(lines) == len(TEXT.splitlines())


def test_input_of_a_document_is_a_document(run, file):
    assert run("translate", "-f", "en", "-t", "fr", "--input", file).code == 0
    assert file.with_name("report.fr.md").exists()


def test_python_translates_files_too(translator, file):
    result = translator.translate_file(file, source="en", target="de")
    assert result.path == file.with_name("report.de.md")
    assert result.path.read_bytes() == result.data
    with pytest.raises(ValueError, match="exists already"):
        translator.translate_file(file, source="en", target="de")
    assert translator.translate_file(file, "en", "de", output=result.path).data == result.data
