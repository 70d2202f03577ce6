"""The embedded model's evaluation goes piece by piece, and goes on where it was."""

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from dragoman.translation.translator import Translator

FOLDER = Path(__file__).parents[2] / "recipes" / "mini"
PAIRS = [("Guten Morgen.", "Good morning."), ("Ich habe Zeit.", "I have time."), ("Danke.", "Thank you.")]


@pytest.fixture
def evaluate(monkeypatch: pytest.MonkeyPatch, translator: Translator) -> Iterator[ModuleType]:
    """The script, with the model that is loaded already."""
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setattr(Translator, "load", classmethod(lambda cls, *args, **options: translator))
    spec = importlib.util.spec_from_file_location("evaluate", FOLDER / "evaluate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("survival", None)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "held-out").mkdir()
    rows = [f"{text}\t{english}\ttatoeba\ttest\tfar" for text, english in PAIRS]
    (tmp_path / "held-out" / "de-en.tsv").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return tmp_path


def test_what_is_done_is_not_done_again_and_all_figures_come_together(
    evaluate: ModuleType,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "scores"
    given = ["mini", f"--data={data}", f"--out={out}", "--beams=1"]
    evaluate.main([*given, "--testset=tatoeba", "--pairs=en-de,de-en", "--limit=2"])
    assert "tatoeba de-en: 2 lines, chrF++" in capsys.readouterr().out
    evaluate.main([*given, "--testset=survival", "--pairs=en-de", "--limit=8"])

    def fail(*args: object) -> list[str]:
        raise AssertionError("this is done")

    monkeypatch.setattr(evaluate, "translated", fail)
    evaluate.main([*given, "--testset=tatoeba", "--testset=survival", "--pairs=en-de", "--limit=2"])
    found = json.loads((out / "scores.json").read_text())
    assert {(row["pair"], row["sentences"]) for row in found["results"]} == {("en-de", 2), ("de-en", 2)}
    assert found["survival"]["languages"] == 1
    assert all(0 <= share <= 1 for share in found["survival"]["rates"].values())
    assert len((out / "outputs" / "tatoeba.de-en.txt").read_text().splitlines()) == 2
    # More lines than there were, or other options, are new.
    for more in (["--limit=3"], ["--limit=2", "--beams=2"]):
        with pytest.raises(AssertionError, match="this is done"):
            evaluate.main([*given, "--testset=tatoeba", "--pairs=en-de", *more])
