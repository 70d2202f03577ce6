"""What the README shows is what happens."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from dragoman import cli
from dragoman.translation.translator import Translator

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def commands() -> list[tuple[str, str]]:
    """Each `$ command` of the console blocks with the output shown below it."""
    found = []
    for block in blocks("console"):
        for part in block.split("$ ")[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


@pytest.mark.parametrize(("command", "output"), commands())
def test_command_prints_what_the_readme_shows(translator, monkeypatch, capsysbinary, command, output):
    monkeypatch.setattr(Translator, "load", classmethod(lambda cls, *args, **options: translator))
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    out, err = capsysbinary.readouterr()
    assert (out + err).decode() == output


def test_python_examples_run(monkeypatch, translator, capsys):
    """One after the other, as a reader would type them."""
    monkeypatch.setattr(Translator, "load", classmethod(lambda cls: translator))
    names = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    out = capsys.readouterr().out
    assert "Bonjour" in out
    assert out.endswith(translator.translate("Where do you live?", "en", "es") + "\n")


def test_commands_of_the_readme_parse(monkeypatch, translator, capsys):
    """Every `dragoman ...` of the shell blocks has options that exist."""
    lines = [line.split("#")[0] for block in blocks("sh") for line in block.splitlines()]
    found = [shlex.split(line.split("<")[0]) for line in lines if line.startswith("dragoman")]
    assert len(found) >= 6
    for words in found:
        monkeypatch.setattr(sys, "argv", [*words, "--help"])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 0


def test_linked_files_exist():
    root = Path(__file__).parents[1]
    for page in ("README.md", "docs/architecture.md", "recipes/mini/README.md"):
        text = (root / page).read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([^)#:]+)\)", text):
            assert ((root / page).parent / link).exists(), f"{page}: {link}"
