"""`dragoman train`: what it says, and what it leaves."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

TATOEBA = Path(__file__).parents[1] / "data" / "tatoeba"
SETTINGS = """
languages = ["de", "nl"]
vocabulary = 420
updates = 4
warmup = 1
log_every = 1
evaluate_every = 2
batch_tokens = 500
round_examples = 60
precision = "fp32"
evaluate_pairs = 5
[model]
d_model = 16
encoder_layers = 2
decoder_layers = 1
encoder_attention_heads = 2
decoder_attention_heads = 2
encoder_ffn_dim = 16
decoder_ffn_dim = 16
encoder_sparse_step = 2
decoder_sparse_step = 0
num_experts = 2
[[parts]]
name = "talk"
files = "{language}-en.tsv"
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    for language in ("de", "nl"):
        lines = (TATOEBA / f"{language}-en.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
        (tmp_path / f"dev-{language}.tsv").write_text("".join(lines[:5]), encoding="utf-8")
    path.write_text(f'dev = "{tmp_path}/dev-{{language}}.tsv"\n' + SETTINGS)
    return path


def test_run_leaves_a_log_a_picture_and_a_model_that_translates(
    dragoman: Callable[..., Any], recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    result = dragoman("train", recipe, "--data", TATOEBA, "--out", out)
    assert result.code == 0, result.err
    said = result.err.splitlines()
    assert said[0] == "20 sentences are held out"
    assert any(line.startswith("deu_Latn talk: ") and "left out: " in line for line in said)
    assert any(
        line.startswith("phase 1: the first round has ") and " of 60 examples in " in line for line in said
    )
    assert any(line.startswith("update 4 of 4: loss ") and "busiest expert" in line for line in said)
    assert said[-1] == f"wrote {out / 'model'}"
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["update"] for row in rows if "dev_loss" in row] == [2, 4]
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    found = dragoman(
        "translate", "-m", out / "model", "--to", "de", "--from", "en", "--max-new-tokens", "2", "Hi."
    )
    assert found.code == 0, found.err
    again = dragoman("train", recipe, "--data", TATOEBA, "--out", out)
    assert again.code == 0
    assert "update" not in again.err


def test_check_counts_and_trains_nothing(dragoman: Callable[..., Any], recipe: Path, tmp_path: Path) -> None:
    result = dragoman("train", recipe, "--data", TATOEBA, "--out", tmp_path / "run", "--check")
    assert result.code == 0, result.err
    assert "no bad rows" in result.lines
    assert "a tokenizer of 420 pieces can be made of the texts" in result.lines
    assert any(line.startswith("phase 1, from update 0: a round has ") for line in result.lines)
    assert "2 languages with 10 development rows" in result.lines
    assert result.lines[-1] == "4 updates of 1 batches of 500 tokens"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('warm_start = "nowhere"\n', "nowhere"),
        ("[ratios]\nde = 1\n", "ratios say nothing of nld_Latn"),
        (
            '[[parts]]\nname = "more"\nfiles = "{language}-en.tsv"\nother = "nl"\n[[phases]]\nupdates = 1\n'
            '[[phases]]\nupdates = 1\nlanguages = ["nl"]\nparts = ["more"]',
            "phase 2 has no text",
        ),
    ],
)
def test_check_refuses_what_a_run_would(
    text: str, message: str, dragoman: Callable[..., Any], recipe: Path, tmp_path: Path
) -> None:
    settings = recipe.read_text()
    recipe.write_text(f"{text}{settings}" if "[" not in text else f"{settings}{text}")
    result = dragoman("train", recipe, "--data", TATOEBA, "--out", tmp_path / "run", "--check")
    assert result.code != 0
    assert message in result.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("updtes = 3", "updtes is an unknown setting; did you mean updates? It may have accumulate, "),
        ('objective = "sft"\ntrain = "lora"', "needs a model to start from; set start"),
        ("[[parts]]", "parts.name is missing; give it"),
    ],
)
def test_mistake_in_a_recipe_is_told_with_what_is_possible(
    text: str, message: str, dragoman: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    result = dragoman("train", path)
    assert result.code == 2
    assert f"error: {path}: " in result.err
    assert message in result.err
    absent = tmp_path / "none.toml"
    assert dragoman("train", absent).err == f"error: {absent} can't be read: No such file or directory\n"
