"""The models against transformers 4.57.6, tokens dropped and all."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from dragoman.huggingface import NllbMoeForConditionalGeneration, NllbMoeModel

BEAMS = {
    "beam4": {"num_beams": 4},
    "beam4_lp06": {"num_beams": 4, "length_penalty": 0.6},
    "beam5_early": {"num_beams": 5, "early_stopping": True, "num_return_sequences": 3},
}


@pytest.fixture(scope="module", params=["nllb_moe_base", "nllb_moe_capacity", "nllb_moe_drop"])
def folder(request: pytest.FixtureRequest, golden: Path) -> Path:
    return golden / request.param


@pytest.fixture(scope="module")
def model(folder: Path) -> NllbMoeForConditionalGeneration:
    return NllbMoeForConditionalGeneration.from_pretrained(folder)


@pytest.fixture(scope="module")
def cases(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "cases.safetensors")


def inputs(cases: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {name: cases[name] for name in ("input_ids", "attention_mask", *names)}


def generate(model: NllbMoeForConditionalGeneration, cases: dict[str, Tensor], **options: object) -> object:
    return model.generate(
        **inputs(cases),
        forced_bos_token_id=12,
        max_new_tokens=14,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        **options,
    )


@torch.inference_mode()
def test_states_and_logits_are_the_reference_s(
    model: NllbMoeForConditionalGeneration, cases: dict[str, Tensor]
) -> None:
    output = model(**inputs(cases, "decoder_input_ids"))
    states = output.encoder_last_hidden_state
    torch.testing.assert_close(states, cases["encoder_last_hidden_state"], atol=1e-4, rtol=0)
    torch.testing.assert_close(output.logits, cases["logits"], atol=1e-4, rtol=0)


@torch.inference_mode()
def test_routing_is_the_reference_s(model: NllbMoeForConditionalGeneration, cases: dict[str, Tensor]) -> None:
    output = model(**inputs(cases, "decoder_input_ids"), output_router_logits=True)
    for stack in ("encoder", "decoder"):
        routers = output[f"{stack}_router_logits"]
        expected = [name for name in cases if name.startswith(f"{stack}_top1_")]
        assert len(routers) == len(expected) > 0
        for place, (weights, first) in enumerate(routers):
            golden_weights = cases[f"{stack}_combine_weights_{place}"]
            torch.testing.assert_close(weights, golden_weights, atol=1e-4, rtol=0)
            assert torch.equal(first, cases[f"{stack}_top1_{place}"])


def test_greedy_ids_are_the_reference_s(
    model: NllbMoeForConditionalGeneration, cases: dict[str, Tensor]
) -> None:
    assert torch.equal(generate(model, cases).sequences, cases["greedy_ids"])


@pytest.mark.parametrize("name", BEAMS)
def test_beams_and_their_scores_are_the_reference_s(
    model: NllbMoeForConditionalGeneration, cases: dict[str, Tensor], name: str
) -> None:
    found = generate(model, cases, **BEAMS[name])
    assert torch.equal(found.sequences, cases[f"{name}_ids"])
    torch.testing.assert_close(found.sequences_scores, cases[f"{name}_scores"], atol=1e-3, rtol=0)


@torch.inference_mode()
def test_base_model_gives_the_states_before_the_output_layer(
    folder: Path, model: NllbMoeForConditionalGeneration, cases: dict[str, Tensor]
) -> None:
    states = NllbMoeModel.from_pretrained(folder)(**inputs(cases, "decoder_input_ids")).last_hidden_state
    torch.testing.assert_close(model.lm_head(states), cases["logits"], atol=1e-4, rtol=0)
