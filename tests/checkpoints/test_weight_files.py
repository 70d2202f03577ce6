import json
import os
import pickle
import shutil
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dragoman.checkpoints.loading import pending
from dragoman.checkpoints.nllb import load_nllb, save_nllb
from dragoman.checkpoints.numbers import Numbers
from dragoman.checkpoints.torch_tensors import numbers_of, tensor_of
from dragoman.checkpoints.weight_files import (
    Pending,
    open_shard,
    read_metadata,
    write_safetensors,
    write_shards,
)
from dragoman.errors import CheckpointError
from dragoman.models.config import NllbConfig
from dragoman.models.nllb import Nllb, initialize_

MOE = Path(__file__).parents[1] / "data" / "golden" / "nllb_moe_base"
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def weights() -> dict[str, Tensor]:
    return load_file(MOE / SINGLE)


def random_model() -> Nllb:
    model = Nllb(NllbConfig.from_folder(MOE))
    initialize_(model, seed=1)
    return model


@pytest.fixture
def config_only(tmp_path: Path) -> Path:
    shutil.copy(MOE / "config.json", tmp_path)
    return tmp_path


def test_folder_without_weights_is_an_error_that_lists_the_names(config_only: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_nllb(config_only)
    for name in (SINGLE, INDEX, "pytorch_model.bin", "pytorch_model.bin.index.json"):
        assert name in str(caught.value)


def damaged(kind: str) -> bytes:
    whole = (MOE / SINGLE).read_bytes()
    return {
        "empty": b"",
        "short": b"PK",
        "truncated data": whole[:-100],
        "truncated header": whole[:500],
        "html": b"<!DOCTYPE html><html><body>Not found</body></html>",
        "noise": bytes(range(256)) * 40,
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    }[kind]


@pytest.mark.parametrize("file", [SINGLE, "pytorch_model.bin"])
@pytest.mark.parametrize(
    "kind", ["empty", "short", "truncated data", "truncated header", "html", "noise", "pointer"]
)
def test_damaged_file_is_an_error_that_names_it(kind: str, file: str, config_only: Path) -> None:
    (config_only / file).write_bytes(damaged(kind))
    with pytest.raises(CheckpointError, match="Download it again") as caught:
        load_nllb(config_only)
    assert str(config_only / file) in str(caught.value)
    expected = {"empty": "is empty", "pointer": "Git LFS"}.get(kind, "truncated or damaged")
    assert expected in str(caught.value)


def test_truncated_bin_is_an_error(config_only: Path) -> None:
    path = config_only / "pytorch_model.bin"
    torch.save(weights(), path)
    os.truncate(path, path.stat().st_size - 1000)
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        load_nllb(config_only)


class Payload:
    """Unpickled carelessly, it makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return open, (str(self.target), "w")


@pytest.mark.parametrize("container", ["zip", "old torch", "pickle"])
def test_code_in_a_bin_is_never_run(container: str, config_only: Path) -> None:
    target, path = config_only / "harm", config_only / "pytorch_model.bin"
    content = weights() | {"extra": Payload(target)}
    if container == "pickle":
        path.write_bytes(pickle.dumps({"extra": Payload(target)}, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=container == "zip")
    with pytest.raises(CheckpointError, match="asks to run code while it is read, which Dragoman never does"):
        load_nllb(config_only)
    assert not target.exists()
    # The payload is a real one: a careless reader would have run it.
    if container == "pickle":
        pickle.loads(path.read_bytes())["extra"].close()
        assert target.exists()


def test_bin_without_pytorch_is_an_error_that_says_what_to_install(
    config_only: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(weights(), config_only / "pytorch_model.bin")
    monkeypatch.setitem(sys.modules, "dragoman.checkpoints.pickles", None)  # as if its imports had failed
    with pytest.raises(CheckpointError, match=r"takes PyTorch to read: pip install 'dragoman\[torch\]'"):
        open_shard(config_only / "pytorch_model.bin")


def test_bin_that_is_no_table_of_tensors_is_an_error(config_only: Path) -> None:
    torch.save({"model": weights(), "epoch": 3}, config_only / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="not a plain table of tensors"):
        load_nllb(config_only)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000,
        "[]",
        "{}",
        '{"weight_map": []}',
        '{"weight_map": {}}',
        '{"weight_map": {"a": 1}}',
        '{"weight_map": {"a": "x", "b": 1}}',
        '{"weight_map": {"a": ["x"]}}',
    ],
    ids=range(10),
)
def test_broken_index_is_an_error_that_names_it(text: str, config_only: Path) -> None:
    (config_only / INDEX).write_text(text)
    with pytest.raises(CheckpointError, match="Download it again") as caught:
        load_nllb(config_only)
    assert str(config_only / INDEX) in str(caught.value)


@pytest.mark.parametrize("kind", ["..", "absolute", "subfolder", "backslash"])
def test_index_may_only_point_beside_itself(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    for place in (tmp_path, folder / "sub"):
        save_file(weights(), place / "x.safetensors")
    shutil.copy(MOE / "config.json", folder)
    name = {
        "..": "../x.safetensors",
        "absolute": str(tmp_path / "x.safetensors"),
        "subfolder": "sub/x.safetensors",
        "backslash": "..\\x.safetensors",
    }[kind]
    (folder / INDEX).write_text(json.dumps({"weight_map": {"shared.weight": name}}))
    with pytest.raises(CheckpointError, match="no plain file name"):
        load_nllb(folder)


def test_missing_shard_is_an_error_that_names_it(config_only: Path) -> None:
    save_nllb(load_nllb(MOE), config_only, max_shard_bytes=1_200_000)
    (config_only / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"1 are not there: model-00002-of-00003\.safetensors"):
        load_nllb(config_only)


def test_damaged_shard_is_an_error_that_names_it(config_only: Path) -> None:
    save_nllb(load_nllb(MOE), config_only, max_shard_bytes=1_200_000)
    os.truncate(config_only / "model-00002-of-00003.safetensors", 3000)
    with pytest.raises(CheckpointError, match=r"model-00002-of-00003\.safetensors is truncated"):
        load_nllb(config_only)


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: what a full disk looks like to a writer."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("limit", [5_000_000_000, 300_000])
def test_full_disk_leaves_the_older_checkpoint_untouched(limit: int, tmp_path: Path) -> None:
    old, new = load_nllb(MOE), random_model()
    save_nllb(old, tmp_path, max_shard_bytes=limit)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with file_limit(100_000), pytest.raises(CheckpointError, match=r"can't be saved to .* Make room"):
        save_nllb(new, tmp_path, max_shard_bytes=limit)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_crash_while_writing_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(path: Path, tensors: dict, metadata: dict, progress: None) -> None:
        path.write_bytes(b"half a fi")
        raise KeyboardInterrupt

    monkeypatch.setattr("dragoman.checkpoints.weight_files.write_safetensors", dies)
    with pytest.raises(KeyboardInterrupt):
        save_nllb(random_model(), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("old_limit", [5_000_000_000, 300_000])
def test_crash_while_moving_files_never_mixes_two_checkpoints(
    old_limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = load_nllb(MOE)
    save_nllb(old, tmp_path, max_shard_bytes=old_limit)
    moved = []

    def move(source: Path, target: Path) -> None:
        if len(moved) == 4:
            raise KeyboardInterrupt
        moved.append(source.rename(target))

    monkeypatch.setattr("dragoman.files.os.replace", move)
    with pytest.raises(KeyboardInterrupt):
        save_nllb(random_model(), tmp_path, max_shard_bytes=300_000)
    if old_limit > 300_000:
        assert torch.equal(load_nllb(tmp_path).shared.weight, old.shared.weight)
    else:
        with pytest.raises(CheckpointError, match="holds no weights"):
            load_nllb(tmp_path)


def test_file_where_the_folder_should_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("")
    with pytest.raises(CheckpointError, match="can't be saved"):
        save_nllb(random_model(), tmp_path / "model")


def test_saved_files_have_the_rights_of_other_new_files(tmp_path: Path) -> None:
    save_nllb(random_model(), tmp_path)
    (tmp_path / "other").touch()
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1


ALL_DTYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip


def waiting(tensor: Tensor) -> Pending:
    numbers = numbers_of(tensor)
    return Pending.of(numbers)


def test_written_file_is_read_by_safetensors(tmp_path: Path) -> None:
    tensors = {"a scalar": torch.tensor(1.5), "nothing": torch.zeros(0, 3), 'Ünï\n"': torch.ones(1)}
    tensors |= {f"{dtype} {n}": torch.randn(n, 3).to(dtype) for dtype in reversed(ALL_DTYPES) for n in (1, 5)}
    tensors["transposed"] = torch.randn(4, 6).T
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {name: waiting(t) for name, t in tensors.items()}, {"who": "me"})
    assert read_metadata(path) == {"format": "pt", "who": "me"}
    loaded = load_file(path)
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor), name
    header = int.from_bytes(path.read_bytes()[:8], "little")
    assert header % 8 == 0


def test_written_file_is_the_one_that_safetensors_writes(tmp_path: Path) -> None:
    tensors = dict(sorted(weights().items()))
    write_shards(tmp_path, {name: pending(t) for name, t in tensors.items()}, None, 5_000_000_000)
    save_file(tensors, tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    assert (tmp_path / SINGLE).read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()


def test_long_tensor_is_written_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dragoman.checkpoints.weight_files.BLOCK", 7)
    tensor, steps = torch.randn(10, 10), []
    write_safetensors(tmp_path / SINGLE, {"x": pending(tensor, torch.bfloat16)}, progress=steps.append)
    assert torch.equal(load_file(tmp_path / SINGLE)["x"], tensor.bfloat16())
    assert steps == [14] * 14 + [4]


def test_writing_holds_one_tensor_at_a_time(tmp_path: Path) -> None:
    alive: weakref.WeakSet[Numbers] = weakref.WeakSet()

    def make(number: int) -> Numbers:
        assert not alive
        numbers = Numbers(np.full(10, number, np.float32), "F32")
        alive.add(numbers)
        return numbers

    tensors = {str(n): Pending((10,), "F32", lambda n=n: make(n)) for n in range(6)}
    write_shards(tmp_path, tensors, None, 100)
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["metadata"]["total_size"] == 240
    for name, file in index["weight_map"].items():
        assert torch.equal(load_file(tmp_path / file)[name], torch.full((10,), float(name)))
    assert len(set(index["weight_map"].values())) == 3


def test_stored_knows_its_dtype_in_either_format(tmp_path: Path) -> None:
    tensors = {str(dtype): torch.ones(2, dtype=dtype) for dtype in ALL_DTYPES[:4]}
    save_file(tensors, tmp_path / SINGLE)
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    for file in (SINGLE, "pytorch_model.bin"):
        stored = open_shard(tmp_path / file)
        names = dict(zip(tensors, ("F64", "F32", "F16", "BF16"), strict=True))
        assert {name: part.dtype for name, part in stored.items()} == names
        assert all(part.is_plain for part in stored.values())
        for name, part in stored.items():
            assert torch.equal(tensor_of(part.read()), tensors[name])
    assert read_metadata(tmp_path / "pytorch_model.bin") == {}
