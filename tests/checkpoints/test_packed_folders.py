"""Packed folders hold what packing in memory gives, as maps, and say what is wrong with them."""

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from dragoman.checkpoints.llama_files import open_llama
from dragoman.checkpoints.nllb_files import open_nllb
from dragoman.checkpoints.packed_folders import PackedModel, open_packed, verify
from dragoman.checkpoints.packed_shards import LINE, PAGE
from dragoman.errors import CheckpointError, ConfigError, DragomanError, InvalidOption, KeyMismatch
from dragoman.kernels.head import Head
from dragoman.kernels.library import kernels
from tests.checkpoints.packing_kit import GOLDEN, NLLB, converted, parts_of, same, with_tokenizer

pytestmark = pytest.mark.skipif(kernels() is None, reason="there are no native kernels here")
PACKED, INDEX = "packed.safetensors", "packed.safetensors.index.json"


@pytest.fixture(scope="module")
def moe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small packed model that tests may read, and copy to change."""
    return converted("nllb_moe_base", tmp_path_factory.mktemp("moe"), "int8")


@pytest.fixture
def broken(moe: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(moe, tmp_path / "broken"))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int4"])
@pytest.mark.parametrize("name", [*NLLB, "xalma"])
def test_opened_parts_are_the_bits_that_packing_gives(name: str, precision: str, tmp_path: Path) -> None:
    packed = open_packed(converted(name, tmp_path, precision))
    expected = parts_of(GOLDEN / name, precision)
    assert packed.keys() == expected.keys()
    for each, part in expected.items():
        assert same(packed[each], part), each


def test_parts_lie_in_the_map_itself(moe: Path) -> None:
    packed = open_packed(moe)
    head, embedding = packed["lm_head"], packed["shared"]
    exact, table = head.exact, embedding.weight
    arrays = [exact.rest, exact.packed.data, head.linear.packed.data, packed["encoder.layer_norm.weight"]]
    for array in arrays:
        base = array
        while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
            base = base.base
        assert isinstance(base, np.memmap)
        assert base.mode == "r"
        assert not array.flags.writeable
    for one in (table, exact):
        assert np.shares_memory(one.rest, exact.rest)
        assert np.shares_memory(one.packed.data, head.linear.packed.data), "the tied table is there once"


def test_bounds_are_read_and_not_measured(moe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = parts_of(GOLDEN / "nllb_moe_base", "int8")["lm_head"].bounds
    monkeypatch.setattr("dragoman.kernels.head.needed", lambda: pytest.fail("measured"))
    head: Head = open_packed(moe)["lm_head"]
    assert head.bounds == expected


@pytest.mark.parametrize("limit", [5_000_000_000, 300_000])
def test_any_reader_of_safetensors_opens_the_files(limit: int, tmp_path: Path) -> None:
    folder = converted("nllb_dense", tmp_path, "int8", max_shard_bytes=limit)
    found = {}
    files = sorted(folder.glob("packed*.safetensors"))
    assert len(files) == (1 if limit > 300_000 else len(json.loads((folder / INDEX).read_text()) and files))
    for file in files:
        found |= load_file(file)
        with safe_open(file, "numpy") as opened:
            assert opened.metadata()["precision"] == "int8"
            assert opened.metadata()["model_type"] == "m2m_100"
    assert {array.dtype for array in found.values()} == {np.dtype(t) for t in ("u1", "f4")}
    if limit == 300_000:
        weight_map = json.loads((folder / INDEX).read_text())["weight_map"]
        assert len(set(weight_map.values())) == len(files) > 1
        assert {name for name in found if not name.startswith("__pad.")} == weight_map.keys()


def test_tensors_begin_at_lines_and_large_ones_at_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dragoman.checkpoints.packed_shards.LARGE", 3000)
    with (converted("nllb_dense", tmp_path, "int8") / PACKED).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__")
    first = 8 + length
    large = 0
    for name, entry in header.items():
        start, stop = entry["data_offsets"]
        if not name.startswith("__pad."):
            assert (first + start) % LINE == 0
            large += stop - start >= 3000
            assert stop - start < 3000 or (first + start) % PAGE == 0
    assert large


def test_a_pickle_of_a_packed_model_is_a_path(moe: Path) -> None:
    packed = open_packed(moe)
    assert packed["shared"]
    data = pickle.dumps(packed)
    assert len(data) < 1000
    again: PackedModel = pickle.loads(data)
    assert same(again["lm_head"], packed["lm_head"])


def test_checksums_tell_whole_files_from_damaged_ones(broken: Path) -> None:
    steps: list[tuple[int, int]] = []
    assert verify(broken, lambda done, total: steps.append((done, total))) == (broken / PACKED).stat().st_size
    assert steps[-1][0] == steps[-1][1]
    with (broken / PACKED).open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-5, os.SEEK_END)
        file.write(bytes([byte ^ 1]))
    open_packed(broken)  # too much would have to be read to see it
    with pytest.raises(CheckpointError, match=r"is damaged .* differs\)\. Convert the model anew"):
        verify(broken)


def edit_metadata(folder: Path, old: bytes, new: bytes) -> None:
    data = (folder / PACKED).read_bytes()
    assert old in data
    assert len(old) == len(new)
    (folder / PACKED).write_bytes(data.replace(old, new, 1))


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for name, value in changes.items():
        if name in config["dragoman"]:
            config["dragoman"][name] = value
        else:
            config[name] = value
    path.write_text(json.dumps(config))


def truncate(folder: Path) -> None:
    os.truncate(folder / PACKED, (folder / PACKED).stat().st_size - 1)


def lengthen(folder: Path) -> None:
    (folder / PACKED).write_bytes((folder / PACKED).read_bytes() + b"1")


DAMAGES = {
    "truncated": (truncate, "truncated or damaged.*convert the model anew"),
    "longer": (
        lengthen,
        "truncated or damaged.*convert the model anew",
    ),
    "empty": (lambda f: (f / PACKED).write_bytes(b""), "is empty"),
    "missing": (lambda f: (f / PACKED).unlink(), "holds no packed weights"),
    "layout of the file": (
        lambda f: edit_metadata(f, b'"dragoman_layout":"1"', b'"dragoman_layout":"0"'),
        "layout 0, and this version of Dragoman reads layout 1. Convert the model anew",
    ),
    "layout of the config": (lambda f: edit_config(f, layout=2), "layout 2, and this version"),
    "precision": (lambda f: edit_config(f, precision="int2"), "incomplete.*int2.*Convert the model anew"),
    "modules": (lambda f: edit_config(f, modules=[1]), "incomplete"),
    "no object": (lambda f: edit_config(f, dragoman=1), "must be an object"),
    "other shape": (lambda f: edit_config(f, decoder_ffn_dim=32), "of another shape"),
    "more layers": (lambda f: edit_config(f, encoder_layers=9), "missing"),
    "fewer layers": (lambda f: edit_config(f, decoder_layers=1), "unexpected"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_refused_by_name(damage: str, broken: Path) -> None:
    harm, message = DAMAGES[damage]
    harm(broken)
    with pytest.raises((CheckpointError, ConfigError, KeyMismatch), match=f"(?s){message}"):
        open_packed(broken)


def test_unknown_forms_are_refused(broken: Path) -> None:
    edit_metadata(broken, rb"\"kind\":\"embedding\"", rb"\"kind\":\"embeddinG\"")
    with pytest.raises(DragomanError):
        open_packed(broken)


def test_arrays_that_make_no_part_are_refused(broken: Path) -> None:
    # The scale of another layer in the place of the weights: C must never see it.
    old = rb"\"data\":\"encoder.layers.0.self_attn.k_proj.data\""
    new = rb"\"data\":\"encoder.layers.0.self_attn.k_proj.bias\""
    edit_metadata(broken, old, new)
    with pytest.raises(CheckpointError, match=r"k_proj in a form that is not known.*convert it anew"):
        open_packed(broken)["encoder.layers.0.self_attn.k_proj"]


def test_what_needs_plain_weights_refuses_packed_ones(moe: Path) -> None:
    with pytest.raises(InvalidOption, match=r"is packed for the kernels \(in int8\).*made from"):
        open_nllb(moe)


def test_llama_that_needs_plain_weights_refuses_packed_ones(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="is packed for the kernels"):
        open_llama(converted("xalma", tmp_path, "int4"))


def test_a_folder_that_is_not_packed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no packed model"):
        open_packed(with_tokenizer("nllb_dense", tmp_path / "plain"))
