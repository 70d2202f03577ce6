"""The model in the package, opened with transformers."""

import logging
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import dragoman
from dragoman import huggingface
from dragoman.huggingface import outputs

FOLDER = Path(dragoman.__file__).parent / "data" / "mini"
TEXT = (
    "The train leaves at half past nine, we have to be at the station before that, the weather is bad, "
    "and my brother wants to buy some bread, milk and apples for the children on the way."
)


@pytest.fixture(scope="module")
def model() -> huggingface.NllbMoeForConditionalGeneration:
    return AutoModelForSeq2SeqLM.from_pretrained(FOLDER)


def test_embedded_model_opens_in_a_precision_that_trains(
    model: huggingface.NllbMoeForConditionalGeneration,
) -> None:
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    ids = torch.tensor([[5, 6, 7, 2]])
    trained = AutoModelForSeq2SeqLM.from_pretrained(FOLDER).train()
    optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-4)
    trained(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    assert all(bool(parameter.isfinite().all()) for parameter in trained.parameters())


def test_embedded_model_translates_a_long_sentence_to_its_end(
    model: huggingface.NllbMoeForConditionalGeneration,
) -> None:
    """As Dragoman does: with beams, and not cut off by a default of transformers'."""
    tokenizer = AutoTokenizer.from_pretrained(FOLDER, src_lang="eng_Latn")
    assert (model.generation_config.num_beams, model.generation_config.max_length) == (4, 200)
    start = tokenizer.convert_tokens_to_ids("deu_Latn")
    found = model.generate(**tokenizer(TEXT, return_tensors="pt"), forced_bos_token_id=start)
    assert found.shape[1] > 20
    assert found[0, -1] == model.config.eos_token_id


def test_half_precision_that_is_trained_is_said(caplog: pytest.LogCaptureFixture) -> None:
    model = AutoModelForSeq2SeqLM.from_pretrained(FOLDER, dtype=torch.float16)
    ids = torch.tensor([[5, 6, 7, 2]])
    outputs.logger.addHandler(caplog.handler)
    outputs.logger.warning_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        model(input_ids=ids, labels=ids)
        assert not caplog.messages
        model.train()(input_ids=ids, labels=ids)
    assert [message[:27] for message in set(caplog.messages)] == ["the weights are float16, an"]
