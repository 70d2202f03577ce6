"""The Auto classes, and the snippets of the NLLB-MoE documentation as they are printed there."""

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig

import dragoman.huggingface
from dragoman.huggingface import (
    NllbMoeConfig,
    NllbMoeForConditionalGeneration,
    NllbMoeModel,
    NllbTokenizer,
)
from dragoman.text.tokenizers import NllbTokenizer as PlainTokenizer
from dragoman.text.tokenizers import to_tokenizer_json
from dragoman.text.tokenizers.layout import NllbLayout

ENGLISH = """\
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("facebook/nllb-moe-54b")
model = AutoModelForSeq2SeqLM.from_pretrained("facebook/nllb-moe-54b")

article = "Previously, Ring's CEO, Jamie Siminoff, remarked the company started when his doorbell wasn't audible from his shop in his garage."
inputs = tokenizer(article, return_tensors="pt")

translated_tokens = model.generate(
    **inputs, forced_bos_token_id=tokenizer.lang_code_to_id["fra_Latn"], max_length=50
)
tokenizer.batch_decode(translated_tokens, skip_special_tokens=True)[0]
"""  # noqa: E501
ROMANIAN = """\
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("facebook/nllb-moe-54b", src_lang="ron_Latn")
model = AutoModelForSeq2SeqLM.from_pretrained("facebook/nllb-moe-54b")

article = "Şeful ONU spune că nu există o soluţie militară în Siria"
inputs = tokenizer(article, return_tensors="pt")

translated_tokens = model.generate(
    **inputs, forced_bos_token_id=tokenizer.lang_code_to_id["deu_Latn"], max_length=30
)
tokenizer.batch_decode(translated_tokens, skip_special_tokens=True)[0]
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, spm_folder: Path) -> Path:
    """A hub cache with facebook/nllb-moe-54b in it: the files of the release, but small and random."""
    cache = tmp_path_factory.mktemp("hub")
    repository = cache / "models--facebook--nllb-moe-54b"
    snapshot = repository / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc123")
    layout = NllbLayout(1500)
    write_tokenizer(snapshot, spm_folder, layout)
    write_model(snapshot, layout)
    return cache


def write_tokenizer(snapshot: Path, spm_folder: Path, layout: NllbLayout) -> None:
    spm = "sentencepiece.bpe.model"
    (snapshot / spm).write_bytes((spm_folder / spm).read_bytes())
    to_tokenizer_json(snapshot / spm, snapshot / "tokenizer.json")
    mask = {"content": "<mask>", "lstrip": True, "normalized": True, "rstrip": False, "single_word": False}
    named = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    named |= {"sep_token": "</s>", "unk_token": "<unk>", "mask_token": mask}
    named |= {"additional_special_tokens": list(layout.languages)}
    (snapshot / "special_tokens_map.json").write_text(json.dumps(named))
    config = named | {
        "mask_token": {"__type": "AddedToken", **mask},
        "sp_model_kwargs": {},
        "special_tokens_map_file": None,
        "src_lang": None,
        "tgt_lang": None,
        "tokenizer_class": "NllbTokenizer",
    }
    (snapshot / "tokenizer_config.json").write_text(json.dumps(config))


def write_model(snapshot: Path, layout: NllbLayout) -> None:
    torch.manual_seed(0)
    model = NllbMoeForConditionalGeneration(
        NllbMoeConfig(
            vocab_size=layout.rows,
            d_model=16,
            encoder_layers=4,
            decoder_layers=4,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            num_experts=4,
            init_std=0.5,
        )
    )
    fields = model.config.to_dict() | {"max_length": 200, "torch_dtype": "float32", "model_type": "nllb-moe"}
    (snapshot / "config.json").write_text(json.dumps(fields | {"transformers_version": "4.27.0.dev0"}))
    GenerationConfig(
        max_length=200, decoder_start_token_id=2, eos_token_id=2, pad_token_id=1
    ).save_pretrained(snapshot)
    weights = {name: p.detach() for name, p in model.model.named_parameters()}
    weight_map = {}
    for number in (0, 1):
        file = f"pytorch_model-{number + 1:05}-of-00002.bin"
        part = {name: weight for place, (name, weight) in enumerate(weights.items()) if place % 2 == number}
        torch.save(part, snapshot / file)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (snapshot / "pytorch_model.bin.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("snippet", "source", "target", "length"),
    [(ENGLISH, "eng_Latn", "fra_Latn", 50), (ROMANIAN, "ron_Latn", "deu_Latn", 30)],
    ids=["english", "romanian"],
)
def test_published_snippet_runs_as_printed(
    hub: Path, monkeypatch: pytest.MonkeyPatch, snippet: str, source: str, target: str, length: int
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(hub))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    *lines, last = snippet.strip().split("\n")
    scope: dict[str, Any] = {}
    exec("\n".join(lines), scope)
    text, tokens = eval(last, scope), scope["translated_tokens"]

    snapshot = hub / "models--facebook--nllb-moe-54b" / "snapshots" / "abc123"
    tokenizer = PlainTokenizer.from_folder(snapshot)
    ids = torch.tensor([tokenizer.encode(scope["article"], source)])
    assert torch.equal(scope["inputs"]["input_ids"], ids)
    assert type(scope["model"]) is NllbMoeForConditionalGeneration
    forced = tokenizer.language_id(target)
    assert tokens[0, :2].tolist() == [2, forced]
    assert 2 < tokens.shape[1] <= length
    model = NllbMoeForConditionalGeneration.from_pretrained(snapshot)
    assert torch.equal(tokens, model.generate(ids, forced_bos_token_id=forced, max_length=length))
    assert text == tokenizer.decode(tokens[0])


def test_auto_classes_give_these_models(golden: Path) -> None:
    folder = golden / "nllb_moe_base"
    assert type(AutoConfig.from_pretrained(folder)) is NllbMoeConfig
    assert type(AutoModel.from_pretrained(folder)) is NllbMoeModel
    assert type(AutoModelForSeq2SeqLM.from_pretrained(folder)) is NllbMoeForConditionalGeneration
    dense = AutoModelForSeq2SeqLM.from_pretrained(golden / "nllb_dense")
    assert type(dense) is transformers.M2M100ForConditionalGeneration


def test_config_of_transformers_own_class_gives_these_models_too() -> None:
    sizes = {"vocab_size": 20, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "num_experts": 2}
    config = transformers.NllbMoeConfig(**sizes, encoder_attention_heads=2, decoder_attention_heads=2)
    assert type(AutoModelForSeq2SeqLM.from_config(config)) is NllbMoeForConditionalGeneration
    assert type(AutoModel.from_config(config)) is NllbMoeModel


def test_registering_again_changes_nothing(hub: Path) -> None:
    dragoman.huggingface.register()
    snapshot = hub / "models--facebook--nllb-moe-54b" / "snapshots" / "abc123"
    assert type(AutoConfig.from_pretrained(snapshot)) is NllbMoeConfig
    assert type(AutoModelForSeq2SeqLM.from_pretrained(snapshot)) is NllbMoeForConditionalGeneration
    assert type(AutoTokenizer.from_pretrained(snapshot)) is NllbTokenizer
