"""What is refused, and what happens to outputs."""

import json
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dragoman.checkpoints.module_files import combine, describe, extract_base, extract_module, merge
from dragoman.checkpoints.module_folders import open_adapter, open_model
from dragoman.checkpoints.module_saving import Saving
from dragoman.checkpoints.torch_tensors import tensor_of
from dragoman.checkpoints.weight_files import find_shards, open_shard
from dragoman.errors import (
    CheckpointError,
    ConfigError,
    InvalidOption,
    KeyMismatch,
)

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


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"use_dora": True}, "use_dora = True"),
        ({"bias": "all"}, "bias = 'all'"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"rank_pattern": {"q_proj": 4}}, "6 of another shape"),
        ({"rank_pattern": {"(": 4}}, "pattern '\\('"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"peft_type": "IA3"}, "type 'IA3'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_adapter_that_is_more_than_plain_lora_is_refused(settings: dict, words: str, tmp_path: Path) -> None:
    adapter = adapter_folder(tmp_path / "adapter", **settings)
    for attempt in (
        lambda: merge(BASE, tmp_path / "out", adapter=adapter),
        lambda: combine(BASE, {6: adapter}, tmp_path / "out"),
    ):
        with pytest.raises((CheckpointError, ConfigError), match=words):
            attempt()
    assert not (tmp_path / "out").exists()


def without(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in tensors.items() if part not in key}


@pytest.mark.parametrize("side", ["lora_A", "lora_B"])
def test_adapter_of_another_shape_is_an_error_that_names_the_tensors(side: str, tmp_path: Path) -> None:
    tensors = load_file(ADAPTER / ADAPTER_FILE)
    gone = f"base_model.model.model.layers.1.self_attn.q_proj.{side}.weight"
    bent = f"base_model.model.model.layers.2.mlp.up_proj.{side}.weight"
    tensors = without(tensors, gone) | {bent: torch.zeros(3, 4), "strange": torch.zeros(1)}
    adapter = adapter_folder(tmp_path / "adapter", tensors)
    with pytest.raises(KeyMismatch) as caught:
        merge(BASE, tmp_path / "out", adapter=adapter)
    assert caught.value.missing == [gone]
    assert caught.value.unexpected == ["strange"]
    right = (8, 64) if side == "lora_A" else (176, 8)
    assert caught.value.misshapen == {bent: ((3, 4), right)}
    assert "adapter_config.json" in str(caught.value)
    with pytest.raises(KeyMismatch):
        describe(adapter)


def test_adapter_for_more_layers_than_the_base_has_is_an_error(tmp_path: Path) -> None:
    tensors = load_file(ADAPTER / ADAPTER_FILE)
    more = {key.replace("layers.2", "layers.3"): t.clone() for key, t in tensors.items() if "layers.2" in key}
    adapter = adapter_folder(tmp_path / "adapter", tensors | more)
    with pytest.raises(KeyMismatch, match="14 unexpected"):
        merge(BASE, tmp_path / "out", adapter=adapter)
    assert describe(adapter).layers == 4


def test_combined_checkpoint_that_does_not_fit_its_config_is_an_error(tmp_path: Path) -> None:
    tensors = read(XALMA)
    gone, bent = "model.layers.0.mlp.up_lora_A.3.weight", "model.layers.0.mlp.up_lora_B.3.weight"
    tensors = without(tensors, gone) | {bent: torch.zeros(2, 2), "model.odd": torch.zeros(1)}
    folder = model_folder(tmp_path / "broken", XALMA, tensors)
    with pytest.raises(KeyMismatch) as caught:
        extract_module(folder, 6, tmp_path / "out")
    assert caught.value.missing == [gone]
    assert caught.value.unexpected == ["model.odd"]
    assert caught.value.misshapen == {bent: ((2, 2), (176, 8))}
    assert not (tmp_path / "out").exists()


def test_combining_adapters_that_differ_is_an_error_that_says_which(
    parts: tuple[Path, dict[int, Path]], tmp_path: Path
) -> None:
    base, folders = parts
    halves = {
        key: (t[:4] if "lora_A" in key else t[:, :4]).contiguous()
        for key, t in load_file(ADAPTER / ADAPTER_FILE).items()
    }
    small = adapter_folder(tmp_path / "small", halves, r=4, lora_alpha=8)
    strong = adapter_folder(tmp_path / "strong", lora_alpha=32)
    few = without(load_file(ADAPTER / ADAPTER_FILE), "k_proj")
    partial = adapter_folder(
        tmp_path / "partial",
        few,
        target_modules=["q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    )
    for folder, words in (
        (small, "group 6 in .*small has rank 4, the one for group 1 .* has 8"),
        (strong, "group 6 in .*strong has scale 4, the one for group 1 .* has 2"),
        (partial, "group 6 in .*partial leaves out k_proj"),
        (folders[5], "group5 says it is the module of group 5, not of group 6"),
    ):
        with pytest.raises(CheckpointError, match=words):
            combine(base, {6: folder, 1: folders[1]}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_adapter_that_lacks_a_projection_it_promises_is_an_error(tmp_path: Path) -> None:
    adapter = adapter_folder(tmp_path / "adapter", without(load_file(ADAPTER / ADAPTER_FILE), "k_proj"))
    with pytest.raises(KeyMismatch, match="6 missing"):
        combine(BASE, {6: adapter}, tmp_path / "out")
    with pytest.raises(CheckpointError, match="lacks tensors for k_proj"):
        describe(adapter)


def test_a_module_goes_only_onto_a_bare_base(parts: tuple[Path, dict[int, Path]], tmp_path: Path) -> None:
    _, folders = parts
    merge(XALMA, tmp_path / "merged", group=6)
    for attempt, words in (
        (lambda: merge(tmp_path / "merged", tmp_path / "out", adapter=folders[6]), "merged into it already"),
        (lambda: combine(tmp_path / "merged", folders, tmp_path / "out"), "merged into it already"),
        (lambda: merge(XALMA, tmp_path / "out", adapter=folders[6]), "is a combined checkpoint"),
        (lambda: combine(XALMA, folders, tmp_path / "out"), "is a combined checkpoint"),
        (lambda: merge(BASE, tmp_path / "out", group=6), "holds no modules"),
        (lambda: extract_module(BASE, 6, tmp_path / "out"), "holds no modules"),
        (lambda: extract_base(BASE, tmp_path / "out"), "no combined checkpoint"),
        (lambda: merge(XALMA, tmp_path / "out"), "either the group"),
        (lambda: merge(XALMA, tmp_path / "out", group=9), "those of 1, 2, 3, 4, 5, 6, 7, 8"),
        (lambda: combine(BASE, {9: ADAPTER}, tmp_path / "out"), "they are 1 to 8"),
        (lambda: combine(BASE, {}, tmp_path / "out"), "at least one module"),
    ):
        with pytest.raises(InvalidOption, match=words):
            attempt()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "mistral"}, "model_type is 'mistral'"),
        ({"hidden_size": "64"}, "hidden_size is '64'"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"lora_size": 0}, "lora_size is 0"),
        ({"lora_alpha": "2"}, "lora_alpha is '2'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_config_that_describes_no_model_is_an_error(change: dict, words: str, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "odd", XALMA, read(XALMA), **change)
    with pytest.raises(ConfigError, match=words):
        describe(folder)


def test_rank_that_contradicts_the_tensors_is_an_error(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "odd", XALMA, read(XALMA), lora_size=16)
    with pytest.raises(KeyMismatch, match="336 of another shape"):
        describe(folder)


def test_combined_checkpoint_without_lora_fields_has_the_published_scale(tmp_path: Path) -> None:
    config = config_of(XALMA)
    del config["lora_alpha"]
    folder = model_folder(tmp_path / "llama", XALMA, read(XALMA))
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "llama"}))
    listing = describe(folder)
    assert (listing.kind, listing.scale) == ("combined", 2)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000], ids=range(4))
def test_broken_config_is_an_error_that_names_it(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json"):
        describe(tmp_path)


def test_folder_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no folder"):
        describe(tmp_path / "nothing")
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        describe(tmp_path)
    (tmp_path / "adapter_config.json").write_text((ADAPTER / "adapter_config.json").read_text())
    with pytest.raises(CheckpointError, match=r"holds no adapter_model\.safetensors"):
        describe(tmp_path)


def test_quantised_base_is_refused(tmp_path: Path) -> None:
    tensors = read(BASE)
    tensors["lm_head.weight"] = tensors["lm_head.weight"].to(torch.int8)
    folder = model_folder(tmp_path / "int8", BASE, tensors)
    with pytest.raises(CheckpointError, match="quantised"):
        merge(folder, tmp_path / "out", adapter=ADAPTER)


# ---- outputs ----

WRITERS: dict[str, Callable[[Path, Saving], None]] = {
    "module": lambda output, saving: extract_module(XALMA, 6, output, saving=saving),
    "base": lambda output, saving: extract_base(XALMA, output, saving),
    "merged": lambda output, saving: merge(XALMA, output, group=6, saving=saving),
    "combined": lambda output, saving: combine(BASE, {6: ADAPTER}, output, saving),
}
EACH = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


@EACH
def test_output_that_is_not_empty_is_refused_unless_forced(
    write: Callable[[Path, Saving], None], tmp_path: Path
) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(InvalidOption, match=r"not empty \(note\.txt\).*--force"):
        write(tmp_path, Saving())
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]
    write(tmp_path, FORCE)
    write(tmp_path, FORCE)
    assert (tmp_path / "note.txt").read_text() == "mine"
    describe(tmp_path)


@EACH
def test_output_is_never_mixed_with_a_checkpoint_of_another_kind(
    write: Callable[[Path, Saving], None], tmp_path: Path
) -> None:
    write(tmp_path / "mine", Saving())
    other = "base" if "adapter_config.json" in {p.name for p in (tmp_path / "mine").iterdir()} else "module"
    WRITERS[other](tmp_path / "other", Saving())
    with pytest.raises(InvalidOption, match="give another folder"):
        write(tmp_path / "other", FORCE)


@pytest.mark.parametrize("force", [False, True])
def test_source_can_not_be_the_output(force: bool, tmp_path: Path) -> None:
    folder = shutil.copytree(XALMA, tmp_path / "model")
    before = (folder / SINGLE).read_bytes()
    with pytest.raises(InvalidOption, match="read from"):
        merge(folder, tmp_path / "model" / ".." / "model", group=6, saving=Saving(overwrite=force))
    assert (folder / SINGLE).read_bytes() == before


def test_output_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InvalidOption, match="is a file"):
        extract_base(XALMA, tmp_path / "file", FORCE)


@contextmanager
def file_limit(size: int):
    """No file may grow beyond `size` bytes: what a full disk looks like to a writer."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@EACH
def test_full_disk_is_an_error_and_leaves_the_older_output(
    write: Callable[[Path, Saving], None], tmp_path: Path
) -> None:
    write(tmp_path, Saving())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with file_limit(50_000), pytest.raises(CheckpointError, match=r"can't be saved to .* Make room"):
        write(tmp_path, Saving(dtype=torch.bfloat16, overwrite=True))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@EACH
def test_disk_without_room_is_told_before_anything_is_written(
    write: Callable[[Path, Saving], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=100_000)
    monkeypatch.setattr("dragoman.checkpoints.module_saving.shutil.disk_usage", lambda path: usage)
    with pytest.raises(CheckpointError, match=r"0\.0 GB left\. Make room"):
        write(tmp_path / "deep" / "output", Saving())
    assert list(tmp_path.iterdir()) == []


def test_tokenizer_and_generation_settings_go_with_the_model(tmp_path: Path) -> None:
    folder = shutil.copytree(XALMA, tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"):
        (folder / name).write_text(name)
    (folder / "training_args.bin").write_bytes(b"no part of the model")
    merge(folder, tmp_path / "merged", group=6)
    extract_base(folder, tmp_path / "base")
    for output in ("merged", "base"):
        assert {path.name for path in (tmp_path / output).iterdir()} == {
            "config.json",
            SINGLE,
            "tokenizer.json",
            "tokenizer_config.json",
            "generation_config.json",
            "chat_template.jinja",
        }
        assert (tmp_path / output / "tokenizer.json").read_text() == "tokenizer.json"


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    merge(XALMA, tmp_path, group=6, saving=Saving(progress=lambda done, total: seen.append((done, total))))
    total = sum(tensor.nbytes for tensor in read(tmp_path).values())
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (total, total)


@pytest.mark.parametrize("options", [{"dtype": torch.int8}, {"max_shard_bytes": 0}], ids=["dtype", "shard"])
def test_impossible_way_to_save_is_an_error(options: dict) -> None:
    with pytest.raises(InvalidOption):
        Saving(**options)


def test_adapter_is_compared_with_the_base(tmp_path: Path) -> None:
    tensors = read(BASE)
    for key in tensors:
        if "gate_proj" in key or "up_proj" in key:
            tensors[key] = tensors[key][:88].clone()
        if "down_proj" in key:
            tensors[key] = tensors[key][:, :88].contiguous()
    base = model_folder(tmp_path / "narrow", BASE, tensors, intermediate_size=88)
    with pytest.raises(KeyMismatch, match="9 of another shape"):
        open_adapter(ADAPTER, open_model(base))
