import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dragoman.checkpoints.families import guess_group
from dragoman.checkpoints.llama import load_xalma
from dragoman.errors import CheckpointError, ConfigError, InvalidOption, KeyMismatch, LanguageModuleError
from dragoman.models.language_modules import ANY
from dragoman.models.llama import Llama
from dragoman.surgery.language_modules import groups

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
COMBINED, GROUP6 = GOLDEN / "xalma", GOLDEN / "xalma_group6"
BASE, ADAPTER, MERGED = GROUP6 / "base", GROUP6 / "adapter", GROUP6 / "merged"
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def prompts() -> tuple[Tensor, Tensor]:
    cases = load_file(COMBINED / "cases.safetensors")
    return cases["input_ids"], cases["attention_mask"].bool()


@pytest.fixture(scope="module")
def expected(prompts: tuple[Tensor, Tensor]) -> Tensor:
    """Logits of the real tokens in group 6."""
    return logits(load_xalma(COMBINED), prompts, [6] * 3)


def logits(model: Llama, prompts: tuple[Tensor, Tensor], wanted: list[int] | None) -> Tensor:
    with torch.inference_mode():
        return model(*prompts, wanted)[prompts[1]]


def assert_close(mine: Tensor, its: Tensor) -> None:
    torch.testing.assert_close(mine, its, atol=2e-5, rtol=1e-5)


def adapter_with(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict, **config: Any
) -> Path:
    """A copy of the adapter with other tensors or settings."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    data = json.loads((ADAPTER / "adapter_config.json").read_text()) | config
    (folder / "adapter_config.json").write_text(json.dumps(data))
    save_file(change(load_file(ADAPTER / "adapter_model.safetensors")), folder / "adapter_model.safetensors")
    return folder


# Dtype, device, completeness


def test_loading_fills_every_parameter_and_initialises_none() -> None:
    before = torch.get_rng_state()
    for model in (load_xalma(COMBINED), load_xalma(BASE, adapter=ADAPTER, groups=[6])):
        assert torch.equal(torch.get_rng_state(), before)
        assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])
        assert not any(module.training for module in model.modules())


def test_parameters_have_exactly_the_published_names() -> None:
    model = load_xalma(COMBINED)
    stored = load_file(COMBINED / WEIGHTS)
    parameters = dict(model.named_parameters())
    assert parameters.keys() == stored.keys()
    assert all(torch.equal(parameters[name], stored[name]) for name in stored)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_weights_come_in_the_dtype_asked_for(dtype: torch.dtype) -> None:
    for model in (load_xalma(COMBINED, groups=[6], dtype=dtype), load_xalma(BASE, [6], ADAPTER, dtype)):
        assert {parameter.dtype for parameter in model.parameters()} == {dtype}


def test_dtype_none_means_as_stored(tmp_path: Path) -> None:
    shutil.copy(BASE / "config.json", tmp_path)
    save_file(
        {name: tensor.bfloat16() for name, tensor in load_file(BASE / WEIGHTS).items()}, tmp_path / WEIGHTS
    )
    model = load_xalma(tmp_path, dtype=None)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    with pytest.raises(InvalidOption, match="int8"):
        load_xalma(tmp_path, dtype=torch.int8)


def test_tied_output_layer_is_the_embedding(tmp_path: Path) -> None:
    config = json.loads((BASE / "config.json").read_text()) | {"tie_word_embeddings": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights = load_file(BASE / WEIGHTS)
    del weights["lm_head.weight"]
    save_file(weights, tmp_path / WEIGHTS)
    model = load_xalma(tmp_path)
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_missing_and_unexpected_tensors_are_errors_that_name_them_all(tmp_path: Path) -> None:
    shutil.copy(COMBINED / "config.json", tmp_path)
    weights = load_file(COMBINED / WEIGHTS)
    gone = ["model.norm.weight", "model.layers.2.mlp.up_lora_B.3.weight"]
    for name in gone:
        del weights[name]
    weights["model.layers.9.mlp.up_proj.weight"] = torch.zeros(2)
    save_file(weights, tmp_path / WEIGHTS)
    with pytest.raises(KeyMismatch) as caught:
        load_xalma(tmp_path, groups=[6])
    assert set(caught.value.missing) == set(gone)
    assert caught.value.unexpected == ["model.layers.9.mlp.up_proj.weight"]


def test_folders_without_a_model_are_errors(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no folder"):
        load_xalma(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"config\.json"):
        load_xalma(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "m2m_100"}))
    with pytest.raises(ConfigError, match="m2m_100"):
        load_xalma(tmp_path)


# Combined


def test_combined_checkpoint_may_lack_groups_nobody_asks_for(tmp_path: Path, prompts, expected) -> None:  # type: ignore[no-untyped-def]
    shutil.copy(COMBINED / "config.json", tmp_path)
    weights = load_file(COMBINED / WEIGHTS)
    few = {name: w for name, w in weights.items() if "_lora_" not in name or name.split(".")[-2] in "26"}
    save_file(few, tmp_path / WEIGHTS)
    model = load_xalma(tmp_path)
    assert groups(model) == (2, 6)
    assert_close(logits(model, prompts, [6] * 3), expected)
    with pytest.raises(CheckpointError, match=r"no module of group 3; groups there: 2, 6"):
        load_xalma(tmp_path, groups=[2, 3])


def test_multiplier_is_lora_alpha_itself(tmp_path: Path) -> None:
    config = json.loads((COMBINED / "config.json").read_text()) | {"lora_alpha": 0.5}
    (tmp_path / "config.json").write_text(json.dumps(config))
    shutil.copy(COMBINED / WEIGHTS, tmp_path)
    assert set(load_xalma(tmp_path).model.language.scales.values()) == {0.5}


# Merged


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("X-ALMA-13B-Group6", 6),
        ("x-alma-13b-group-1", 1),
        ("X-ALMA-13B-Group8-LoRA", 8),
        ("models--haoranxu--X-ALMA-13B-Group3/snapshots/0123abcd", 3),
        ("X-ALMA-13B-Pretrain", None),
        ("group3/ALMA-13B-R", None),
        ("X-ALMA-Group61", None),
        ("X-ALMA-Group9", None),
    ],
)
def test_group_is_read_off_the_folder_alone(name: str, group: int | None) -> None:
    assert guess_group(Path("/models") / name) == group


def test_merged_group_comes_from_the_caller_the_file_or_the_name(tmp_path: Path, prompts, expected) -> None:  # type: ignore[no-untyped-def]
    named = tmp_path / "X-ALMA-13B-Group6"
    shutil.copytree(MERGED, named)
    marked = tmp_path / "marked"
    shutil.copytree(MERGED, marked)
    save_file(load_file(MERGED / WEIGHTS), marked / WEIGHTS, {"format": "pt", "xalma_group": "6"})
    for model in (
        load_xalma(MERGED, merged_group=6),
        load_xalma(named),
        load_xalma(marked),
        load_xalma(named, [6]),
    ):
        assert model.model.language.merged == 6
        assert groups(model) == ()
        assert_close(logits(model, prompts, [6] * 3), expected)
        assert_close(logits(model, prompts, None), expected)
        with pytest.raises(LanguageModuleError, match="a row needs group 1, but group 6 is merged"):
            logits(model, prompts, [6, 1, 6])
    with pytest.raises(InvalidOption, match=r"merged_group is 5, but .* says that group 6"):
        load_xalma(marked, merged_group=5)
    assert load_xalma(named, merged_group=5).model.language.merged == 5


def test_language_is_not_checked_where_the_merged_group_is_unknown(prompts, expected) -> None:  # type: ignore[no-untyped-def]
    model = load_xalma(MERGED)
    assert model.model.language.merged == ANY
    for wanted in (None, [6] * 3, [1, 0, 8]):
        assert_close(logits(model, prompts, wanted), expected)


def test_a_file_marked_as_base_is_one(tmp_path: Path, prompts) -> None:  # type: ignore[no-untyped-def]
    shutil.copytree(BASE, tmp_path / "base")
    save_file(load_file(BASE / WEIGHTS), tmp_path / "base" / WEIGHTS, {"format": "pt", "xalma_group": "base"})
    model = load_xalma(tmp_path / "base")
    assert model.model.language.merged is None
    logits(model, prompts, [0] * 3)
    with pytest.raises(LanguageModuleError, match="group 6"):
        logits(model, prompts, [6] * 3)
    with pytest.raises(InvalidOption, match="merged_group is 6"):
        load_xalma(tmp_path / "base", merged_group=6)


def test_an_adapter_beside_merged_weights_is_not_applied_again(tmp_path: Path, prompts, expected) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "X-ALMA-13B-Group6"
    shutil.copytree(MERGED, folder)
    for file in ADAPTER.iterdir():
        shutil.copy(file, folder)
    model = load_xalma(folder)
    assert groups(model) == ()
    assert_close(logits(model, prompts, [6] * 3), expected)
    # As the source of an adapter for the base it is fine.
    model = load_xalma(BASE, adapter=folder)
    assert groups(model) == (6,)
    assert_close(logits(model, prompts, [6] * 3), expected)
    with pytest.raises(InvalidOption, match="contain the adapter already"):
        load_xalma(folder, adapter=folder)


def test_plain_weights_have_no_groups_to_choose_from() -> None:
    with pytest.raises(InvalidOption, match=r"groups can't be \[6\].*merged_group"):
        load_xalma(MERGED, groups=[6])


# Base and adapters


def test_group_of_an_adapter_comes_from_groups_or_its_name(tmp_path: Path, prompts, expected) -> None:  # type: ignore[no-untyped-def]
    named = tmp_path / "X-ALMA-13B-Group6"
    shutil.copytree(ADAPTER, named)
    for model, group in (
        (load_xalma(BASE, adapter=named), 6),
        (load_xalma(BASE, adapter=named, groups=[3]), 3),
    ):
        assert groups(model) == (group,)
        assert_close(logits(model, prompts, [group] * 3), expected)


def test_adapters_by_group_speak_side_by_side(tmp_path: Path, prompts) -> None:  # type: ignore[no-untyped-def]
    combined = load_xalma(COMBINED)
    stored = load_file(COMBINED / WEIGHTS)

    def of(group: int) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
        def change(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            renamed = {}
            for name in tensors:
                plain = name.removeprefix("base_model.model.").replace("_proj.lora_", "_lora_")
                renamed[name] = stored[plain.replace(".weight", f".{group}.weight")]
            return renamed

        return change

    paths = {}
    for group in (2, 6, 7):
        (tmp_path / str(group)).mkdir()
        paths[group] = adapter_with(tmp_path / str(group), of(group))
    model = load_xalma(BASE, adapter=paths)
    assert groups(model) == (2, 6, 7)
    for wanted in ([2, 6, 7], [7, 0, 2], [6, 6, 6]):
        assert_close(logits(model, prompts, wanted), logits(combined, prompts, wanted))


def test_adapter_of_unknown_group_is_merged_and_serves_all(prompts, expected) -> None:  # type: ignore[no-untyped-def]
    model = load_xalma(BASE, adapter=ADAPTER)
    assert groups(model) == ()
    assert model.model.language.merged == ANY
    assert not [name for name, _ in model.named_parameters() if "_lora_" in name]
    for wanted in (None, [6] * 3, [1, 0, 8]):
        assert_close(logits(model, prompts, wanted), expected)


def test_adapter_may_be_a_bin(tmp_path: Path, prompts, expected) -> None:  # type: ignore[no-untyped-def]
    folder = adapter_with(tmp_path)
    tensors = load_file(folder / "adapter_model.safetensors")
    (folder / "adapter_model.safetensors").unlink()
    torch.save(tensors, folder / "adapter_model.bin")
    assert_close(logits(load_xalma(BASE, [6], folder), prompts, [6] * 3), expected)


def test_scale_is_alpha_over_rank_or_its_root(tmp_path: Path) -> None:
    for number, (settings, scale) in enumerate(
        (({"lora_alpha": 12}, 1.5), ({"lora_alpha": 16, "use_rslora": True}, 16 / 8**0.5))
    ):
        (tmp_path / str(number)).mkdir()
        folder = adapter_with(tmp_path / str(number), **settings)
        assert load_xalma(BASE, [6], folder).model.language.scales == {6: pytest.approx(scale)}


def test_adapter_may_change_one_projection_with_a_rank_of_its_own(tmp_path: Path, prompts) -> None:  # type: ignore[no-untyped-def]
    generator = torch.Generator().manual_seed(3)

    def only_down(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        few = {}
        for layer in range(3):
            name = f"base_model.model.model.layers.{layer}.mlp.down_proj.lora_"
            few[name + "A.weight"] = torch.randn(3, 176, generator=generator) * 0.1
            few[name + "B.weight"] = torch.randn(64, 3, generator=generator) * 0.1
        return few

    folder = adapter_with(tmp_path, only_down, r=3, lora_alpha=6, target_modules=["down_proj"])
    dense = load_xalma(BASE)
    base = logits(dense, prompts, None)
    tensors = load_file(folder / "adapter_model.safetensors")
    with torch.no_grad():
        for index, layer in enumerate(dense.model.layers):
            name = f"base_model.model.model.layers.{index}.mlp.down_proj.lora_"
            layer.mlp.down_proj.weight += 2 * tensors[name + "B.weight"] @ tensors[name + "A.weight"]
    wanted = logits(dense, prompts, None)
    attached = load_xalma(BASE, [1], folder)
    assert_close(logits(attached, prompts, [1] * 3), wanted)
    assert_close(logits(attached, prompts, [0] * 3), base)
    assert_close(logits(load_xalma(BASE, adapter=folder), prompts, None), wanted)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peft_type": "IA3"}, "'IA3'"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 4}}, "6 of another shape"),
    ],
)
def test_adapters_that_do_more_are_errors(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_xalma(BASE, [6], adapter_with(tmp_path, **settings))


def test_adapter_without_its_base_says_what_to_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    folder = adapter_with(tmp_path, base_model_name_or_path="haoranxu/XALMA-13B-Pretrain")
    with pytest.raises(CheckpointError, match=r"'haoranxu/XALMA-13B-Pretrain'.*Give the base's folder"):
        load_xalma(folder)


def test_contradictions_are_errors(tmp_path: Path) -> None:
    for wanted, message in (
        ({"adapter": ADAPTER, "groups": [1, 6]}, "one adapter has one group"),
        ({"adapter": {6: ADAPTER}, "groups": [1]}, "leave groups out"),
        ({"adapter": ADAPTER, "merged_group": 6}, "nothing is merged"),
    ):
        with pytest.raises(InvalidOption, match=message):
            load_xalma(BASE, **wanted)  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match="combined checkpoint; adapters go with its base"):
        load_xalma(COMBINED, adapter=ADAPTER)
    with pytest.raises(InvalidOption, match="nothing is merged"):
        load_xalma(COMBINED, merged_group=6)
    merged = tmp_path / "merged"
    shutil.copytree(MERGED, merged)
    save_file(load_file(MERGED / WEIGHTS), merged / WEIGHTS, {"format": "pt", "xalma_group": "6"})
    with pytest.raises(InvalidOption, match="merged into it already"):
        load_xalma(merged, adapter=ADAPTER, groups=[6])
