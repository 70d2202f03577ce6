"""Toys that every kind of model learns from scratch: a recipe's texts in, a model that translates out.

A toy needs enough texts and updates. With 6,000 draws of phrases and 450 updates of AdamW dense models and
mixtures of experts alike stay at three quarters: what comes out wrong has a word twice, above all.
"""

from collections.abc import Callable, Mapping, Sequence
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
LANGUAGES = {"de": "deu_Latn", "fr": "fra_Latn"}
NAMES = {"en": "English", "de": "German", "fr": "French"}
GROUPS = {"de": 1, "fr": 4}
"""X-ALMA's."""
WORDS = {
    "en": ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"],
    "de": ["eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn"],
    "fr": ["un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf", "dix"],
}
Make = Callable[[str, Random], tuple[str, str]]
Held = dict[str, list[tuple[str, str]]]


class Silent:
    def updated(self, update: int, ends: int, figures: Mapping[str, float]) -> None:
        pass

    def logged(self, row: Mapping[str, Any]) -> None:
        pass


def copied(code: str, rng: Random) -> tuple[str, str]:
    """Two to six of ten letters, which stand for digits: a text of digits alone is no language, and copied
    without a model. A full stop is on one side, as pairs with equal sides are left out."""
    text = " ".join(rng.choice("bcdfghkmnp") for _ in range(rng.randrange(2, 7)))
    return f"{text}.", text


def phrase(code: str, rng: Random) -> tuple[str, str]:
    """Two to five words; each language has its own for each of English, in reverse order."""
    words = [rng.randrange(10) for _ in range(rng.randrange(2, 6))]
    return " ".join(WORDS[code][i] for i in reversed(words)), " ".join(WORDS["en"][i] for i in words)


def write(folder: Path, codes: Sequence[str], make: Make) -> Held:
    """Files to learn from; what is not in them, to test with."""
    held = {}
    for code in codes:
        rng = Random(code)
        rows = list(dict.fromkeys(make(code, rng) for _ in range(20_000)))
        held[code] = rows[:50]
        save(folder / f"{code}-en.tsv", (f"{one}\t{other}" for one, other in rows[50:]))
    return held


def save(path: Path, lines: Any) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def accuracy(model: Path, held: Held) -> float:
    """The share of held-out texts that are translated without a mistake, both ways."""
    translator = Translator.load(str(model), device="cpu", precision="fp32")
    right = []
    for code, rows in held.items():
        for source, target, side in ((code, "en", 0), ("en", code, 1)):
            options: dict[str, Any] = {"source": source, "target": target, "beams": 1, "max_new_tokens": 60}
            found = translator.stream([row[side] for row in rows], **options)
            right += [one.text == row[1 - side] for one, row in zip(found, rows, strict=True)]
    return sum(right) / len(right)


def learned(config: TrainingConfig, data: Path, name: str) -> Path:
    """The model of a run."""
    return train(Recipe(config, name, data, data / name), Silent(), say=lambda text: None)


@pytest.fixture(autouse=True)
def _on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


PAIRS = PartOptions("pairs", files="{language}-en.tsv", same_numbers=False, same_opening=0)
USUAL = TrainingConfig(
    languages=LANGUAGES,
    batch_tokens=1000,
    round_examples=4000,
    updates=1200,
    warmup=50,
    optimizer="muon",
    rate=3e-3,
    decay=0.6,
    label_smoothing=0.0,
    evaluate_every=10_000,
    save_every=10_000,
    precision="fp32",
    parts=(PAIRS,),
)
NLLB = {
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "num_experts": 4,
    "dropout": 0.0,
    "attention_dropout": 0.0,
}


@pytest.mark.parametrize("step", [0, 2], ids=["dense", "moe"])
@pytest.mark.parametrize(("codes", "make"), [(["de"], copied), (["de", "fr"], phrase)], ids=["copy", "two"])
def test_nllb_learns_a_toy(codes: list[str], make: Make, step: int, tmp_path: Path) -> None:
    """moe: two of four experts in every second layer, masked and balanced as published."""
    held = write(tmp_path, codes, make)
    shape = {**NLLB, "encoder_sparse_step": step, "decoder_sparse_step": step}
    chosen = {code: LANGUAGES[code] for code in codes}
    config = replace(USUAL, model=shape, languages=chosen, vocabulary=32 if make is copied else 120)
    assert accuracy(learned(config, tmp_path, "nllb"), held) >= 0.99


LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}


def instructions(folder: Path, codes: Sequence[str], make: Make) -> None:
    """Prompts without answers, so that the vocabulary has their words, as Llama's has."""
    for code in codes:
        rng = Random(f"{code} instructions")
        rows = []
        for _ in range(3000):
            side = rng.randrange(2)
            names = [NAMES[code], NAMES["en"]][:: 1 - 2 * side]
            text = make(code, rng)[side]
            rows.append(
                f"[INST] Translate this from {' to '.join(names)}: {names[0]}: {text} {names[1]}: [/INST]"
            )
        save(folder / f"{code}.txt", rows)


@pytest.mark.parametrize(("codes", "make"), [(["de"], copied), (["de", "fr"], phrase)], ids=["copy", "two"])
def test_modules_learn_a_toy_on_one_frozen_base(codes: list[str], make: Make, tmp_path: Path) -> None:
    """The base reads pairs as text; a module for each group learns to translate when it is asked to."""
    held = write(tmp_path, codes, make)
    instructions(tmp_path, codes, make)
    asked = PartOptions("instructions", kind="monolingual", files="{language}.txt", share=0.2)
    usual = replace(USUAL, languages={code: LANGUAGES[code] for code in codes})
    text = replace(usual, objective="causal", model=LLAMA, vocabulary=400, parts=(PAIRS, asked))
    base = learned(replace(text, max_tokens=64, batch_tokens=2000, updates=600), tmp_path, "base")
    for code in codes:
        module = replace(
            usual,
            objective="sft",
            start=str(base),
            train="module",
            group=GROUPS[code],
            languages={code: LANGUAGES[code]},
            lora=LoraOptions(rank=64, dropout=0.0),
            max_tokens=100,
            batch_tokens=3000,
            updates=500,
        )
        assert accuracy(learned(module, tmp_path, code), {code: held[code]}) >= 0.99
