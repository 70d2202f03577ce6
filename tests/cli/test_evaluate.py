"""`dragoman evaluate`: models and existing translations, in tables, files and a page."""

import json
from pathlib import Path

import pytest

pytest.importorskip("sacrebleu")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "held-out"
    folder.mkdir(parents=True)
    rows = ["Guten Morgen!\tGood morning!", "Ich bin müde.\tI'm tired.", "Wo ist Tom?\tWhere is Tom?"]
    rows = [f"{row}\ttatoeba\ttest\t{near}" for row, near in zip(rows, ("near", "far", "far"), strict=True)]
    (folder / "de-en.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path / "data"


def test_a_model_is_scored_and_what_it_said_is_kept(dragoman, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = dragoman(
        "evaluate",
        "mini",
        "--testset",
        "tatoeba",
        "--data",
        data,
        "--pairs",
        "de-en,en-de",
        "--out",
        out,
        "--beams",
        1,
    )
    assert done.code == 0, done.err
    heads, *lines = [line.split("\t") for line in done.lines]
    assert heads[:5] == ["system", "test set", "direction", "lines", "chrF++"]
    assert [line[1:4] for line in lines[:2]] == [["tatoeba", "de-en", "3"], ["tatoeba far", "de-en", "2"]]
    assert [line[:3] for line in lines[-2:]] == [["mini", "tatoeba", "mean"], ["mini", "tatoeba far", "mean"]]
    assert len((out / "outputs" / "tatoeba.de-en.txt").read_text(encoding="utf-8").splitlines()) == 3
    figures = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    assert figures["results"][0]["signatures"]["chrF++"].startswith("nrefs:1|case:mixed")
    assert figures["results"][0]["speed"]["seconds"] > 0
    assert "<!doctype html>" in (out / "scores.html").read_text(encoding="utf-8")

    # What it wrote is scored alike without a model.
    again = dragoman(
        "evaluate",
        "--testset",
        "tatoeba",
        "--data",
        data,
        "--pairs",
        "de-en",
        "--outputs",
        f"before={out}",
        "--json",
    )
    assert again.code == 0, again.err
    result = json.loads(again.out)["results"][0]
    assert (result["system"], result["speed"]) == ("before", None)
    assert result["scores"] == figures["results"][0]["scores"]


def test_two_systems_are_compared_on_a_file(dragoman, tmp_path: Path) -> None:
    (tmp_path / "own.tsv").write_text("eins zwei\tone two\ndrei vier\tthree four\n", encoding="utf-8")
    for name, lines in (("good", "one two\nthree four\n"), ("bad", "one\nfive\n")):
        (tmp_path / f"{name}.txt").write_text(lines, encoding="utf-8")
    outputs = [f"--outputs={name}={tmp_path / name}.txt" for name in ("good", "bad")]
    own = ("--testset", tmp_path / "own.tsv", "--pairs", "de-en")
    done = dragoman("evaluate", *own, *outputs, "--baseline", "bad", "--json")
    assert done.code == 0, done.err
    rows = json.loads(done.out)["comparisons"]["own de-en"]
    assert [(row["system"], row["metric"]) for row in rows[:2]] == [("bad", "chrF++"), ("good", "chrF++")]
    assert rows[0]["p_value"] is None
    assert 0 < rows[1]["p_value"] <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name a model to evaluate, or translations that are there"),
        (("--outputs", "x={data}"), "say which directions are meant: --pairs"),
        (("--outputs", "nothing"), "write NAME=PATH"),
        (("--outputs", "x=/no/such/file"), "there is no /no/such/file"),
        (("--outputs", "x={data}", "--pairs", "de"), "write two languages with a hyphen"),
        (("--outputs", "x={data}", "--pairs", "de-xx"), "xx"),
        (("--outputs", "x={data}", "--pairs", "fr-en"), "no test set has any of these pairs"),
        (("--outputs", "x={data}", "--pairs", "de-en", "--baseline", "y"), "--baseline y must be one of"),
        (("--outputs", "x={data}", "--pairs", "de-en"), "tatoeba.de-en.txt can't be read"),
    ],
)
def test_mistakes_are_told_before_a_model_is_loaded(arguments, message: str, dragoman, data: Path) -> None:
    arguments = [argument.format(data=data) for argument in arguments]
    done = dragoman("evaluate", "--testset", "tatoeba", "--data", data, *arguments)
    assert done.code == 2
    assert message in done.err


def test_too_few_lines_and_one_file_for_many_directions_are_told(
    dragoman, data: Path, tmp_path: Path
) -> None:
    short = tmp_path / "short.txt"
    short.write_text("one\n")
    command = ("evaluate", "--testset", "tatoeba", "--data", data, "--outputs", f"x={short}", "--pairs")
    assert "has 1 lines, tatoeba de-en has 3" in dragoman(*command, "de-en").err
    assert "is one file, but there are 2" in dragoman(*command, "de-en,en-de").err
