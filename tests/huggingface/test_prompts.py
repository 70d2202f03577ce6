"""PEFT's prompts, which write into the embeddings or into the cache of each step of `generate`."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file

from dragoman.huggingface import NllbMoeForConditionalGeneration, XALMAForCausalLM

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
PLAIN: dict[str, Any] = {"num_beams": 1, "do_sample": False, "max_new_tokens": 6, "suppress_tokens": [2]}
KINDS = [PromptTuningConfig, PromptEncoderConfig, PrefixTuningConfig]
# PEFT asks transformers under a name that it is giving up.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Position ids are not supported:UserWarning"),
]


def nllb() -> tuple[NllbMoeForConditionalGeneration, dict[str, Any], str]:
    cases = load_file(GOLDEN / "nllb_moe_base" / "cases.safetensors")
    inputs = {name: cases[name] for name in ("input_ids", "attention_mask")}
    return NllbMoeForConditionalGeneration.from_pretrained(GOLDEN / "nllb_moe_base"), inputs, "SEQ_2_SEQ_LM"


def xalma() -> tuple[XALMAForCausalLM, dict[str, Any], str]:
    cases = load_file(GOLDEN / "xalma" / "cases.safetensors")
    inputs = {name: cases[name] for name in ("input_ids", "attention_mask")}
    return XALMAForCausalLM.from_pretrained(GOLDEN / "xalma"), {**inputs, "lang": "zh"}, "CAUSAL_LM"


def prompted(model: Any, kind: type, task: str) -> PeftModel:
    torch.manual_seed(0)
    shape = {"encoder_hidden_size": 16} if kind is PromptEncoderConfig else {}
    adapted = get_peft_model(model, kind(task_type=task, num_virtual_tokens=3, **shape))
    for name, parameter in adapted.named_parameters():
        if "prompt_encoder" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return adapted.eval()


@pytest.mark.parametrize("load", [nllb, xalma])
@pytest.mark.parametrize("kind", KINDS)
def test_prompt_learns(load: Any, kind: type) -> None:
    model, inputs, task = load()
    adapted = prompted(model, kind, task).train()
    labels = torch.tensor([[5, 6, 7]] * 3) if task == "SEQ_2_SEQ_LM" else inputs["input_ids"]
    adapted(**inputs, labels=labels).loss.backward()
    found = {name: p.grad for name, p in adapted.named_parameters() if p.grad is not None}
    assert found
    assert all("prompt_encoder" in name for name in found)
    assert all(bool(gradient.abs().sum() > 0) for gradient in found.values())


@pytest.mark.parametrize("load", [nllb, xalma])
@pytest.mark.parametrize("kind", KINDS)
def test_prompted_generation_with_a_cache_is_the_forward_pass_again_and_again(load: Any, kind: type) -> None:
    model, inputs, task = load()
    adapted = prompted(model, kind, task)
    bare = load()[0].generate(**inputs, **PLAIN)
    found = adapted.generate(**inputs, **PLAIN)
    assert not torch.equal(found, bare)
    seq2seq = task == "SEQ_2_SEQ_LM"
    ids = torch.full((3, 1), 2) if seq2seq else inputs["input_ids"]
    mask = inputs["attention_mask"]
    with torch.inference_mode():
        for _ in range(PLAIN["max_new_tokens"]):
            given = {"decoder_input_ids": ids} if seq2seq else {"input_ids": ids, "attention_mask": mask}
            logits = adapted(**{**inputs, **given}).logits[:, -1]
            logits[:, 2] = -torch.inf
            ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], 1)
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
    assert torch.equal(found, ids)
