"""Loading and saving through transformers, and what is done to a model in between."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dragoman.checkpoints.nllb import load_nllb
from dragoman.huggingface import (
    NllbMoeConfig,
    NllbMoeDecoder,
    NllbMoeEncoder,
    NllbMoeForConditionalGeneration,
    NllbMoeModel,
)

Load = Callable[..., NllbMoeForConditionalGeneration]


@pytest.fixture(scope="module")
def inputs(golden: Path) -> dict[str, Tensor]:
    cases = load_file(golden / "nllb_moe_base" / "cases.safetensors")
    names = ("input_ids", "attention_mask", "decoder_input_ids")
    return {name: cases[name] for name in names}


@pytest.fixture(scope="module")
def logits(golden: Path) -> Tensor:
    return load_file(golden / "nllb_moe_base" / "cases.safetensors")["logits"]


def assert_close(found: Tensor, wanted: Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(found, wanted, atol=tolerance, rtol=0)


def folder_with(tmp_path: Path, golden: Path, weights: dict[str, Tensor]) -> Path:
    (tmp_path / "config.json").write_text((golden / "nllb_moe_base" / "config.json").read_text())
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path


def loaded_whole(kind: type, folder: Path, **options: object) -> NllbMoeForConditionalGeneration:
    model, report = kind.from_pretrained(folder, output_loading_info=True, **options)
    assert {name: list(keys) for name, keys in report.items() if keys} == {}
    return model


@torch.inference_mode()
def test_keys_with_and_without_prefix_are_loaded_into_both_models(
    golden: Path, tmp_path: Path, inputs: dict[str, Tensor], logits: Tensor
) -> None:
    bare = golden / "nllb_moe_base"
    weights = load_file(bare / "model.safetensors")
    assert "shared.weight" in weights
    prefixed = folder_with(tmp_path, golden, {f"model.{name}": value for name, value in weights.items()})
    for folder in (bare, prefixed):
        assert_close(loaded_whole(NllbMoeForConditionalGeneration, folder)(**inputs).logits, logits)
        states = loaded_whole(NllbMoeModel, folder)(**inputs).last_hidden_state
        assert_close(states @ weights["shared.weight"].T, logits)


def test_positions_and_biases_of_old_checkpoints_are_passed_over(golden: Path, tmp_path: Path) -> None:
    weights = load_file(golden / "nllb_moe_base" / "model.safetensors")
    weights |= {
        "encoder.embed_positions.weights": torch.ones(66, 64),
        "final_logits_bias": torch.zeros(1, 112),
    }
    loaded_whole(NllbMoeForConditionalGeneration, folder_with(tmp_path, golden, weights))


@torch.inference_mode()
def test_saved_model_comes_back(
    load: Load, tmp_path: Path, inputs: dict[str, Tensor], logits: Tensor
) -> None:
    load().save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert "model.encoder.layers.1.ffn.experts.expert_7.fc1.weight" in stored
    assert not any("embed_tokens" in name or "lm_head" in name for name in stored)
    assert_close(loaded_whole(NllbMoeForConditionalGeneration, tmp_path)(**inputs).logits, logits)
    plain = load_nllb(tmp_path)
    mask = inputs["attention_mask"].bool()
    assert_close(plain(inputs["input_ids"], inputs["decoder_input_ids"], mask), logits)


@torch.inference_mode()
def test_shards_and_old_bin_files_are_loaded(
    load: Load, golden: Path, tmp_path: Path, inputs: dict[str, Tensor], logits: Tensor
) -> None:
    load().save_pretrained(tmp_path / "shards", max_shard_size="1MB")
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 2
    (tmp_path / "bin").mkdir()
    torch.save(
        load_file(golden / "nllb_moe_base" / "model.safetensors"), tmp_path / "bin" / "pytorch_model.bin"
    )
    config = (golden / "nllb_moe_base" / "config.json").read_text()
    (tmp_path / "bin" / "config.json").write_text(config)
    for folder in ("shards", "bin"):
        model = loaded_whole(NllbMoeForConditionalGeneration, tmp_path / folder)
        assert_close(model(**inputs).logits, logits)


@torch.inference_mode()
@pytest.mark.parametrize(("dtype", "share"), [(torch.bfloat16, 0.1), (torch.float16, 0.01)])
def test_half_precision_is_close_and_loads_back(
    load: Load, tmp_path: Path, inputs: dict[str, Tensor], logits: Tensor, dtype: torch.dtype, share: float
) -> None:
    model = load(dtype=dtype)
    routers = {name for name, p in model.named_parameters() if p.dtype == torch.float32}
    assert routers == {name for name in model.state_dict() if name.endswith("router.classifier.weight")}
    assert {p.dtype for name, p in model.named_parameters() if name not in routers} == {dtype}
    found = model(**inputs, output_router_logits=True)
    assert found.logits.dtype == found.encoder_router_logits[0][0].dtype == dtype
    assert (found.logits.float() - logits).abs().median() < share * logits.std()
    model.save_pretrained(tmp_path)
    again = NllbMoeForConditionalGeneration.from_pretrained(tmp_path)
    assert again.dtype == dtype
    assert torch.equal(again(**inputs).logits, found.logits)


@torch.inference_mode()
def test_model_runs_with_experts_left_on_disk(
    load: Load, tmp_path: Path, inputs: dict[str, Tensor], logits: Tensor
) -> None:
    """`device_map="auto"` with next to no memory: routers, embeddings and experts come from the disk."""
    load().save_pretrained(tmp_path / "model", max_shard_size="1MB")
    model = NllbMoeForConditionalGeneration.from_pretrained(
        tmp_path / "model", device_map="auto", max_memory={"cpu": "1MB"}, offload_folder=tmp_path / "offload"
    )
    places = model.hf_device_map
    assert "disk" in places.values()
    assert any(p.is_meta for name, p in model.named_parameters() if "router" in name)
    whole = [name for name in places if ".layers." in name]
    assert all(name.split(".")[-2] == "layers" for name in whole), "a layer was split over devices"
    assert_close(model(**inputs).logits, logits)
    prompt = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    options = {"max_new_tokens": 4, "num_beams": 2, "do_sample": False}
    assert torch.equal(model.generate(**prompt, **options), load().generate(**prompt, **options))


@torch.inference_mode()
def test_vocabulary_can_grow(load: Load, tmp_path: Path, inputs: dict[str, Tensor], logits: Tensor) -> None:
    model = load()
    model.resize_token_embeddings(120, mean_resizing=False)
    assert model.config.vocab_size == model.lm_head.out_features == 120
    embeddings = (model.model.shared, model.model.encoder.embed_tokens, model.model.decoder.embed_tokens)
    assert all(layer.weight is model.lm_head.weight for layer in embeddings)
    assert_close(model(**inputs).logits[..., :112], logits)
    model.save_pretrained(tmp_path)
    again = loaded_whole(NllbMoeForConditionalGeneration, tmp_path)
    assert_close(again(**inputs).logits[..., :112], logits)


def test_embeddings_are_one_parameter(load: Load) -> None:
    model = load()
    shared = model.model.shared.weight
    tied = (model.lm_head, model.model.encoder.embed_tokens, model.model.decoder.embed_tokens)
    assert all(layer.weight is shared for layer in tied)
    assert [name for name, p in model.named_parameters() if p is shared] == ["model.shared.weight"]
    fresh = NllbMoeForConditionalGeneration(model.config)
    assert fresh.lm_head.weight is fresh.model.encoder.embed_tokens.weight is fresh.model.shared.weight
    assert fresh.model.shared.weight[1].abs().max() == 0


@torch.inference_mode()
def test_untied_output_layer_stays_apart(golden: Path, tmp_path: Path, inputs: dict[str, Tensor]) -> None:
    fields = json.loads((golden / "nllb_moe_base" / "config.json").read_text())
    torch.manual_seed(0)
    model = NllbMoeForConditionalGeneration(NllbMoeConfig(**{**fields, "tie_word_embeddings": False})).eval()
    assert model.lm_head.weight is not model.model.shared.weight
    model.save_pretrained(tmp_path)
    again = loaded_whole(NllbMoeForConditionalGeneration, tmp_path)
    assert_close(again(**inputs).logits, model(**inputs).logits)


@torch.inference_mode()
def test_encoder_and_decoder_are_saved_alone(load: Load, tmp_path: Path, inputs: dict[str, Tensor]) -> None:
    model = load()
    whole = model.model(**inputs)
    model.get_encoder().save_pretrained(tmp_path / "encoder")
    model.get_decoder().save_pretrained(tmp_path / "decoder")
    encoder = loaded_whole(NllbMoeEncoder, tmp_path / "encoder")
    decoder = loaded_whole(NllbMoeDecoder, tmp_path / "decoder")
    mask = inputs["attention_mask"]
    encoded = encoder(inputs["input_ids"], attention_mask=mask).last_hidden_state
    assert_close(encoded, whole.encoder_last_hidden_state)
    states = decoder(
        inputs["decoder_input_ids"], encoder_hidden_states=encoded, encoder_attention_mask=mask
    ).last_hidden_state
    assert_close(states, whole.last_hidden_state)
