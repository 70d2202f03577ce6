"""What the README shows is what happens."""

import json
import os
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


def shell_lines() -> list[str]:
    """Each `dragoman ...` of the shell blocks, without its comment."""
    lines = [line.split("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line.startswith("dragoman")]


def test_there_are_commands_to_test():
    assert len(shell_lines()) >= 6


@pytest.mark.parametrize("line", shell_lines())
def test_a_command_of_the_readme_works(monkeypatch, translator, combined, capsysbinary, tmp_path, line):
    """Run as it stands, with the files that it names: the models that aren't here by others of their kind."""
    for name in ("in.txt", "input.txt"):
        (tmp_path / name).write_text("Good morning!\nWhere is the station?\n", encoding="utf-8")
    for name in ("pairs.tsv", "test.tsv"):
        (tmp_path / name).write_text("Bonjour !\tGood morning!\nMerci.\tThank you.\n", encoding="utf-8")
    (tmp_path / "report.md").write_text("Where is the *station*?\n", encoding="utf-8")
    (tmp_path / "terms.tsv").write_text("station\tBahnhof\n", encoding="utf-8")
    (tmp_path / "reviews.csv").write_text("n,review\n1,Where is the station?\n", encoding="utf-8")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.html").write_text("<p>Where is the <b>station</b>?</p>", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line)
    if "modules" in words or "ask" in words or "X-ALMA" in line:
        (tmp_path / "X-ALMA").symlink_to(combined)
        words = [word.removeprefix("haoranxu/") for word in words]
    elif "pack" not in words:  # which loads two models, and closes them
        monkeypatch.setattr(Translator, "load", classmethod(lambda cls, *args, **options: translator))
    code, out, err = run(monkeypatch, capsysbinary, words)
    assert code == 0, err
    shown = out or b"".join(
        path.read_bytes()
        for path in tmp_path.glob("**/[0orp]*.*")
        if path.name not in ("report.md", "page.html", "reviews.csv")
    )
    # Modules say on standard error where they write; a random model may have nothing to answer.
    assert shown.strip() or "wrote" in err or "ask" in words
    if "--json" in words:
        assert len(json.loads(out)["sentences"][0]["candidates"]) == 3


def run(monkeypatch, capsysbinary, words: list[str]) -> tuple[object, bytes, str]:
    """Run a command with the redirections of a shell."""
    files = {"<": os.devnull, ">": ""}
    for sign in files:
        if sign in words:
            place = words.index(sign)
            files[sign] = words[place + 1]
            words = words[:place] + words[place + 2 :]
    monkeypatch.setattr(sys, "argv", words)
    before, descriptor = os.dup(0), os.open(files["<"], os.O_RDONLY)
    os.dup2(descriptor, 0)
    try:
        with pytest.raises(SystemExit) as stop:
            cli.main()
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(descriptor)
    out, err = capsysbinary.readouterr()
    return stop.value.code or 0, out, err.decode()


def test_linked_files_exist():
    root = Path(__file__).parents[1]
    for page in (
        "README.md",
        "docs/architecture.md",
        "docs/training.md",
        "recipes/README.md",
        "recipes/mini/README.md",
        "recipes/ablations/README.md",
    ):
        text = (root / page).read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([^)#:]+)\)", text):
            assert ((root / page).parent / link).exists(), f"{page}: {link}"
