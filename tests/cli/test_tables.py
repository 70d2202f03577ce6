"""`dragoman languages` and `dragoman models`."""

import io
import json
import sys

import pytest

from dragoman.checkpoints.catalog import find_card


def test_languages_lists_all_or_those_of_a_model(dragoman):
    everything = dragoman("languages")
    assert len(everything.lines) == 203
    assert "fra_Latn" in everything.out
    assert len(dragoman("languages", "--model", "mini").lines) == 1 + len(find_card("mini").languages)
    rows = [json.loads(line) for line in dragoman("languages", "--json").lines]
    assert len(rows) == 202
    assert rows[0]["code"] == "ace_Arab"


def test_models_lists_licences(dragoman):
    assert "CC-BY-NC" in dragoman("models").out
    assert json.loads(dragoman("models", "--json").lines[0])["name"] == "mini"


def test_models_are_pulled_with_the_bases_of_adapters(dragoman, monkeypatch, tmp_path):
    from dragoman.checkpoints import catalog

    fetched = []

    def from_hub(repository):
        fetched.append(repository)
        folder = tmp_path / repository.rpartition("/")[2]
        folder.mkdir(exist_ok=True)
        if repository == "you/lora":
            (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "you/base"}')
        return folder

    monkeypatch.setattr(catalog, "_from_cache", lambda repository: None)
    monkeypatch.setattr(catalog, "_from_hub", from_hub)
    result = dragoman("models", "pull", "nllb-200-3.3B", "you/lora", "mini")
    assert result.code == 0
    assert fetched == ["facebook/nllb-200-3.3B", "you/lora", "you/base"]
    assert result.lines == [
        str(tmp_path / "nllb-200-3.3B"),
        str(tmp_path / "lora"),
        str(catalog.embedded_folder()),
    ]
    assert dragoman("models", "pull", "nonsense").code == 2


@pytest.mark.parametrize("command", ["languages", "models"])
@pytest.mark.parametrize("columns", ["20", "80"])
def test_in_a_pipe_every_row_is_one_line_of_tab_separated_cells(dragoman, monkeypatch, command, columns):
    monkeypatch.setenv("COLUMNS", columns)
    lines = [line.split("\t") for line in dragoman(command).lines]
    assert len({len(line) for line in lines}) == 1
    records = [json.loads(line) for line in dragoman(command, "--json").lines]
    names = [record["name"] for record in records]
    assert [line[2 if command == "languages" else 0] for line in lines[1:]] == names


@pytest.mark.parametrize("command", ["languages", "models"])
def test_at_a_terminal_nothing_is_cut(dragoman, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    cells = [cell for line in dragoman(command).lines for cell in line.split("\t")]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    lines = dragoman(command).lines
    assert len(lines) == len(dragoman(command, "--json").lines) + 1
    assert all(cell in "\n".join(lines) for cell in cells)
    assert "…" not in "".join(lines)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("args", [("languages",), ("languages", "--json"), ("models",)])
def test_output_of_another_encoding_is_no_obstacle(dragoman, monkeypatch, encoding, is_terminal, args):
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, encoding=encoding)
    monkeypatch.setattr(stream, "isatty", lambda: is_terminal)
    monkeypatch.setattr(sys, "stdout", stream)
    assert dragoman(*args).code == 0
    text = buffer.getvalue().decode(encoding if is_terminal else "utf-8")
    assert text.count("\n") >= 8
    assert ("\\u" in text) == is_terminal or args == ("models",)
    stream.detach()
