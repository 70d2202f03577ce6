"""Checkpoints in 8 bits with a scale a row, behind transformers."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from transformers import AutoModelForSeq2SeqLM

from dragoman.checkpoints.nllb import load_nllb, save_nllb
from dragoman.huggingface import NllbMoeConfig, NllbMoeForConditionalGeneration


@pytest.fixture(scope="module")
def folder(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compressed")
    save_nllb(load_nllb(golden / "nllb_moe_base"), folder, dtype=torch.int8)
    return folder


def test_the_face_has_the_plain_models_weights_and_nothing_is_left_over(folder: Path) -> None:
    model, report = AutoModelForSeq2SeqLM.from_pretrained(folder, output_loading_info=True)
    assert isinstance(model, NllbMoeForConditionalGeneration)
    assert not any(report.values())
    found = {name.removeprefix("model."): parameter for name, parameter in model.named_parameters()}
    for name, parameter in load_nllb(folder).named_parameters():
        assert torch.equal(found[name], parameter), name


def test_it_is_read_in_the_precision_that_is_asked_for(folder: Path) -> None:
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.bfloat16)
    dtypes = {parameter.dtype for name, parameter in model.named_parameters() if "router" not in name}
    assert dtypes == {torch.bfloat16}


def test_what_was_read_trains_and_is_saved_in_floats(folder: Path, tmp_path: Path) -> None:
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).train()
    ids = torch.tensor([[5, 6, 7, 2]])
    model(input_ids=ids, labels=ids).loss.backward()
    assert model.model.shared.weight.grad is not None
    model.save_pretrained(tmp_path)
    assert "quantization_config" not in json.loads((tmp_path / "config.json").read_text())
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert torch.equal(again.lm_head.weight, model.lm_head.weight)


def test_a_new_model_of_its_config_is_saved_in_floats(folder: Path, tmp_path: Path) -> None:
    config = NllbMoeConfig.from_pretrained(folder)
    NllbMoeForConditionalGeneration(config).save_pretrained(tmp_path)
    assert "quantization_config" not in json.loads((tmp_path / "config.json").read_text())
    load_nllb(tmp_path)


def test_transformers_own_classes_refuse_it_rather_than_read_noise(folder: Path) -> None:
    with pytest.raises(ImportError, match="compressed-tensors"):
        transformers.NllbMoeForConditionalGeneration.from_pretrained(folder)
