"""Every recipe trains a tiny model for a few updates, and what it leaves translates."""

import gzip
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dragoman.errors import InvalidOption
from dragoman.training.config import TrainingConfig
from dragoman.training.running import Recipe, check, train
from dragoman.translation.translator import Translator

RECIPES = Path(__file__).parents[2] / "recipes"
SENTENCES = Path(__file__).parents[1] / "data" / "tatoeba" / "de-en.tsv"
LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 512,
}
NLLB = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "encoder_sparse_step": 2,
    "decoder_sparse_step": 2,
    "num_experts": 4,
}
SMALL: dict[str, Any] = {
    "updates": 3,
    "warmup": 1,
    "batch_tokens": 1500,
    "accumulate": 1,
    "round_examples": 60,
    "precision": "fp32",
    "max_tokens": 300,
    "vocabulary": 420,
    "log_every": 1,
    "save_every": 2,
    "evaluate_every": 2,
    "evaluate_pairs": 2,
}


class Silent:
    """Nobody watches."""

    def updated(self, update: int, ends: int, figures: Mapping[str, float]) -> None:
        pass

    def logged(self, row: Mapping[str, Any]) -> None:
        pass


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the recipes read: the same few sentences as every language."""
    folder = tmp_path_factory.mktemp("data")
    rows = [line.split("\t")[:2] for line in SENTENCES.read_text(encoding="utf-8").splitlines()]
    mine = "".join(f"{text}\t{english}\n" for text, english in rows[:30])
    (folder / "mine.tsv").write_text(mine, encoding="utf-8")
    settings = [path for path in RECIPES.rglob("*.toml") if path.name != "origins.toml"]
    named = {code for path in settings for code in TrainingConfig.from_toml(path).languages}
    for name in ("mono", "bitext", "parallel", "preference", "dev"):
        (folder / name).mkdir()
    for code in sorted(named | {"en"}):
        few, test = rows[:8], rows[8:10]
        (folder / "mono" / f"{code}.txt.gz").write_bytes(gzip.compress(lines(text for text, _ in few)))
        (folder / "dev" / f"{code}.txt").write_bytes(lines(text for text, _ in test))
        (folder / "dev" / f"{code}-en.tsv").write_bytes(lines("\t".join(row) for row in test))
        (folder / "dev" / f"{code}-en.jsonl").write_bytes(lines(alma(code, *row) for row in test))
        (folder / "bitext" / f"{code}-en.tsv.gz").write_bytes(gzip.compress(lines("\t".join(r) for r in few)))
        (folder / "parallel" / f"{code}-en.jsonl").write_bytes(lines(alma(code, *row) for row in few))
        preferences = [preference(code, *row) for row in few] + [scored(code, *row) for row in few]
        (folder / "preference" / f"{code}-en.jsonl").write_bytes(lines(preferences))
    return folder


def lines(rows: Any) -> bytes:
    return "".join(f"{row}\n" for row in rows).encode()


def alma(code: str, text: str, english: str) -> str:
    return json.dumps({"translation": {code: text, "en": english}})


def preference(code: str, text: str, english: str) -> str:
    row = {"source": english, "chosen": text, "reject": text[::-1], "directions": f"en-{code}"}
    return json.dumps(row)


def scored(code: str, text: str, english: str) -> str:
    scores = {"gpt4_en_kiwi_xcomet": 0.7, "alma_en_kiwi_xcomet": 0.4, "ref_en_kiwi_xcomet": 0.9}
    texts = {code: text, "en": english, "gpt4_en": english.upper(), "alma_en": "No."}
    return json.dumps({"translation": {"language_pair": f"{code}-en", **texts, **scores}})


def small(name: str, data: Path, out: Path, **changes: Any) -> Recipe:
    """A recipe of its own kind and texts, and of nobody's size."""
    path = RECIPES / f"{name}.toml"
    config = TrainingConfig.from_toml(path)
    phases = tuple(replace(phase, updates=1) for phase in config.phases)
    config = replace(config, **SMALL | changes, phases=phases)
    if config.train != "all":
        config = replace(config, lora=replace(config.lora, rank=4))
    if config.start:
        config = replace(config, vocabulary=TrainingConfig.vocabulary)
    config.check()
    return Recipe(config, path.stem, data, out)


def run(recipe: Recipe) -> Path:
    said = "\n".join(check(recipe))
    assert all(f"{code} " in said for code in recipe.config.ratios and ("eng_Latn", "deu_Latn"))
    folder = train(recipe, Silent(), say=lambda text: None)
    rows = [json.loads(line) for line in (recipe.out / "log.jsonl").read_text().splitlines()]
    assert [row["update"] for row in rows if "loss" in row] == list(range(1, recipe.config.updates + 1))
    assert all(row["dev_loss"] > 0 for row in rows if "loss" not in row)
    assert any("loss" not in row for row in rows) == bool(recipe.config.dev)
    return folder


def translates(folder: Path, source: str, target: str) -> None:
    translator = Translator.load(str(folder), device="cpu", precision="fp32")
    options = {"source": source, "target": target, "max_new_tokens": 3}
    (found,) = translator.stream(["A cat."], **options)
    assert (found.source, found.target, found.error) == (source, target, None)


@pytest.fixture(scope="session")
def llama(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new Llama with a tokenizer of its own."""
    out = tmp_path_factory.mktemp("runs") / "llama"
    return run(small("alma/1-monolingual", data, out, start="", model=LLAMA, prompts="chat"))


@pytest.fixture(scope="session")
def nllb(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new NLLB-MoE, learned by a curriculum."""
    out = tmp_path_factory.mktemp("runs") / "nllb"
    return run(small("nllb-moe", data, out, model=NLLB))


def test_new_models_translate(llama: Path, nllb: Path) -> None:
    translates(llama, "eng_Latn", "deu_Latn")
    translates(nllb, "eng_Latn", "deu_Latn")


@pytest.mark.parametrize("name", ["alma/1-monolingual", "alma/2-parallel", "xalma/1-base"])
def test_llamas_learn_with_all_their_weights(name: str, data: Path, llama: Path, tmp_path: Path) -> None:
    translates(run(small(name, data, tmp_path, start=str(llama))), "eng_Latn", "deu_Latn")


@pytest.mark.parametrize("name", ["alma/2-parallel-lora", "alma/3-cpo"])
def test_llamas_learn_by_a_lora(name: str, data: Path, llama: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="reads 'chat' prompts"):
        list(check(small(name, data, tmp_path, start=str(llama))))
    translates(run(small(name, data, tmp_path, start=str(llama), prompts="")), "eng_Latn", "deu_Latn")


def test_a_module_learns_in_four_steps_on_a_frozen_base(data: Path, llama: Path, tmp_path: Path) -> None:
    before = (llama / "model.safetensors").read_bytes()
    start = llama
    for step in ("2-module", "3-pseudo-monolingual", "4-sft", "5-arpo"):
        start = run(small(f"xalma/{step}", data, tmp_path / step, start=str(start)))
    translates(start, "eng_Latn", "kor_Hang")
    assert (llama / "model.safetensors").read_bytes() == before


def test_a_module_learns_from_ones_own_pairs(data: Path, llama: Path, tmp_path: Path) -> None:
    translates(run(small("finetune/xalma-module", data, tmp_path, start=str(llama))), "kor_Hang", "eng_Latn")


@pytest.mark.parametrize("name", ["nllb", "nllb-lora", "nllb-moe"])
def test_nllb_learns_from_ones_own_pairs(name: str, data: Path, nllb: Path, tmp_path: Path) -> None:
    translates(run(small(f"finetune/{name}", data, tmp_path, start=str(nllb))), "deu_Latn", "eng_Latn")


def test_nllb_learns_a_language_that_it_does_not_have(data: Path, nllb: Path, tmp_path: Path) -> None:
    folder = run(small("finetune/new-language", data, tmp_path, start=str(nllb)))
    translates(folder, "tyv_Cyrl", "eng_Latn")
