import itertools
import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dragoman.checkpoints.nllb import load_nllb, save_nllb
from dragoman.checkpoints.nllb_files import dense_name, moe_name, published_name
from dragoman.errors import CheckpointError, ConfigError, InvalidOption, KeyMismatch
from dragoman.models.config import NllbConfig
from dragoman.models.nllb import Nllb, initialize_

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
DENSE, MOE = GOLDEN / "nllb_dense", GOLDEN / "nllb_moe_base"
BOTH = pytest.mark.parametrize("golden", [DENSE, MOE], ids=lambda path: path.name)
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def weights_of(golden: Path) -> dict[str, Tensor]:
    return load_file(golden / SINGLE)


def folder_with(tmp_path: Path, golden: Path, weights: dict[str, Tensor], **config: object) -> Path:
    """A checkpoint folder as `golden`, but with these weights and config fields."""
    data = json.loads((golden / "config.json").read_text()) | config
    (tmp_path / "config.json").write_text(json.dumps(data))
    save_file({key: tensor.contiguous() for key, tensor in weights.items()}, tmp_path / SINGLE)
    return tmp_path


def shard(folder: Path, weights: dict[str, Tensor], suffix: str = "safetensors", count: int = 3) -> None:
    stem = {"safetensors": "model", "bin": "pytorch_model"}[suffix]
    weight_map = {}
    for number in range(count):
        name = f"{stem}-{number + 1:05}-of-{count:05}.{suffix}"
        part = dict(itertools.islice(weights.items(), number, None, count))
        torch.save(part, folder / name) if suffix == "bin" else save_file(part, folder / name)
        weight_map |= dict.fromkeys(part, name)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))


def assert_same(model: Nllb, other: Nllb) -> None:
    mine, theirs = dict(model.named_parameters()), dict(other.named_parameters())
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def random_model(**changes: object) -> Nllb:
    config = replace(
        NllbConfig.from_folder(MOE), encoder_layers=2, decoder_layers=2, num_experts=2, **changes
    )
    model = Nllb(config)
    initialize_(model, seed=1)
    return model


@pytest.fixture
def config_only(tmp_path: Path) -> Path:
    shutil.copy(MOE / "config.json", tmp_path)
    return tmp_path


# Loading


@pytest.mark.parametrize("name", ["nllb_dense", "nllb_moe_base", "nllb_moe_capacity", "nllb_moe_drop"])
def test_loaded_model_has_the_golden_logits(name: str) -> None:
    case = load_file(GOLDEN / name / "cases.safetensors")
    model = load_nllb(GOLDEN / name)
    with torch.inference_mode():
        logits = model(case["input_ids"], case["decoder_input_ids"], keep=case["attention_mask"].bool())
    torch.testing.assert_close(logits, case["logits"], atol=1e-4, rtol=0)


@BOTH
def test_loading_fills_every_parameter_and_initialises_none(golden: Path) -> None:
    before = torch.get_rng_state()
    model = load_nllb(golden)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])
    assert model.lm_head.weight is model.shared.weight
    assert model.encoder.embed_tokens is model.decoder.embed_tokens is model.shared
    assert not any(module.training for module in model.modules())


@BOTH
@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_sharded_equals_single(golden: Path, suffix: str, tmp_path: Path) -> None:
    shutil.copy(golden / "config.json", tmp_path)
    shard(tmp_path, weights_of(golden), suffix)
    assert_same(load_nllb(tmp_path), load_nllb(golden))


@BOTH
@pytest.mark.parametrize("zipped", [True, False])
def test_bin_equals_safetensors(golden: Path, zipped: bool, tmp_path: Path) -> None:
    shutil.copy(golden / "config.json", tmp_path)
    weights = weights_of(golden)
    torch.save(weights, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    assert_same(load_nllb(tmp_path), load_nllb(golden))


def test_safetensors_are_preferred_to_a_bin(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, MOE, weights_of(MOE))
    (folder / "pytorch_model.bin").write_bytes(b"never opened")
    assert_same(load_nllb(folder), load_nllb(MOE))


@BOTH
def test_prefix_and_spelling_of_keys_do_not_matter(golden: Path, tmp_path: Path) -> None:
    plain = {moe_name(key): tensor for key, tensor in weights_of(golden).items()}
    spellings = [lambda name: name, lambda name: "model." + name, dense_name]
    for number, spell in enumerate(spellings):
        folder = tmp_path / str(number)
        folder.mkdir()
        folder_with(folder, golden, {spell(name): tensor for name, tensor in plain.items()})
        assert_same(load_nllb(folder), load_nllb(golden))


@pytest.mark.parametrize(
    "supplier",
    ["shared.weight", "model.encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"],
)
def test_any_copy_of_the_embedding_can_supply_it(supplier: str, tmp_path: Path) -> None:
    weights = weights_of(MOE)
    weights[supplier] = weights.pop("shared.weight")
    assert_same(load_nllb(folder_with(tmp_path, MOE, weights)), load_nllb(MOE))


def test_copies_and_computed_tensors_are_ignored(tmp_path: Path) -> None:
    weights = weights_of(DENSE)
    shared = weights["model.shared.weight"]
    weights |= {
        "model.encoder.embed_tokens.weight": shared.clone(),
        "model.decoder.embed_tokens.weight": shared.clone(),
        "lm_head.weight": shared.clone(),
        "final_logits_bias": torch.zeros(1, 112),
        "model.encoder.embed_positions.weights": torch.zeros(66, 64),
        "model.decoder.embed_positions._float_tensor": torch.zeros(1),
    }
    assert_same(load_nllb(folder_with(tmp_path, DENSE, weights)), load_nllb(DENSE))


def test_untied_output_layer_is_a_parameter_of_its_own(tmp_path: Path) -> None:
    weights = weights_of(MOE)
    with pytest.raises(KeyMismatch) as caught:
        load_nllb(folder_with(tmp_path, MOE, weights, tie_word_embeddings=False))
    assert caught.value.missing == ["lm_head.weight"]

    weights["lm_head.weight"] = torch.ones(112, 64)
    model = load_nllb(folder_with(tmp_path, MOE, weights, tie_word_embeddings=False))
    assert torch.equal(model.lm_head.weight, torch.ones(112, 64))
    assert torch.equal(model.shared.weight, weights["shared.weight"])


def test_untied_model_with_two_embeddings_is_an_error(tmp_path: Path) -> None:
    weights = weights_of(MOE)
    weights |= {"lm_head.weight": torch.ones(112, 64), "encoder.embed_tokens.weight": torch.ones(112, 64)}
    folder = folder_with(tmp_path, MOE, weights, tie_word_embeddings=False)
    with pytest.raises(
        CheckpointError, match=r"encoder\.embed_tokens\.weight .* differs from shared\.weight"
    ):
        load_nllb(folder)


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_the_dtype_asked_for(stored: torch.dtype, tmp_path: Path) -> None:
    weights = {key: tensor.to(stored) for key, tensor in weights_of(MOE).items()}
    folder = folder_with(tmp_path, MOE, weights)
    for asked, expected in [(torch.float32, torch.float32), (None, stored), (torch.bfloat16, torch.bfloat16)]:
        model = load_nllb(folder, dtype=asked)
        assert {parameter.dtype for parameter in model.parameters()} == {expected}
        assert torch.equal(model.shared.weight, weights["shared.weight"].to(expected))


# Faults


def test_folder_without_config_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no config\.json"):
        load_nllb(tmp_path)


def test_all_mismatches_are_listed_at_once(tmp_path: Path) -> None:
    weights = weights_of(DENSE)
    gone = ["model.encoder.layers.0.fc1.weight", "model.decoder.layers.3.encoder_attn.k_proj.bias"]
    for key in gone:
        del weights[key]
    weights |= {"model.encoder.layers.9.fc1.bias": torch.zeros(128), "classifier.weight": torch.zeros(2)}
    weights["model.shared.weight"] = torch.zeros(100, 64)
    weights["model.encoder.layer_norm.bias"] = torch.zeros(63)
    with pytest.raises(KeyMismatch, match="2 missing, 2 unexpected, 2 of another shape") as caught:
        load_nllb(folder_with(tmp_path, DENSE, weights))
    error = caught.value
    assert sorted(error.missing) == sorted(gone)
    assert sorted(error.unexpected) == ["classifier.weight", "model.encoder.layers.9.fc1.bias"]
    assert error.misshapen == {
        "model.shared.weight": ((100, 64), (112, 64)),
        "model.encoder.layer_norm.bias": ((63,), (64,)),
    }
    for name in [*error.missing, *error.unexpected]:
        assert f"  {name}\n" in str(error)
    assert "model.shared.weight is [100, 64], expected [112, 64]" in str(error)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.missing, copy.misshapen) == (str(error), error.missing, error.misshapen)


def test_long_lists_of_mismatches_are_cut_in_the_message_only(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, MOE, {"shared.weight": weights_of(MOE)["shared.weight"]})
    with pytest.raises(KeyMismatch, match="288 missing, 0 unexpected, 0 of") as caught:
        load_nllb(folder)
    assert len(caught.value.missing) == 288
    assert "… and 268 more" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 24


def test_missing_embedding_is_a_mismatch(tmp_path: Path) -> None:
    weights = weights_of(DENSE)
    del weights["model.shared.weight"]
    with pytest.raises(KeyMismatch) as caught:
        load_nllb(folder_with(tmp_path, DENSE, weights))
    assert caught.value.missing == ["model.shared.weight"]


def test_copy_of_the_embedding_in_another_shape_is_a_mismatch(tmp_path: Path) -> None:
    weights = weights_of(MOE) | {"lm_head.weight": torch.zeros(113, 64)}
    with pytest.raises(KeyMismatch) as caught:
        load_nllb(folder_with(tmp_path, MOE, weights))
    assert caught.value.misshapen == {"lm_head.weight": ((113, 64), (112, 64))}


def test_tensor_stored_twice_is_an_error(tmp_path: Path) -> None:
    weights = weights_of(DENSE)
    weights["encoder.layers.0.ffn.fc1.bias"] = torch.zeros(128)
    with pytest.raises(CheckpointError, match=r"holds encoder\.layers\.0\.ffn\.fc1\.bias twice"):
        load_nllb(folder_with(tmp_path, DENSE, weights))


@pytest.mark.parametrize("file", [SINGLE, "pytorch_model.bin"])
def test_quantised_weights_are_an_error(file: str, config_only: Path) -> None:
    weights = weights_of(MOE)
    weights["encoder.layers.0.ffn.fc1.weight"] = torch.zeros(128, 64, dtype=torch.int8)
    (save_file if file == SINGLE else torch.save)(weights, config_only / file)
    with pytest.raises(CheckpointError, match=r"fc1\.weight as .* quantised"):
        load_nllb(config_only)


def test_dtype_of_no_weights_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=r"torch\.int8; it must be one of float32"):
        load_nllb(MOE, dtype=torch.int8)
    with pytest.raises(InvalidOption, match=r"torch\.int16"):
        save_nllb(random_model(), tmp_path, dtype=torch.int16)


# Names


def test_spellings_are_inverse_for_all_names() -> None:
    stored = list(weights_of(DENSE))
    assert [("model." + dense_name(moe_name(key))) for key in stored] == stored
    names = [name for name, _ in load_nllb(DENSE).named_parameters()]
    assert [moe_name(dense_name(name)) for name in names] == names
    assert sorted(map(moe_name, stored)) == sorted(names)


@pytest.mark.parametrize(
    ("dense", "moe"),
    [
        ("decoder.layers.10.encoder_attn.k_proj.bias", "decoder.layers.10.cross_attention.k_proj.bias"),
        ("decoder.layers.0.encoder_attn_layer_norm.bias", "decoder.layers.0.cross_attention_layer_norm.bias"),
        ("encoder.layers.0.final_layer_norm.weight", "encoder.layers.0.ff_layer_norm.weight"),
        ("encoder.layers.1.fc1.weight", "encoder.layers.1.ffn.fc1.weight"),
        ("decoder.layers.1.fc2.bias", "decoder.layers.1.ffn.fc2.bias"),
        ("encoder.layers.1.self_attn_layer_norm.bias", "encoder.layers.1.self_attn_layer_norm.bias"),
        ("encoder.layer_norm.weight", "encoder.layer_norm.weight"),
        ("shared.weight", "shared.weight"),
    ],
)
def test_spelling(dense: str, moe: str) -> None:
    assert (moe_name(dense), moe_name("model." + dense), moe_name(moe)) == (moe, moe, moe)
    assert dense_name(moe) == dense


def test_names_of_experts_have_one_spelling() -> None:
    for part in ("experts.expert_7.fc1.weight", "router.classifier.weight"):
        name = f"encoder.layers.3.ffn.{part}"
        assert moe_name(name) == dense_name(name) == name


# Saving


@BOTH
@pytest.mark.parametrize("max_shard_bytes", [5_000_000_000, 500_000, 1])
def test_saved_model_loads_as_it_was(golden: Path, max_shard_bytes: int, tmp_path: Path) -> None:
    model = load_nllb(golden)
    save_nllb(model, tmp_path / "new" / "folder", max_shard_bytes=max_shard_bytes)
    again = load_nllb(tmp_path / "new" / "folder")
    assert again.config == model.config
    assert_same(again, model)


@BOTH
def test_saved_keys_are_the_published_ones(golden: Path, tmp_path: Path) -> None:
    save_nllb(load_nllb(golden), tmp_path)
    ours, published = weights_of(tmp_path), weights_of(golden)
    assert ours.keys() == published.keys()
    assert all(torch.equal(ours[key], published[key]) for key in ours)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", SINGLE]


def test_untied_model_is_saved_with_its_output_layer(tmp_path: Path) -> None:
    model = random_model(tie_word_embeddings=False)
    save_nllb(model, tmp_path)
    assert_same(load_nllb(tmp_path), model)
    stored = weights_of(tmp_path)
    # transformers takes keys for those of a base model only if none of them has the prefix.
    assert {key.split(".")[0] for key in stored} == {"model", "lm_head"}
    # Nor does it tie anything in such a model, so each part needs its own copy.
    for part in ("shared", "encoder.embed_tokens", "decoder.embed_tokens"):
        assert torch.equal(stored[f"model.{part}.weight"], model.shared.weight)
    assert published_name("lm_head.weight", model.config) == "lm_head.weight"


def test_shards_keep_to_their_size_and_the_index_is_right(tmp_path: Path) -> None:
    save_nllb(load_nllb(MOE), tmp_path, max_shard_bytes=500_000)
    index = json.loads((tmp_path / INDEX).read_text())
    sizes = {}
    for file in set(index["weight_map"].values()):
        weights = load_file(tmp_path / file)
        assert {key for key, name in index["weight_map"].items() if name == file} == weights.keys()
        sizes[file] = sum(tensor.nbytes for tensor in weights.values())
    assert len(sizes) > 3
    assert max(sizes.values()) <= 500_000
    assert index["metadata"]["total_size"] == sum(sizes.values())
    assert not (tmp_path / SINGLE).exists()


def test_saving_in_half_precision_leaves_the_model_alone(tmp_path: Path) -> None:
    model = random_model()
    save_nllb(model, tmp_path, dtype=torch.bfloat16)
    assert model.shared.weight.dtype == torch.float32
    assert {tensor.dtype for tensor in weights_of(tmp_path).values()} == {torch.bfloat16}
    assert torch.equal(load_nllb(tmp_path).shared.weight, model.shared.weight.bfloat16().float())


def test_saving_replaces_an_older_checkpoint_whole(tmp_path: Path) -> None:
    model = load_nllb(MOE)
    (tmp_path / "tokenizer.json").write_text("kept")
    for limit in (300_000, 1_000_000, 5_000_000_000, 1_000_000):
        with torch.no_grad():
            model.shared.weight.add_(1)
        save_nllb(model, tmp_path, max_shard_bytes=limit)
        assert_same(load_nllb(tmp_path), model)
        index = tmp_path / INDEX
        files = (
            set(json.loads(index.read_text())["weight_map"].values()) | {INDEX}
            if index.exists()
            else {SINGLE}
        )
        assert {path.name for path in tmp_path.iterdir()} == files | {"config.json", "tokenizer.json"}


def test_model_can_be_saved_over_the_files_it_came_from(tmp_path: Path) -> None:
    shutil.copytree(MOE, tmp_path, dirs_exist_ok=True)
    model = load_nllb(tmp_path, dtype=None)
    save_nllb(model, tmp_path)
    assert_same(load_nllb(tmp_path), load_nllb(MOE))
    assert_same(model, load_nllb(MOE))


def test_shard_size_below_one_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="max_shard_bytes is 0"):
        save_nllb(random_model(), tmp_path, max_shard_bytes=0)


def test_model_that_was_changed_can_not_be_saved(tmp_path: Path) -> None:
    model = random_model()
    model.encoder.layers[0].self_attn.k_proj = torch.nn.Identity()
    with pytest.raises(CheckpointError, match=r"2 parameters .*self_attn\.k_proj"):
        save_nllb(model, tmp_path)
    with torch.device("meta"):
        empty = Nllb(model.config)
    with pytest.raises(CheckpointError, match=r"shared\.weight"):
        save_nllb(empty, tmp_path)
    assert list(tmp_path.iterdir()) == []
