"""The Auto classes, and the snippets of the X-ALMA documentation on folders in the hub's layout."""

import json
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentencepiece import SentencePieceTrainer
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    GenerationConfig,
    LlamaForCausalLM,
    LlamaTokenizer,
)

import dragoman.huggingface
from dragoman.huggingface import (
    XALMAConfig,
    XALMAForCausalLM,
    XALMAForQuestionAnswering,
    XALMAForSequenceClassification,
    XALMAForTokenClassification,
    XALMAModel,
)
from dragoman.text.tokenizers.llama import LlamaTokenizer as PlainTokenizer

DATA = Path(__file__).parents[2] / "data"
COMBINED = DATA / "golden" / "xalma"
PROMPT = """
prompt = "Translate this from Chinese to English:\\nChinese: 我爱机器翻译。\\nEnglish:"
chat_style_prompt = [{"role": "user", "content": prompt}]
prompt = tokenizer.apply_chat_template(chat_style_prompt, tokenize=False, add_generation_prompt=True)
input_ids = tokenizer(prompt, return_tensors="pt", padding=True, max_length=40, truncation=True).input_ids
with torch.no_grad():
    generated_ids = model.generate(
        input_ids=input_ids, num_beams=5, max_new_tokens=20, do_sample=True, temperature=0.6, top_p=0.9LANG
    )
outputs = tokenizer.batch_decode(generated_ids, skip_special_tokens=True)
"""
MERGED = """
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(
    "haoranxu/X-ALMA-13B-Group6", dtype=torch.float32, device_map="auto"
)
tokenizer = AutoTokenizer.from_pretrained("haoranxu/X-ALMA-13B-Group6", padding_side="left")
""" + PROMPT.replace("LANG", "")
ADAPTED = """
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(
    "haoranxu/X-ALMA-13B-Pretrain", dtype=torch.float32, device_map="auto"
)
model = PeftModel.from_pretrained(model, "haoranxu/X-ALMA-13B-Group6")
tokenizer = AutoTokenizer.from_pretrained("haoranxu/X-ALMA-13B-Group6", padding_side="left")
""" + PROMPT.replace("LANG", "")
TOGETHER = """
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("haoranxu/X-ALMA", dtype=torch.float32, device_map="auto")
tokenizer = AutoTokenizer.from_pretrained("haoranxu/X-ALMA", padding_side="left")
""" + PROMPT.replace("LANG", ', lang="zh"')
# Llama-2's, for one turn of the user.
TEMPLATE = (
    "{% for message in messages %}{{ bos_token + '[INST] ' + message['content'].strip() }}"
    "{{ ' [/INST]' }}{% endfor %}"
)
SIZE = 1800
REVISION = "0123456789abcdef" * 2 + "01234567"


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small SentencePiece model with Llama-2's settings, and the files beside it."""
    folder = tmp_path_factory.mktemp("tokenizer")
    written = BytesIO()
    lines = (DATA / "multilingual.txt").read_text(encoding="utf-8").splitlines()
    lines += ["[INST] Translate this from Chinese to English: Chinese: English: [/INST]"] * 5
    SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=written,
        model_type="bpe",
        vocab_size=SIZE,
        character_coverage=0.985,
        normalization_rule_name="identity",
        byte_fallback=True,
        remove_extra_whitespaces=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(written.getvalue())
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(named))
    config = {**named, "tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False}
    config |= {"chat_template": TEMPLATE, "model_max_length": 4096, "legacy": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> Path:
    """A hub's cache with three of the published repositories, small: the golden model with more words."""
    cache = tmp_path_factory.mktemp("hub")
    golden = DATA / "golden"
    group = snapshot(cache, "X-ALMA-13B-Group6", golden / "xalma_group6" / "merged", tokenizer_folder)
    snapshot(cache, "X-ALMA-13B-Pretrain", golden / "xalma_group6" / "base", tokenizer_folder)
    snapshot(cache, "X-ALMA", golden / "xalma", tokenizer_folder)
    for file in (golden / "xalma_group6" / "adapter").iterdir():
        shutil.copy(file, group)
    config = json.loads((group / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "haoranxu/X-ALMA-13B-Pretrain"
    (group / "adapter_config.json").write_text(json.dumps(config))
    return cache


def snapshot(cache: Path, name: str, model: Path, tokenizer: Path) -> Path:
    repository = cache / f"models--haoranxu--{name}"
    folder = repository / "snapshots" / REVISION
    shutil.copytree(tokenizer, folder)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(REVISION)
    config = json.loads((model / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": SIZE}))
    weights = load_file(model / "model.safetensors")
    for key in ("model.embed_tokens.weight", "lm_head.weight"):
        torch.manual_seed(0)
        more = torch.randn(SIZE - len(weights[key]), weights[key].shape[1]) * weights[key].std()
        weights[key] = torch.cat([weights[key], more])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=0).save_pretrained(folder)
    return folder


def run(snippet: str, hub: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(hub))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    scope: dict[str, Any] = {}
    loading, mark, generating = snippet.partition("with torch.no_grad()")
    exec(loading, scope)
    torch.manual_seed(5)  # loading draws numbers too, and not always as many
    exec(mark + generating, scope)
    return scope


def text_of(scope: dict[str, Any]) -> tuple[Tensor, str]:
    ids = scope["generated_ids"]
    assert ids.shape[0] == 1
    assert scope["input_ids"].shape[1] == 40  # cut, as the snippet has it
    assert 40 < ids.shape[1] <= 60
    (text,) = scope["outputs"]
    return ids, text


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft's own
def test_documented_snippets_run_and_translate_alike(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    combined = run(TOGETHER, hub, monkeypatch)
    adapted = run(ADAPTED, hub, monkeypatch)
    assert type(combined["model"]) is XALMAForCausalLM
    assert type(combined["tokenizer"]) is LlamaTokenizer
    assert type(adapted["model"].get_base_model()) is LlamaForCausalLM
    group = hub / "models--haoranxu--X-ALMA-13B-Group6" / "snapshots" / REVISION
    # With PEFT installed transformers loads base and adapter here, as the folder holds an adapter too.
    both = run(MERGED, hub, monkeypatch)
    for file in group.glob("adapter_*"):
        file.rename(file.with_suffix(".away"))
    merged = run(MERGED, hub, monkeypatch)
    for file in group.glob("adapter_*"):
        file.rename(file.with_suffix(".json" if "config" in file.name else ".safetensors"))
    ids, text = text_of(combined)
    for other in (adapted, both, merged):
        assert torch.equal(text_of(other)[0], ids)
        assert text_of(other)[1] == text
    prompt = combined["prompt"]
    assert prompt.startswith("<s>[INST] Translate this from Chinese to English:\nChinese: 我爱机器翻译。")
    plain = PlainTokenizer.from_folder(group)
    assert combined["input_ids"][0, :2].tolist() == [1, 1]  # both the template and the tokenizer begin
    assert plain.bos_id == 1


def test_tokenizer_is_llama_s(tokenizer_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tokenizer_folder, tmp_path / "folder")
    shutil.copy(COMBINED / "config.json", folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["tokenizer_class"]  # the model's config alone then says which
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    assert type(tokenizer) is LlamaTokenizer
    plain = PlainTokenizer.from_folder(folder)
    text = "Translate this from Chinese to English:\nChinese: 我爱机器翻译。\nEnglish:"
    assert tokenizer(text).input_ids == plain.encode(text)
    assert tokenizer(["a", text], padding=True).input_ids[0][0] == 0


@pytest.mark.parametrize(
    ("auto", "kind"),
    [
        (AutoModel, XALMAModel),
        (AutoModelForCausalLM, XALMAForCausalLM),
        (AutoModelForSequenceClassification, XALMAForSequenceClassification),
        (AutoModelForQuestionAnswering, XALMAForQuestionAnswering),
        (AutoModelForTokenClassification, XALMAForTokenClassification),
    ],
)
def test_auto_classes_give_these_models(auto: type, kind: type) -> None:
    dragoman.huggingface.register()  # again, which changes nothing
    assert type(auto.from_pretrained(COMBINED)) is kind
    assert type(AutoConfig.from_pretrained(COMBINED)) is XALMAConfig
    assert (
        type(AutoModelForCausalLM.from_pretrained(DATA / "golden" / "xalma_group6" / "base"))
        is LlamaForCausalLM
    )
