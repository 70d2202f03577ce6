"""The ablations: their texts, the settings of their systems, and tables of what was found."""

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from dragoman.training.config import TrainingConfig
from dragoman.training.running import Recipe, check

FOLDER = Path(__file__).parents[2] / "recipes" / "ablations"
NAMES = ("texts", "systems", "run", "table")


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """They can be imported."""
    monkeypatch.syspath_prepend(FOLDER)
    yield
    for name in NAMES:
        sys.modules.pop(name, None)


def rows_of(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.usefixtures("scripts")
def test_made_up_texts_are_what_the_recipes_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, systems = import_module("texts"), import_module("systems")
    monkeypatch.setattr(sys, "argv", ["texts.py", "made-up", str(tmp_path)])
    texts.main()
    test, learned = (rows_of(tmp_path / name / "es-en.tsv") for name in ("test", "bitext"))
    assert not {row[0] for row in test} & {row[0] for row in learned}
    words = dict(zip(texts.NUMBERS["es"], texts.NUMBERS["en"], strict=True))
    for text, english, _ in test:
        found = [words[word] for word in text.split()]
        assert english.split() == [found[-1], *found[:-1]]
    config = systems.Work(tmp_path, tmp_path, is_made_up=True).config("xalma-1-base")
    said = list(check(Recipe(config, "base", tmp_path, tmp_path)))
    assert "a tokenizer of 400 pieces can be made of the texts" in said


@pytest.mark.usefixtures("scripts")
def test_dense_model_multiplies_as_much_as_experts() -> None:
    systems = import_module("systems")
    config = TrainingConfig.from_toml(FOLDER / "moe.toml")
    sparse, dense = config.model, {**config.model, **systems.DENSE}
    for side in ("encoder", "decoder"):
        layers, inner = sparse[f"{side}_layers"], sparse[f"{side}_ffn_dim"]
        with_experts = layers // sparse[f"{side}_sparse_step"]
        assert (layers + with_experts) * inner == layers * dense[f"{side}_ffn_dim"]


@pytest.mark.usefixtures("scripts")
def test_tables_have_means_over_seeds_and_directions(tmp_path: Path) -> None:
    table = import_module("table")
    scores = {"good": (40.0, 44.0), "bad": (20.0, 20.0)}
    found = [
        {
            "comparison": "c",
            "system": name,
            "seed": seed,
            "directions": {
                "de-en": {"chrF++": value, "BLEU": value / 2, "length": 1.0},
                "en-de": {"chrF++": value + 2, "BLEU": value / 2, "length": 0.9},
            },
        }
        for name, values in scores.items()
        for seed, value in enumerate(values, 1)
    ]
    lines = list(table.table(found))
    assert lines[0] == "| c | seeds | chrF++, all | BLEU, all | length |"
    assert lines[2] == "| good | 2 | 43.0 (41.0 to 45.0) | 21.0 (20.0 to 22.0) | 0.95 |"
    (tmp_path / "outputs").mkdir()
    (tmp_path / "test").mkdir()
    pairs = [("Guten Morgen", "Good morning"), ("Danke sehr", "Thanks a lot"), ("Bis bald", "See you soon")]
    (tmp_path / "test" / "de-en.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in pairs), encoding="utf-8")
    for name in scores:
        for pair, side in (("de-en", 1), ("en-de", 0)):
            text = "".join(f"{row[side] if name == 'good' else 'nothing'}\n" for row in pairs)
            (tmp_path / "outputs" / f"c-{name}-1.{pair}.txt").write_text(text, encoding="utf-8")
    first = [row for row in found if row["seed"] == 1]
    (said,) = table.compared(tmp_path, tmp_path, first, "bad")
    assert said.startswith("seed 1: good 100.00, bad ")
    (tmp_path / "results.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in found))
    assert list(import_module("run").rows(tmp_path / "results.jsonl")) == found
