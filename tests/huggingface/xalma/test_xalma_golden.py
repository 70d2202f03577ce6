"""Against outputs of the authors' own implementation, and of PEFT on a stock Llama."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor

from dragoman.huggingface import (
    XALMAForCausalLM,
    XALMAForQuestionAnswering,
    XALMAForSequenceClassification,
    XALMAForTokenClassification,
    XALMAModel,
)

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
LANGS = ("zh", "de", "uk", "ar")
OPTIONS = {"max_new_tokens": 14, "do_sample": False, "eos_token_id": 2, "pad_token_id": 0}


@pytest.fixture(scope="module")
def model() -> XALMAForCausalLM:
    return XALMAForCausalLM.from_pretrained(GOLDEN / "xalma")


@pytest.fixture(scope="module")
def cases() -> dict[str, Tensor]:
    return load_file(GOLDEN / "xalma" / "cases.safetensors")


@pytest.fixture(scope="module")
def inputs(cases: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: cases[name] for name in ("input_ids", "attention_mask")}


def assert_close(found: Tensor, wanted: Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(found, wanted, atol=tolerance, rtol=0)


def test_cases_have_these_languages() -> None:
    assert tuple(json.loads((GOLDEN / "xalma" / "cases.json").read_text())["langs"]) == LANGS


@torch.inference_mode()
@pytest.mark.parametrize("lang", LANGS)
def test_logits_states_and_loss_are_the_authors(
    model: XALMAForCausalLM, cases: dict[str, Tensor], inputs: dict[str, Tensor], lang: str
) -> None:
    real = inputs["attention_mask"].bool()
    labels = inputs["input_ids"].masked_fill(~real, -100)
    found = model(**inputs, labels=labels, lang=lang, output_hidden_states=True)
    assert_close(found.logits[real], cases[f"{lang}.logits"][real])
    assert_close(found.hidden_states[-1][real], cases[f"{lang}.last_hidden_state"][real])
    assert_close(found.loss, cases[f"{lang}.loss"][0], 1e-5)
    assert len(found.hidden_states) == 4


@pytest.mark.parametrize("lang", LANGS)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("greedy", {"num_beams": 1}),
        ("beam5", {"num_beams": 5}),
        ("beam4_lp06_nret2", {"num_beams": 4, "length_penalty": 0.6, "num_return_sequences": 2}),
    ],
)
def test_generated_ids_and_scores_are_the_authors(
    model: XALMAForCausalLM,
    cases: dict[str, Tensor],
    inputs: dict[str, Tensor],
    lang: str,
    name: str,
    options: dict[str, float],
) -> None:
    found = model.generate(
        **inputs, **OPTIONS, **options, lang=lang, return_dict_in_generate=True, output_scores=True
    )
    assert torch.equal(found.sequences, cases[f"{lang}.{name}_ids"])
    if name != "greedy":
        assert_close(found.sequences_scores, cases[f"{lang}.{name}_scores"], 1e-3)


@torch.inference_mode()
def test_heads_are_the_authors(cases: dict[str, Tensor]) -> None:
    weights = load_file(GOLDEN / "xalma" / "heads.safetensors")
    inputs = {name: cases[f"heads.{name}"] for name in ("input_ids", "attention_mask")}
    real = inputs["attention_mask"].bool()

    def run(kind: type, name: str) -> transformers.utils.ModelOutput:
        head, report = kind.from_pretrained(GOLDEN / "xalma", num_labels=5, output_loading_info=True)
        own = {key.removeprefix(f"{name}."): w for key, w in weights.items() if key.startswith(f"{name}.")}
        assert set(report["missing_keys"]) == set(own)
        assert set(report["unexpected_keys"]) == {"lm_head.weight"}
        assert not head.load_state_dict(own, strict=False).unexpected_keys
        return head(**inputs, lang="zh")

    sequence = run(XALMAForSequenceClassification, "sequence_classification").logits
    assert_close(sequence, cases["heads.sequence_classification_logits"])
    token = run(XALMAForTokenClassification, "token_classification").logits
    assert_close(token[real], cases["heads.token_classification_logits"][real])
    answer = run(XALMAForQuestionAnswering, "question_answering")
    assert_close(answer.start_logits[real], cases["heads.qa_start_logits"][real])
    assert_close(answer.end_logits[real], cases["heads.qa_end_logits"][real])


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft's own
@torch.inference_mode()
def test_combined_is_the_adapter_on_a_stock_llama_is_the_merged_one(
    model: XALMAForCausalLM, inputs: dict[str, Tensor]
) -> None:
    folder = GOLDEN / "xalma_group6"
    real = inputs["attention_mask"].bool()
    wanted = model(**inputs, lang="ja").logits[real]
    base = transformers.LlamaForCausalLM.from_pretrained(folder / "base")
    adapted = PeftModel.from_pretrained(base, folder / "adapter").eval()
    merged = transformers.LlamaForCausalLM.from_pretrained(folder / "merged")
    ours = XALMAForCausalLM.from_pretrained(folder / "merged")
    assert_close(adapted(**inputs).logits[real], wanted)
    assert_close(merged(**inputs).logits[real], wanted)
    assert_close(ours(**inputs, lang="ja").logits[real], wanted)
    # A stock Llama never writes padding with the id 0 behind what a beam gives.
    options = {**OPTIONS, "num_beams": 3, "pad_token_id": 2}
    ids = model.generate(**inputs, **options, lang="ja")
    assert torch.equal(adapted.generate(**inputs, **options), ids)
    assert torch.equal(ours.generate(**inputs, **options, lang="ja"), ids)


@torch.inference_mode()
def test_rows_of_different_languages_give_what_each_gives_alone(
    model: XALMAForCausalLM, cases: dict[str, Tensor], inputs: dict[str, Tensor]
) -> None:
    langs = ["uk", "zh", "ar"]
    real = inputs["attention_mask"].bool()
    found = model(**inputs, lang=langs).logits
    states = XALMAModel.from_pretrained(GOLDEN / "xalma")(**inputs, lang=langs).last_hidden_state
    for row, lang in enumerate(langs):
        assert_close(found[row][real[row]], cases[f"{lang}.logits"][row][real[row]])
        assert_close(states[row][real[row]], cases[f"{lang}.last_hidden_state"][row][real[row]])
    for name, options in (("greedy", {}), ("beam5", {"num_beams": 5})):
        together = model.generate(**inputs, **OPTIONS, **options, lang=langs)
        for row, lang in enumerate(langs):
            wanted = cases[f"{lang}.{name}_ids"][row]
            length = min(len(wanted), together.shape[1])
            assert together[row, :length].tolist() == wanted[:length].tolist()
            assert not together[row, length:].any()
            assert not wanted[length:].any()
