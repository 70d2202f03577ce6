"""`dragoman experts`, in this process."""

import json
from pathlib import Path

import pytest

from dragoman.evaluation.experts import ExpertStatistics
from dragoman.kernels.library import kernels

pytestmark = pytest.mark.skipif(kernels() is None, reason="there are no native kernels here")
PAIRS = Path(__file__).parents[1] / "data" / "tatoeba" / "fr-en.tsv"


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    lines = PAIRS.read_text(encoding="utf-8").splitlines(keepends=True)[:20]
    (path := tmp_path / "pairs.tsv").write_text("".join(lines), encoding="utf-8")
    return path


def test_writes_statistics_pictures_and_a_page(run, pairs: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "report"
    done = run("experts", "report", "mini", "--text", f"fr:en={pairs}", "--out", out)
    assert done.code == 0, done.err
    assert "wrote" in done.err
    assert [line.split("\t")[:2] for line in done.lines[1:]] == [
        ["encoder", "English"],
        ["encoder", "French"],
        ["decoder", "English"],
        ["decoder", "French"],
    ]
    assert ExpertStatistics.read(out / "expert-statistics.json").model == "mini"
    names = {path.name for path in out.iterdir()}
    assert {"experts.html", "encoder-experts.png", "decoder-similarity.png", "load-balance.png"} <= names
    again = run("experts", "report", "mini", "--text", f"en={pairs}", "--to", "fr", "--out", out)
    assert again.code == 0, again.err
    left = {path.name for path in out.iterdir()}
    assert left == {name for name in names if "similarity" not in name}  # nothing of an earlier report stays


def test_prints_json_and_detects_languages(run, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("Wo ist denn hier der nächste Bahnhof?\n12345\nWhere is the next station?\n", "utf-8")
    done = run("experts", "report", "mini", "--text", text, "--json")
    assert done.code == 0, done.err
    assert [*json.loads(done.out)["encoder"]["languages"]] == ["deu_Latn", "eng_Latn"]
    assert "1 lines don't show which of the model's languages they are in" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--text", "fr=TEXT"), "say where to write to: --out DIR, or --json"),
        (("--text", "xx=TEXT", "--json"), "'xx' is no language"),
        (("--text", "zh=TEXT", "--json"), "which this model doesn't speak"),
        (("--text", "fr=TEXT", "--to", "fr,zh", "--json"), "which this model doesn't speak"),
        (("--text", "fr=nothing-there", "--json"), "--text nothing-there can't be read"),
        (("--text", "fr:en=TEXT", "--json"), "line 1: there must be a text, a tab and a translation"),
        (("--text", "fr:en:de=TEXT", "--json"), "fr:en=FILE"),
        (("--text", "fr=EMPTY", "--json"), "has no lines with text"),
        (("--text", "fr=TEXT", "--out", "TEXT"), "is a file; give a folder"),
    ],
)
def test_mistakes_end_with_two(arguments: tuple[str, ...], message: str, run, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("Bonjour !\n", encoding="utf-8")
    (tmp_path / "empty").write_text("\n", encoding="utf-8")
    places = {"TEXT": str(tmp_path / "text"), "EMPTY": str(tmp_path / "empty")}
    for name, place in places.items():
        arguments = tuple(each.replace(name, place) for each in arguments)
    found = run("experts", "report", "mini", *arguments)
    assert found.code == 2
    assert message in found.err
    assert found.out == ""
