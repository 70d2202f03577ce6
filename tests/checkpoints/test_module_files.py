import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dragoman.checkpoints.module_files import combine, describe, extract_base, extract_module, merge
from dragoman.checkpoints.module_folders import open_model
from dragoman.checkpoints.module_layout import LoraName, languages_of, parse_adapter, parse_combined
from dragoman.checkpoints.module_saving import Saving
from dragoman.checkpoints.places import Reader
from dragoman.checkpoints.torch_tensors import tensor_of
from dragoman.checkpoints.weight_files import find_shards, open_shard
from dragoman.errors import (
    InvalidOption,
    UnknownLanguage,
)
from dragoman.models.xalma import group_of

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
XALMA = GOLDEN / "xalma"
BASE, ADAPTER, MERGED = (GOLDEN / "xalma_group6" / name for name in ("base", "adapter", "merged"))
SINGLE, ADAPTER_FILE = "model.safetensors", "adapter_model.safetensors"
FORCE = Saving(overwrite=True)


def read(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder's model."""
    stored = {key: part for path in find_shards(folder) for key, part in open_shard(path).items()}
    return {key: tensor_of(part.read()) for key, part in stored.items()}


def config_of(folder: Path, file: str = "config.json") -> dict:
    return json.loads((folder / file).read_text())


def assert_same(mine: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert mine.keys() == theirs.keys()
    for key, tensor in mine.items():
        assert tensor.dtype == theirs[key].dtype
        assert torch.equal(tensor, theirs[key]), key


def model_folder(folder: Path, source: Path, tensors: dict[str, Tensor], **config: object) -> Path:
    """A checkpoint like `source`, but with these tensors and config fields."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config_of(source) | config))
    save_file(tensors, folder / SINGLE)
    return folder


def adapter_folder(folder: Path, tensors: dict[str, Tensor] | None = None, **config: object) -> Path:
    """An adapter like the golden one, but with these tensors and config fields."""
    folder.mkdir()
    text = json.dumps(config_of(ADAPTER, "adapter_config.json") | config)
    (folder / "adapter_config.json").write_text(text)
    save_file(load_file(ADAPTER / ADAPTER_FILE) if tensors is None else tensors, folder / ADAPTER_FILE)
    return folder


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Path, dict[int, Path]]:
    """The golden combined checkpoint taken apart: its base, and an adapter for each group."""
    extract_base(XALMA, tmp_path / "base")
    folders = {group: tmp_path / f"group{group}" for group in range(1, 9)}
    for group, folder in folders.items():
        extract_module(XALMA, group, folder)
    return tmp_path / "base", folders


# ---- against the golden files ----


def test_extracted_module_is_the_golden_adapter(tmp_path: Path) -> None:
    extract_module(XALMA, 6, tmp_path, base_name="../base")
    assert_same(load_file(tmp_path / ADAPTER_FILE), load_file(ADAPTER / ADAPTER_FILE))
    mine, golden = (config_of(folder, "adapter_config.json") for folder in (tmp_path, ADAPTER))
    assert mine == golden
    assert mine["lora_alpha"] / mine["r"] == config_of(XALMA)["lora_alpha"]


def test_extracted_base_is_the_golden_base(tmp_path: Path) -> None:
    extract_base(XALMA, tmp_path)
    assert_same(read(tmp_path), read(BASE))
    assert config_of(tmp_path) == config_of(BASE)


@pytest.mark.parametrize("kind", ["combined", "adapter"])
def test_merged_is_the_golden_merged(kind: str, tmp_path: Path) -> None:
    merge(XALMA, tmp_path, group=6) if kind == "combined" else merge(BASE, tmp_path, adapter=ADAPTER)
    mine, golden = read(tmp_path), read(MERGED)
    assert mine.keys() == golden.keys()
    for key, tensor in mine.items():
        torch.testing.assert_close(tensor, golden[key], rtol=0, atol=1e-6)
    assert config_of(tmp_path) == config_of(MERGED)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's own
def test_stock_peft_on_stock_llama_gives_the_golden_logits(tmp_path: Path) -> None:
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    extract_base(XALMA, tmp_path / "base")
    extract_module(XALMA, group_of("zh"), tmp_path / "module")
    merge(XALMA, tmp_path / "merged", group=6)
    cases = load_file(XALMA / "cases.safetensors")
    ids, mask = cases["input_ids"], cases["attention_mask"]
    load = transformers.LlamaForCausalLM.from_pretrained
    base = load(tmp_path / "base", dtype=torch.float32)
    adapted = peft.PeftModel.from_pretrained(base, tmp_path / "module")
    for model in (adapted, load(tmp_path / "merged", dtype=torch.float32)):
        logits = model.eval()(input_ids=ids, attention_mask=mask).logits
        real = mask.bool()
        torch.testing.assert_close(logits[real], cases["zh.logits"][real], rtol=0, atol=1e-4)
    unadapted = load(tmp_path / "base", dtype=torch.float32).eval()(input_ids=ids, attention_mask=mask).logits
    assert (unadapted - cases["zh.logits"])[real].abs().max() > 0.01


# ---- round trips ----


@pytest.mark.parametrize("limit", [5_000_000_000, 200_000])
def test_combined_taken_apart_and_combined_again_is_the_same(
    limit: int, parts: tuple[Path, dict[int, Path]], tmp_path: Path
) -> None:
    base, folders = parts
    combine(base, folders, tmp_path / "again", Saving(max_shard_bytes=limit))
    assert_same(read(tmp_path / "again"), read(XALMA))
    assert config_of(tmp_path / "again") == config_of(XALMA)
    assert (len(find_shards(tmp_path / "again")) > 1) == (limit < 1_000_000)


def test_a_group_lies_in_few_shards_of_a_combined_checkpoint(
    parts: tuple[Path, dict[int, Path]], tmp_path: Path
) -> None:
    base, folders = parts
    combine(base, folders, tmp_path / "again", Saving(max_shard_bytes=250_000))
    for module in open_model(tmp_path / "again").modules.values():
        assert len({place.file for place in module.tensors.values()}) <= 2


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_shards_of_either_format_are_read(suffix: str, tmp_path: Path) -> None:
    tensors = read(XALMA)
    folder = tmp_path / "sharded"
    folder.mkdir()
    shutil.copy(XALMA / "config.json", folder)
    stem = {"safetensors": "model", "bin": "pytorch_model"}[suffix]
    weight_map = {key: f"{stem}-{number % 3}.{suffix}" for number, key in enumerate(tensors)}
    for file in set(weight_map.values()):
        part = {key: tensor for key, tensor in tensors.items() if weight_map[key] == file}
        torch.save(part, folder / file) if suffix == "bin" else save_file(part, folder / file)
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    for output in ("one", "two"):
        extract_module(folder if output == "one" else XALMA, 3, tmp_path / output)
    assert_same(load_file(tmp_path / "one" / ADAPTER_FILE), load_file(tmp_path / "two" / ADAPTER_FILE))
    merge(folder, tmp_path / "merged", group=6)
    assert read(tmp_path / "merged").keys() == read(MERGED).keys()


def test_adapter_as_bin_and_with_the_adapter_s_name_in_its_keys_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    shutil.copy(ADAPTER / "adapter_config.json", folder)
    tensors = load_file(ADAPTER / ADAPTER_FILE)
    renamed = {key.replace(".weight", ".default.weight"): tensor for key, tensor in tensors.items()}
    torch.save(renamed, folder / "adapter_model.bin")
    merge(BASE, tmp_path / "merged", adapter=folder)
    merge(BASE, tmp_path / "expected", adapter=ADAPTER)
    assert_same(read(tmp_path / "merged"), read(tmp_path / "expected"))


def test_names_are_read_as_they_are_written() -> None:
    name = LoraName(12, "up_proj", "B")
    assert name.weight == "model.layers.12.mlp.up_proj.weight"
    assert name.combined(7) == "model.layers.12.mlp.up_lora_B.7.weight"
    assert name.adapter == "base_model.model.model.layers.12.mlp.up_proj.lora_B.weight"
    assert parse_combined(name.combined(7)) == (name, 7)
    assert parse_adapter(name.adapter) == name
    assert parse_combined("model.layers.1.self_attn.up_lora_B.7.weight") is None
    assert parse_adapter("base_model.model.model.layers.1.mlp.q_proj.lora_A.weight") is None
    assert parse_combined(name.weight) is None


# ---- numbers ----


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_merging_is_computed_in_float32_and_rounded_once(dtype: torch.dtype, tmp_path: Path) -> None:
    half = {key: tensor.to(dtype) for key, tensor in read(XALMA).items()}
    folder = model_folder(tmp_path / "half", XALMA, half, torch_dtype=str(dtype).removeprefix("torch."))
    merge(folder, tmp_path / "merged", group=2)
    merge(folder, tmp_path / "wide", group=2, saving=Saving(dtype=torch.float32))
    merged, wide = read(tmp_path / "merged"), read(tmp_path / "wide")
    stem = "model.layers.1.mlp.down_"
    a, b = (half[f"{stem}lora_{side}.2.weight"].float() for side in "AB")
    expected = half[f"{stem}proj.weight"].float() + 2 * b @ a
    torch.testing.assert_close(wide[f"{stem}proj.weight"], expected, rtol=0, atol=1e-6)
    assert_same(merged, {key: tensor.to(dtype) for key, tensor in wide.items()})
    assert config_of(tmp_path / "wide")["torch_dtype"] == "float32"


def test_rank_stabilised_adapter_is_merged_at_its_scale(tmp_path: Path) -> None:
    # alpha / sqrt(r) = 2, as in the golden adapter with alpha / r.
    adapter = adapter_folder(tmp_path / "adapter", use_rslora=True, lora_alpha=2 * math.sqrt(8))
    merge(BASE, tmp_path / "merged", adapter=adapter)
    for key, tensor in read(tmp_path / "merged").items():
        torch.testing.assert_close(tensor, read(MERGED)[key], rtol=0, atol=1e-6)


def test_adapter_of_some_projections_is_merged(tmp_path: Path) -> None:
    tensors = {key: t for key, t in load_file(ADAPTER / ADAPTER_FILE).items() if "down_proj" in key}
    adapter = adapter_folder(tmp_path / "adapter", tensors, target_modules=["down_proj"])
    merge(BASE, tmp_path / "merged", adapter=adapter)
    mine, base, golden = read(tmp_path / "merged"), read(BASE), read(MERGED)
    for key, tensor in mine.items():
        expected = golden[key] if "down_proj" in key else base[key]
        torch.testing.assert_close(tensor, expected, rtol=0, atol=1e-6)


def test_requested_dtype_is_stored_and_noted(tmp_path: Path) -> None:
    extract_base(XALMA, tmp_path / "base", Saving(dtype=torch.bfloat16))
    extract_module(XALMA, 1, tmp_path / "module", saving=Saving(dtype=torch.float16))
    assert {tensor.dtype for tensor in read(tmp_path / "base").values()} == {torch.bfloat16}
    assert config_of(tmp_path / "base")["torch_dtype"] == "bfloat16"
    assert {t.dtype for t in load_file(tmp_path / "module" / ADAPTER_FILE).values()} == {torch.float16}
    combine(tmp_path / "base", {1: tmp_path / "module"}, tmp_path / "mixed")
    assert {tensor.dtype for tensor in read(tmp_path / "mixed").values()} == {torch.bfloat16, torch.float16}


def test_grouped_queries_and_biases_have_their_own_shapes(tmp_path: Path) -> None:
    tensors = {}
    for key, tensor in read(XALMA).items():
        keys = ("k_proj", "v_proj", "k_lora_B", "v_lora_B")
        tensors[key] = tensor[:32].clone() if any(part in key for part in keys) else tensor
        if key.endswith("_proj.weight") and "self_attn" in key:
            tensors[key.removesuffix("weight") + "bias"] = torch.ones(len(tensors[key]))
    config = {"num_key_value_heads": 2, "attention_bias": True}
    folder = model_folder(tmp_path / "gqa", XALMA, tensors, **config)
    merge(folder, tmp_path / "merged", group=6)
    merged = read(tmp_path / "merged")
    assert torch.equal(merged["model.layers.0.self_attn.k_proj.bias"], torch.ones(32))
    expected = read(MERGED)["model.layers.0.self_attn.k_proj.weight"][:32]
    torch.testing.assert_close(merged["model.layers.0.self_attn.k_proj.weight"], expected, rtol=0, atol=1e-6)


def test_files_are_opened_anew_when_enough_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def spy(path: Path) -> dict:
        opened.append(path)
        return open_shard(path)

    extract_module(XALMA, 4, tmp_path / "one")
    monkeypatch.setattr("dragoman.checkpoints.places.open_shard", spy)
    monkeypatch.setattr(Reader, "BUDGET", 20_000)
    extract_module(XALMA, 4, tmp_path / "two")
    assert len(opened) > 3  # for the headers, and for every 20 kB of 118
    assert_same(load_file(tmp_path / "one" / ADAPTER_FILE), load_file(tmp_path / "two" / ADAPTER_FILE))


# ---- listing ----


def test_listing_a_combined_checkpoint_names_groups_languages_and_sizes() -> None:
    listing = describe(XALMA)
    assert (listing.kind, listing.layers, listing.rank, listing.scale) == ("combined", 3, 8, 2)
    assert [part.group for part in listing.modules] == list(range(1, 9))
    assert set(listing.modules[5].languages) == {"ka", "zh", "ja", "ko", "fi", "et"}
    total = sum(tensor.nbytes for tensor in read(XALMA).values())
    assert listing.base is not None
    assert listing.base.bytes + sum(part.bytes for part in listing.modules) == total
    assert {part.dtype for part in (listing.base, *listing.modules)} == {"float32"}


def test_listing_tells_what_was_made(parts: tuple[Path, dict[int, Path]], tmp_path: Path) -> None:
    base, folders = parts
    merge(XALMA, tmp_path / "merged", group=6)
    merge(BASE, tmp_path / "stranger", adapter=ADAPTER)
    assert describe(base).kind == "base"
    assert describe(BASE).kind == "llama"
    merged, stranger, module, other = map(
        describe, (tmp_path / "merged", tmp_path / "stranger", folders[6], ADAPTER)
    )
    assert (merged.kind, merged.base and merged.base.group) == ("merged", 6)
    assert (stranger.kind, stranger.base and stranger.base.group) == ("merged", None)
    assert (module.kind, module.layers, module.rank, module.scale) == ("adapter", 3, 8, 2)
    assert module.base is None
    assert module.modules[0].group == 6
    assert "zh" in module.modules[0].languages
    assert other.modules[0].group is None


def test_listing_reads_no_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Reader, place: object) -> Tensor:
        raise AssertionError("a tensor was read")

    monkeypatch.setattr(Reader, "__call__", refuse)
    assert describe(XALMA).kind == "combined"
    assert describe(ADAPTER).kind == "adapter"


def test_listing_sees_an_adapter_beside_weights(tmp_path: Path) -> None:
    for file in (*MERGED.iterdir(), *ADAPTER.iterdir()):
        shutil.copy(file, tmp_path)
    listing = describe(tmp_path)
    assert (listing.kind, listing.beside_adapter) == ("llama", True)
    with pytest.raises(InvalidOption, match="contain the adapter already"):
        merge(tmp_path, tmp_path / "out", adapter=tmp_path)


# ---- languages ----


@pytest.mark.parametrize(("language", "group"), [("zh", 6), ("Chinese", 6), ("fra_Latn", 4), ("no", 1)])
def test_language_leads_to_its_group(language: str, group: int) -> None:
    assert group_of(language) == group


def test_49_languages_have_a_group() -> None:
    assert sum(len(languages_of(group)) for group in range(1, 9)) == 49
    assert languages_of(9) == languages_of(None) == ()


def test_english_has_no_module_of_its_own() -> None:
    with pytest.raises(UnknownLanguage, match="on one side of every pair"):
        group_of("en")


def test_language_without_a_module_is_an_error() -> None:
    with pytest.raises(UnknownLanguage, match="Swahili"):
        group_of("sw")
