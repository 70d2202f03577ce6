"""Toys that every kind of model learns in a minute."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from dragoman.training.config import LoraOptions, TrainingConfig
from dragoman.training.parts import PartOptions
from dragoman.training.running import Recipe, train
from dragoman.translation.translator import Translator

pytestmark = pytest.mark.slow
WORDS = {
    "en": ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"],
    "de": ["eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn"],
    "fr": ["un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf", "dix"],
}
"""A toy language has a word for each of another one, in reverse order."""


class Silent:
    def updated(self, update: int, ends: int, figures: Mapping[str, float]) -> None:
        pass

    def logged(self, row: Mapping[str, Any]) -> None:
        pass


def phrase(code: str, rng: Random) -> tuple[str, str]:
    """Of two to five words."""
    words = [rng.randrange(10) for _ in range(rng.randrange(2, 6))]
    return " ".join(WORDS[code][i] for i in reversed(words)), " ".join(WORDS["en"][i] for i in words)


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
    "num_experts": 4,
    "moe_token_dropout": 0.0,
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


@pytest.mark.parametrize("step", [0, 2], ids=["dense", "moe"])
@pytest.mark.parametrize(("codes", "make"), [(["de"], copied), (["de", "fr"], phrase)], ids=["copy", "two"])
def test_nllb_learns_a_toy(codes: list[str], make: Any, step: int, tmp_path: Path) -> None:
    held = write(tmp_path, codes, make)
    shape = {**SHAPE, "encoder_sparse_step": step, "decoder_sparse_step": step}
    languages = {"de": "deu_Latn", "fr": "fra_Latn"}
    pieces = 32 if make is copied else 120
    chosen = {code: languages[code] for code in codes}
    config = replace(NLLB, model=shape, languages=chosen, vocabulary=pieces)
    folder = train(Recipe(config, "toy", tmp_path, tmp_path / "run"), Silent(), say=lambda text: None)
    assert accuracy(folder, held) >= 0.99


LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
}


def test_modules_learn_a_toy_on_one_frozen_base(tmp_path: Path) -> None:
    """The base reads pairs as text; two groups' modules learn to translate, each alone."""
    held = write(tmp_path, ["de", "fr"], phrase)
    languages = {"de": "deu_Latn", "fr": "fra_Latn"}
    shared = replace(NLLB, max_tokens=256, batch_tokens=6000, languages=languages)
    base = replace(shared, objective="causal", model=LLAMA, vocabulary=300, max_tokens=64, batch_tokens=2000)
    start = train(Recipe(base, "base", tmp_path, tmp_path / "base"), Silent(), say=lambda text: None)
    for code, group in (("de", 1), ("fr", 4)):
        module = replace(
            shared,
            objective="sft",
            start=str(start),
            train="module",
            group=group,
            languages={code: languages[code]},
            lora=LoraOptions(rank=64, dropout=0.0),
        )
        folder = train(Recipe(module, code, tmp_path, tmp_path / code), Silent(), say=lambda text: None)
        assert accuracy(folder, {code: held[code]}) >= 0.99
