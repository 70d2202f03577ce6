"""Loading and saving through transformers, and what is done to a model in between."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from dragoman.checkpoints.llama import load_xalma
from dragoman.errors import ConfigError, LanguageModuleError
from dragoman.huggingface import (
    XALMAConfig,
    XALMAForCausalLM,
    XALMAForQuestionAnswering,
    XALMAForSequenceClassification,
    XALMAForTokenClassification,
    XALMAModel,
)
from dragoman.huggingface.xalma import XALMADecoderLayer
from dragoman.layers.llama import Pass
from dragoman.surgery.language_modules import attach_, detach_, groups, merge_, unmerge_

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
COMBINED = GOLDEN / "xalma"


@pytest.fixture
def model() -> XALMAForCausalLM:
    return XALMAForCausalLM.from_pretrained(COMBINED)


@pytest.fixture(scope="module")
def cases() -> dict[str, Tensor]:
    return load_file(COMBINED / "cases.safetensors")


@pytest.fixture(scope="module")
def inputs(cases: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: cases[name] for name in ("input_ids", "attention_mask")}


@torch.inference_mode()
def assert_right(model: nn.Module, cases: dict[str, Tensor], lang: str = "zh") -> None:
    inputs = {name: cases[name] for name in ("input_ids", "attention_mask")}
    real = inputs["attention_mask"].bool()
    found = model(**inputs, lang=lang).logits[real]
    torch.testing.assert_close(found, cases[f"{lang}.logits"][real], atol=1e-4, rtol=0)


def loaded_whole(folder: Path, **options: object) -> XALMAForCausalLM:
    model, report = XALMAForCausalLM.from_pretrained(folder, output_loading_info=True, **options)
    assert {name: list(keys) for name, keys in report.items() if keys} == {}
    return model


def test_parameters_have_the_published_names() -> None:
    model = loaded_whole(COMBINED)
    assert model.state_dict().keys() == load_file(COMBINED / "model.safetensors").keys()
    assert "model.layers.2.self_attn.q_lora_A.6.weight" in model.state_dict()


def test_saved_model_comes_back_after_use(
    model: XALMAForCausalLM, tmp_path: Path, cases: dict[str, Tensor], inputs: dict[str, Tensor]
) -> None:
    model.generate(**inputs, lang="zh", max_new_tokens=2)  # which lays the modules side by side in memory
    model.save_pretrained(tmp_path, max_shard_size="1MB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "xalma"
    again = loaded_whole(tmp_path)
    plain = load_xalma(tmp_path, groups=[8])
    keep = inputs["attention_mask"].bool()
    logits = plain(inputs["input_ids"], keep, [8] * 3)[keep]
    torch.testing.assert_close(logits, cases["ar.logits"][keep], atol=1e-4, rtol=0)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    assert_right(again, cases)


def test_groups_can_be_chosen_when_loading(cases: dict[str, Tensor], tmp_path: Path) -> None:
    few = loaded_whole(COMBINED, lora_groups=[6, 8])
    assert groups(few) == (6, 8)
    assert_right(few, cases, "zh")
    with pytest.raises(LanguageModuleError, match=r"group 1, which is not attached \(attached: 6, 8\)"):
        few(cases["input_ids"], lang="de")
    attach_(few, 1, COMBINED)
    detach_(few, 8)
    assert_right(few, cases, "de")
    few.save_pretrained(tmp_path)
    again = loaded_whole(tmp_path)
    assert groups(again) == (1, 6)
    assert_right(again, cases, "de")


def test_merged_modules_are_taken_out_before_saving(
    model: XALMAForCausalLM, tmp_path: Path, cases: dict[str, Tensor]
) -> None:
    merge_(model, 6)
    assert_right(model, cases, "zh")
    with pytest.raises(LanguageModuleError, match="unmerge_ the model before it is saved"):
        model.save_pretrained(tmp_path)
    unmerge_(model)
    model.save_pretrained(tmp_path)
    assert_right(loaded_whole(tmp_path), cases, "uk")


def test_modules_with_another_scale_are_not_saved_silently(model: XALMAForCausalLM, tmp_path: Path) -> None:
    detach_(model, 6)
    attach_(model, 6, COMBINED, scale=1.0)
    with pytest.raises(LanguageModuleError, match=r"\{6: 1.0\}.*lora_alpha = 2"):
        model.save_pretrained(tmp_path)


def test_merged_llama_is_loaded_and_saved_as_one(tmp_path: Path, cases: dict[str, Tensor]) -> None:
    named = tmp_path / "X-ALMA-13B-Group6"
    shutil.copytree(GOLDEN / "xalma_group6" / "merged", named)
    ours = loaded_whole(named)
    assert groups(ours) == ()
    assert_right(ours, cases, "zh")
    with pytest.raises(LanguageModuleError, match="group 6 is merged into the weights"):
        ours(cases["input_ids"], lang="de")
    ours.save_pretrained(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("llama", ["LlamaForCausalLM"])
    again = loaded_whole(tmp_path / "saved")
    assert_right(again, cases, "zh")
    with pytest.raises(LanguageModuleError):
        again(cases["input_ids"], lang="de")
    stock, report = LlamaForCausalLM.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not any(report.values())
    real = cases["attention_mask"].bool()
    found = stock(cases["input_ids"], attention_mask=cases["attention_mask"]).logits[real]
    torch.testing.assert_close(found, cases["zh.logits"][real], atol=1e-4, rtol=0)


def test_merged_weights_of_an_unknown_group_let_all_through(cases: dict[str, Tensor]) -> None:
    ours = loaded_whole(GOLDEN / "xalma_group6" / "merged")
    assert ours.config.merged_group == -1
    assert torch.equal(ours(cases["input_ids"], lang="zh").logits, ours(cases["input_ids"], lang="de").logits)


@torch.inference_mode()
@pytest.mark.parametrize("kind", [XALMAForSequenceClassification, XALMAForTokenClassification])
def test_saved_heads_come_back(kind: type, tmp_path: Path, cases: dict[str, Tensor]) -> None:
    head = kind.from_pretrained(COMBINED, num_labels=3)
    head.save_pretrained(tmp_path)
    again = kind.from_pretrained(tmp_path)
    logits = (each(cases["input_ids"], lang="zh").logits for each in (head, again))
    assert torch.equal(*logits)
    assert again.config.num_labels == 3


@torch.inference_mode()
def test_saved_question_answering_comes_back_under_either_name(
    tmp_path: Path, cases: dict[str, Tensor]
) -> None:
    head = XALMAForQuestionAnswering.from_pretrained(COMBINED)
    wanted = head(cases["input_ids"], lang="zh").start_logits
    head.save_pretrained(tmp_path / "saved")
    assert all(name.startswith(("transformer.", "qa_outputs.")) for name in head.state_dict())
    published = tmp_path / "published"
    head.config.save_pretrained(published)
    torch.save(head.state_dict(), published / "pytorch_model.bin")
    for folder in (tmp_path / "saved", published):
        again, report = XALMAForQuestionAnswering.from_pretrained(folder, output_loading_info=True)
        assert not any(report.values())
        assert torch.equal(again(cases["input_ids"], lang="zh").start_logits, wanted)


@torch.inference_mode()
@pytest.mark.parametrize(("dtype", "share"), [(torch.bfloat16, 0.1), (torch.float16, 0.02)])
def test_half_precision_is_close(
    cases: dict[str, Tensor], inputs: dict[str, Tensor], dtype: torch.dtype, share: float
) -> None:
    model = XALMAForCausalLM.from_pretrained(COMBINED, dtype=dtype)
    assert {p.dtype for p in model.parameters()} == {dtype}
    found = model(**inputs, lang="uk").logits
    assert found.dtype == dtype
    real = inputs["attention_mask"].bool()
    wanted = cases["uk.logits"][real]
    assert (found[real].float() - wanted).abs().median() < share * wanted.std()


@torch.inference_mode()
def test_model_runs_with_weights_left_on_disk(
    model: XALMAForCausalLM, tmp_path: Path, cases: dict[str, Tensor], inputs: dict[str, Tensor]
) -> None:
    """`device_map="auto"` with little memory: base and modules of most layers come from the disk."""
    model.save_pretrained(tmp_path / "model")
    offloaded = XALMAForCausalLM.from_pretrained(
        tmp_path / "model",
        device_map="auto",
        max_memory={"cpu": "700kB"},
        offload_folder=tmp_path / "offload",
    )
    places = offloaded.hf_device_map
    assert "disk" in places.values()
    assert any(p.is_meta for name, p in offloaded.named_parameters() if "lora_B" in name)
    whole = [name for name in places if ".layers." in name]
    assert all(name.split(".")[-2] == "layers" for name in whole), "a layer was split over devices"
    assert_right(offloaded, cases)
    options = {"max_new_tokens": 4, "num_beams": 2, "do_sample": False, "lang": ["de", "zh", "de"]}
    assert torch.equal(offloaded.generate(**inputs, **options), model.generate(**inputs, **options))


def test_layer_on_another_device_takes_the_pass_there(model: XALMAForCausalLM) -> None:
    """The meta device stands for a second accelerator."""
    seen = []

    class Recorder(nn.Module):
        def forward(self, x: Tensor, step: Pass) -> tuple[Tensor, None]:
            seen.append(step)
            return x, None

    layer = model.model.layers[0]
    assert isinstance(layer, XALMADecoderLayer)
    layer.self_attn = Recorder()
    layer.mlp = nn.Identity()
    layer.mlp.forward = lambda x, routes: x
    layer.to("meta")
    routes = model.model.language.routes([1, 6], torch.device("cpu"))
    step = Pass((torch.ones(1), torch.ones(1)), mask=torch.ones(1), routes=routes)
    layer(torch.ones(2, 3, 64, device="meta"), step)
    (moved,) = seen
    assert moved.rotation[1].is_meta
    assert moved.mask.is_meta
    assert moved.routes.order.is_meta
    assert moved.routes.spans == routes.spans
    assert not step.mask.is_meta


@torch.inference_mode()
def test_base_projections_are_called_and_not_read(model: XALMAForCausalLM, cases: dict[str, Tensor]) -> None:
    """As quantisation needs it: its layers have no weight to multiply by."""

    class Opaque(nn.Module):
        def __init__(self, linear: nn.Linear) -> None:
            super().__init__()
            self.secret = linear

        def forward(self, x: Tensor) -> Tensor:
            return self.secret(x)

    for layer in model.model.layers:
        for part in (layer.self_attn, layer.mlp):
            for name in [name for name, _ in part.named_children() if name.endswith("_proj")]:
                setattr(part, name, Opaque(getattr(part, name)))
    assert_right(model, cases)


SMALL = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "lora_size": 4,
    "pad_token_id": 0,
}


@torch.inference_mode()
@pytest.mark.parametrize("kind", [XALMAForCausalLM, XALMAForTokenClassification, XALMAModel])
def test_fresh_modules_change_nothing(kind: type) -> None:
    torch.manual_seed(0)
    model = kind(XALMAConfig(**SMALL)).eval()
    weights = {name: p for name, p in model.named_parameters() if "_lora_" in name}
    assert len(weights) == 2 * 7 * 2 * 8
    for name, weight in weights.items():
        assert weight.any() == ("_lora_A" in name), name
    ids = torch.tensor([[1, 5, 9]])
    assert torch.equal(model(ids, lang="zh")[0], model(ids, lang="de")[0])


@torch.inference_mode()
def test_modules_missing_in_a_checkpoint_change_nothing(tmp_path: Path, cases: dict[str, Tensor]) -> None:
    shutil.copytree(GOLDEN / "xalma_group6" / "base", tmp_path / "base")
    shutil.copy(COMBINED / "config.json", tmp_path / "base")
    model = XALMAForCausalLM.from_pretrained(tmp_path / "base")
    stock = LlamaForCausalLM.from_pretrained(GOLDEN / "xalma_group6" / "base")
    ids = cases["input_ids"][:1]
    assert torch.allclose(model(ids, lang="zh").logits, stock(ids).logits, atol=1e-4)
    assert model.model.layers[0].mlp.up_lora_A["3"].weight.any()


@torch.inference_mode()
def test_without_modules_it_is_a_llama_whatever_its_config() -> None:
    """Shared key heads, stretched positions, tied embeddings."""
    torch.manual_seed(0)
    rope = {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}
    fields = {**SMALL, "tie_word_embeddings": True, "rope_parameters": rope}
    ours = XALMAForCausalLM(XALMAConfig(**fields)).eval()
    assert ours.lm_head.weight is ours.model.embed_tokens.weight
    fields.pop("lora_size")
    stock = LlamaForCausalLM(LlamaForCausalLM.config_class(**fields)).eval()
    unknown = stock.load_state_dict(ours.state_dict(), strict=False)
    assert not unknown.missing_keys
    ids = torch.tensor([[1, 5, 9, 11]])
    torch.testing.assert_close(ours(ids, lang="zh").logits, stock(ids).logits, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_vocabulary_can_grow(model: XALMAForCausalLM, cases: dict[str, Tensor]) -> None:
    model.resize_token_embeddings(120, mean_resizing=False)
    found = model(cases["input_ids"][:1], lang="zh").logits
    assert found.shape[-1] == 120
    torch.testing.assert_close(found[..., :112], cases["zh.logits"][:1], atol=1e-4, rtol=0)


def test_defaults_are_the_authors() -> None:
    config = XALMAConfig()
    assert (config.model_type, config.lora_size, config.lora_alpha) == ("xalma", 512, 2)
    assert config.groups == (1, 2, 3, 4, 5, 6, 7, 8)


def test_config_that_would_apply_a_module_twice_is_an_error() -> None:
    with pytest.raises(ConfigError, match="merged_group is 6, but there are modules"):
        XALMAConfig(merged_group=6)
    with pytest.raises(ConfigError, match=r"lora_groups is \[0\]"):
        XALMAConfig(lora_groups=[0])
