"""A toy that a recipe learns from its texts to a model that translates."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from dragoman.training.config import TrainingConfig
from dragoman.training.parts import PartOptions
from dragoman.training.running import Recipe, train
from dragoman.translation.translator import Translator

pytestmark = pytest.mark.slow


class Silent:
    def updated(self, update: int, ends: int, figures: Mapping[str, float]) -> None:
        pass

    def logged(self, row: Mapping[str, Any]) -> None:
        pass


def copied(code: str, rng: Random) -> tuple[str, str]:
    """Letters; a full stop on one side, as pairs with equal sides are left out."""
    text = " ".join(rng.choice("bcdfghkmnp") for _ in range(rng.randrange(2, 7)))
    return f"{text}.", text


def write(folder: Path, codes: list[str], make: Any) -> dict[str, list[tuple[str, str]]]:
    """Files to learn from; what is not in them, to test with."""
    held = {}
    for code in codes:
        rng = Random(code)
        rows = list(dict.fromkeys(make(code, rng) for _ in range(6000)))
        held[code] = rows[:50]
        text = "".join(f"{one}\t{other}\n" for one, other in rows[50:])
        (folder / f"{code}-en.tsv").write_text(text, encoding="utf-8")
    return held


def accuracy(model: Path, held: dict[str, list[tuple[str, str]]]) -> float:
    """The share of held-out texts that are translated without a mistake, both ways."""
    translator = Translator.load(str(model), device="cpu", precision="fp32")
    right = []
    for code, rows in held.items():
        for source, target, side in ((code, "en", 0), ("en", code, 1)):
            options: dict[str, Any] = {"source": source, "target": target, "beams": 1, "max_new_tokens": 60}
            found = translator.stream([row[side] for row in rows], **options)
            right += [one.text == row[1 - side] for one, row in zip(found, rows, strict=True)]
    return sum(right) / len(right)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


SHAPE = {
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "dropout": 0.0,
    "attention_dropout": 0.0,
}
NLLB = TrainingConfig(
    max_tokens=60,
    batch_tokens=2000,
    round_examples=4000,
    updates=450,
    warmup=50,
    rate=3e-3,
    decay=0.6,
    label_smoothing=0.0,
    evaluate_every=10_000,
    save_every=10_000,
    precision="fp32",
    parts=(PartOptions("toy", files="{language}-en.tsv", same_numbers=False, same_opening=0),),
)


def test_dense_nllb_learns_to_copy(tmp_path: Path) -> None:
    held = write(tmp_path, ["de"], copied)
    shape = {**SHAPE, "encoder_sparse_step": 0, "decoder_sparse_step": 0}
    config = replace(NLLB, model=shape, languages={"de": "deu_Latn"}, vocabulary=32)
    folder = train(Recipe(config, "toy", tmp_path, tmp_path / "run"), Silent(), say=lambda text: None)
    assert accuracy(folder, held) >= 0.99
