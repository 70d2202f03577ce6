"""PEFT's LoRA adapters against PEFT itself: whichever layers, ranks and scales they have."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import LlamaForCausalLM, M2M100ForConditionalGeneration

from dragoman.checkpoints.llama import load_xalma
from dragoman.checkpoints.module_files import combine, describe, merge
from dragoman.checkpoints.nllb import load_nllb
from dragoman.checkpoints.nllb_files import moe_name
from dragoman.errors import CheckpointError, KeyMismatch
from dragoman.surgery.language_modules import attach_, merge_

# PEFT 0.21 asks transformers 5.24 by an old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
BASE, DENSE = GOLDEN / "xalma_group6" / "base", GOLDEN / "nllb_dense"
KINDS: dict[str, dict[str, Any]] = {
    "some layers": {"layers_to_transform": [1]},
    "one layer": {"layers_to_transform": 2},
    "excluded by name": {"exclude_modules": ["layers.0.self_attn.q_proj"]},
    "excluded by pattern": {"exclude_modules": r".*\.1\..*v_proj"},
    "targets by pattern": {"target_modules": r".*layers\.[02]\.self_attn\.[kv]_proj"},
    "ranks": {"rank_pattern": {"q_proj": 2}},
    "scales": {"alpha_pattern": {r"layers\.1\.self_attn\.v_proj": 3}, "use_rslora": True},
}


def train(model: Any, folder: Path, base: object, **settings: Any) -> dict[str, torch.Tensor]:
    """Write an adapter with random numbers for `model`; returns the weights with it merged in."""
    settings = {"target_modules": ["q_proj", "v_proj"], **settings}
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=6, **settings))
    torch.manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, 0, 0.1)
    adapted.save_pretrained(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(base)}))
    return dict(adapted.merge_and_unload().state_dict())


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> dict[str, Any]:
    return KINDS[request.param]


def test_llama_with_any_lora_is_what_peft_makes_of_it(kind: dict[str, Any], tmp_path: Path) -> None:
    wanted = train(LlamaForCausalLM.from_pretrained(BASE), tmp_path / "lora", BASE, **kind)
    found = load_xalma(tmp_path / "lora").state_dict()
    assert describe(tmp_path / "lora").kind == "adapter"
    merge(BASE, tmp_path / "merged", adapter=tmp_path / "lora")
    written = load_file(tmp_path / "merged" / "model.safetensors")
    attached = load_xalma(BASE, [6], tmp_path / "lora")
    later = load_xalma(BASE)
    attach_(later, 6, tmp_path / "lora")
    for model in (attached, later):
        merge_(model, 6)
    names = [name for name in wanted if name in found and "lora" not in name]
    assert len(names) == len(wanted)
    for name in names:
        for tensors in (found, written, attached.state_dict(), later.state_dict()):
            torch.testing.assert_close(tensors[name], wanted[name], rtol=1e-5, atol=1e-5)


def test_lora_of_some_layers_can_not_be_combined(tmp_path: Path) -> None:
    every = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    llama = LlamaForCausalLM.from_pretrained(BASE)
    train(llama, tmp_path / "few", BASE, target_modules=every, layers_to_transform=[0])
    with pytest.raises(CheckpointError, match=r"leaves out q_proj.*of all layers"):
        combine(BASE, {6: tmp_path / "few"}, tmp_path / "out")
    llama = LlamaForCausalLM.from_pretrained(BASE)
    train(llama, tmp_path / "uneven", BASE, target_modules=every, alpha_pattern={"q_proj": 1})
    with pytest.raises(CheckpointError, match="several ranks or scales"):
        combine(BASE, {6: tmp_path / "uneven"}, tmp_path / "out")


def test_dense_nllb_with_any_lora_is_what_peft_makes_of_it(kind: dict[str, Any], tmp_path: Path) -> None:
    model = M2M100ForConditionalGeneration.from_pretrained(DENSE)
    wanted = train(model, tmp_path / "lora", DENSE, task_type="SEQ_2_SEQ_LM", **kind)
    found = dict(load_nllb(tmp_path / "lora").named_parameters())
    for name, tensor in wanted.items():
        if moe_name(name) in found:
            torch.testing.assert_close(found[moe_name(name)], tensor, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")
@pytest.mark.filterwarnings("ignore:Input and output embeddings are no longer tied:UserWarning")
@pytest.mark.filterwarnings("ignore:Model with `tie_word_embeddings=True`:UserWarning")
def test_embedding_saved_with_a_lora_stands_for_the_bases(tmp_path: Path) -> None:
    """As when a language was added: the embedding has a row more than that of the base."""
    model = M2M100ForConditionalGeneration.from_pretrained(DENSE)
    model.resize_token_embeddings(model.config.vocab_size + 1, mean_resizing=False)
    wanted = train(model, tmp_path / "lora", DENSE, task_type="SEQ_2_SEQ_LM", modules_to_save=["shared"])
    found = load_nllb(tmp_path / "lora")
    assert found.config.vocab_size == found.shared.weight.shape[0] == model.config.vocab_size
    torch.testing.assert_close(found.shared.weight, wanted["model.shared.weight"])


def test_base_is_found_beside_the_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere := tmp_path / "far" / "away").mkdir(parents=True)
    monkeypatch.chdir(elsewhere)  # whatever is beside the folder that the tests run in
    model = M2M100ForConditionalGeneration.from_pretrained(DENSE)
    train(model, tmp_path / "lora", "../base", task_type="SEQ_2_SEQ_LM")
    with pytest.raises(CheckpointError, match=r"which it calls '\.\./base'"):
        load_nllb(tmp_path / "lora")
    shutil.copytree(DENSE, tmp_path / "base")
    load_nllb(tmp_path / "lora")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda key: key.replace("q_proj", "x_proj"), KeyMismatch, "unexpected"),
        (lambda key: key.replace("lora_B", "lora_C"), KeyMismatch, "unexpected"),
    ],
)
def test_adapter_of_another_base_is_refused(
    change: Callable[[str], str], error: type[Exception], message: str, tmp_path: Path
) -> None:
    model = M2M100ForConditionalGeneration.from_pretrained(DENSE)
    train(model, tmp_path / "lora", DENSE, task_type="SEQ_2_SEQ_LM")
    file = tmp_path / "lora" / "adapter_model.safetensors"
    tensors = {change(key): tensor for key, tensor in load_file(file).items()}
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(error, match=message):
        load_nllb(tmp_path / "lora")
