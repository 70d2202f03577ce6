"""Matrices in 8 bits with a scale a row: written, refused, and read as floats wherever a model is read."""

import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dragoman.checkpoints.compressed import FIELD, quantised
from dragoman.checkpoints.cutting import keep_rows
from dragoman.checkpoints.nllb import load_nllb, save_nllb
from dragoman.checkpoints.nllb_files import SHARED, open_nllb
from dragoman.checkpoints.numbers import Numbers
from dragoman.checkpoints.packed_folders import open_packed
from dragoman.checkpoints.packing import pack_nllb
from dragoman.checkpoints.places import Reader
from dragoman.errors import CheckpointError, ConfigError, KeyMismatch
from dragoman.kernels.arrays import Stored
from dragoman.kernels.packing import levels, pack
from dragoman.models.nllb import Nllb
from dragoman.systems.converting import convert

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
MOE, DENSE = GOLDEN / "nllb_moe_base", GOLDEN / "nllb_dense"
FILE = "model.safetensors"
MATRIX = "encoder.layers.0.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture of experts in 8 bits."""
    folder = tmp_path_factory.mktemp("stored") / "moe"
    save_nllb(load_nllb(MOE), folder, dtype=torch.int8)
    return folder


@pytest.fixture
def copy(stored: Path, tmp_path: Path) -> Path:
    shutil.copytree(stored, folder := tmp_path / "copy")
    return folder


def weights(model: Nllb) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def is_matrix(name: str, tensor: Tensor) -> bool:
    return tensor.dim() == 2 and "router" not in name


def test_matrices_are_bytes_with_a_scale_a_row_and_all_else_is_float32(stored: Path) -> None:
    tensors = load_file(stored / FILE)
    for name, tensor in weights(load_nllb(MOE)).items():
        if is_matrix(name, tensor):
            assert tensors[name].dtype == torch.int8
            assert tensors[f"{name}_scale"].dtype == torch.float32
            assert tensors[f"{name}_scale"].shape == (len(tensor), 1)
            assert int(tensors[name].abs().amax(1).min()) == 127
        else:
            assert torch.equal(tensors[name], tensor)
            assert f"{name}_scale" not in tensors


def test_the_config_says_so_in_the_words_of_compressed_tensors(stored: Path) -> None:
    said = json.loads((stored / "config.json").read_text())[FIELD]
    assert (said["quant_method"], said["format"]) == ("compressed-tensors", "int-quantized")
    (group,) = said["config_groups"].values()
    assert group["weights"]["num_bits"] == 8
    assert (group["weights"]["strategy"], group["weights"]["symmetric"]) == ("channel", True)
    assert group["input_activations"] is None


@pytest.mark.parametrize("golden", [MOE, DENSE], ids=lambda path: path.name)
def test_no_weight_is_further_off_than_half_of_its_rows_scale(golden: Path, tmp_path: Path) -> None:
    before = load_nllb(golden)
    save_nllb(before, tmp_path, dtype=torch.int8)
    after = weights(load_nllb(tmp_path))
    assert {tensor.dtype for tensor in after.values()} == {torch.float32}
    for name, tensor in weights(before).items():
        off = (after[name] - tensor).abs()
        half = tensor.abs().amax(-1, keepdim=True) / 254 if is_matrix(name, tensor) else torch.zeros(1)
        assert bool((off <= half * 1.0001).all()), name


def test_saving_what_was_read_gives_the_same_bytes(stored: Path, tmp_path: Path) -> None:
    save_nllb(load_nllb(stored), tmp_path, dtype=torch.int8)
    first, second = load_file(stored / FILE), load_file(tmp_path / FILE)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        if name.endswith("_scale"):
            torch.testing.assert_close(second[name], tensor, rtol=1e-6, atol=0)
        else:
            assert torch.equal(second[name], tensor), name


def test_saved_in_floats_it_is_a_plain_checkpoint(stored: Path, tmp_path: Path) -> None:
    save_nllb(load_nllb(stored), tmp_path)
    assert FIELD not in json.loads((tmp_path / "config.json").read_text())
    assert {tensor.dtype for tensor in load_file(tmp_path / FILE).values()} == {torch.float32}


def test_the_kernels_int8_are_the_stored_numbers(stored: Path) -> None:
    parts, tensors = pack_nllb(open_nllb(stored), "int8"), load_file(stored / FILE)
    for name, tensor in tensors.items():
        module = name.removesuffix(".weight")
        if tensor.dtype == torch.int8 and name != SHARED:
            whole, scale = levels(parts[module].packed)
            rows, columns = tensor.shape
            np.testing.assert_array_equal(whole[:rows, :columns], tensor.numpy())
            np.testing.assert_allclose(scale[:rows], tensors[f"{name}_scale"].numpy(), rtol=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_it_packs_as_its_floats_do(stored: Path, tmp_path: Path, precision: str) -> None:
    save_nllb(load_nllb(stored), tmp_path)
    ours, theirs = (pack_nllb(open_nllb(folder), precision) for folder in (stored, tmp_path))
    assert ours.keys() == theirs.keys()
    for name, part in ours.items():
        if hasattr(part, "packed"):
            np.testing.assert_array_equal(part.packed.data, theirs[name].packed.data)


def test_a_converted_model_says_nothing_of_how_its_files_were(stored: Path, tmp_path: Path) -> None:
    shutil.copytree(stored, model := tmp_path / "model")
    (model / "sentencepiece.bpe.model").write_bytes(b"")
    convert(model, tmp_path / "packed", "int8")
    assert FIELD not in json.loads((tmp_path / "packed" / "config.json").read_text())
    assert open_packed(tmp_path / "packed").config == open_nllb(model).config


def test_rows_of_the_vocabulary_can_be_left_out(stored: Path) -> None:
    rows = [7, 2, 11]
    files = open_nllb(stored)
    cut = Reader()(keep_rows(files, rows).places[SHARED])
    np.testing.assert_array_equal(cut.data, Reader()(files.places[SHARED]).data[rows])


def test_reading_holds_one_tensor_as_floats(stored: Path) -> None:
    files, read = open_nllb(stored), Reader()
    largest = max(place.nbytes for place in files.places.values())
    whole = sum(place.nbytes for place in files.places.values())
    tracemalloc.start()
    for place in files.places.values():
        read(place)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * largest + 400_000 < whole / 2


def test_weights_and_their_scales_may_be_in_different_files(copy: Path, stored: Path) -> None:
    tensors = load_file(copy / FILE)
    (copy / FILE).unlink()
    names = {name: f"model-0000{1 + name.endswith('_scale')}-of-00002.safetensors" for name in tensors}
    for file in set(names.values()):
        save_file({name: tensors[name] for name in tensors if names[name] == file}, copy / file)
    index = {"metadata": {}, "weight_map": names}
    (copy / f"{FILE}.index.json").write_text(json.dumps(index))
    ours, theirs = weights(load_nllb(copy)), weights(load_nllb(stored))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("form", [torch.float16, torch.bfloat16])
def test_weights_are_of_the_type_of_their_scales(copy: Path, form: torch.dtype) -> None:
    tensors = load_file(copy / FILE)
    scaled = {name: t if t.dtype == torch.int8 else t.to(form) for name, t in tensors.items()}
    flat = {name: t.flatten() if name.endswith("_scale") else t for name, t in scaled.items()}
    save_file(flat, copy / FILE)
    found = load_nllb(copy, dtype=None)
    assert {parameter.dtype for parameter in found.parameters()} == {form}
    wanted = tensors[MATRIX].float() * scaled[f"{MATRIX}_scale"].float()
    assert torch.equal(dict(found.named_parameters())[MATRIX], wanted.to(form))


def test_tiny_rows_and_empty_ones_stay_what_they_are() -> None:
    values = np.array([[0, 0], [1e-45, 0], [3e-40, -3e-40], [3e38, -1e38]], np.float32)
    whole, scale = quantised(Numbers(values, "F32"))
    np.testing.assert_allclose(whole.data * scale.data, values, atol=2e-40, rtol=0.01)
    assert whole.data[3].tolist() == [127, -42]
    packed = pack(Stored(whole.data * scale.data, "F32"), "int8")
    assert np.isfinite(packed.scale).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_is_not_written(bad: float) -> None:
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        quantised(Numbers(np.array([[1, bad]], np.float32), "F32"))


# Refused


def said(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def group(config: dict[str, Any]) -> dict[str, Any]:
    return config[FIELD]["config_groups"]["group_0"]


UNKNOWN: dict[str, Callable[[dict[str, Any]], object]] = {
    "quant_method 'gptq'": lambda c: c[FIELD].update(quant_method="gptq"),
    "quant_method None": lambda c: c.update({FIELD: {"bits": 8}}),
    "format 'pack-quantized'": lambda c: c[FIELD].update(format="pack-quantized"),
    "without any config_groups": lambda c: c[FIELD].update(config_groups={}),
    "group_0 doesn't say": lambda c: group(c).pop("weights"),
    "num_bits 4": lambda c: group(c)["weights"].update(num_bits=4),
    "type 'float'": lambda c: group(c)["weights"].update(type="float"),
    "strategy 'group'": lambda c: group(c)["weights"].update(strategy="group"),
    "symmetric False": lambda c: group(c)["weights"].update(symmetric=False),
    "quantises activations": lambda c: group(c).update(input_activations={"num_bits": 8}),
    "group_0 by format": lambda c: group(c).update(format="pack-quantized"),
    "as 'int8'": lambda c: c.update({FIELD: "int8"}),
}


@pytest.mark.parametrize("problem", UNKNOWN)
def test_other_ways_to_quantise_are_refused(copy: Path, problem: str) -> None:
    said(copy, UNKNOWN[problem])
    with pytest.raises(ConfigError, match=problem):
        load_nllb(copy)


def test_bytes_are_no_weights_if_nothing_tells_of_scales(copy: Path) -> None:
    said(copy, lambda config: config.pop(FIELD))
    with pytest.raises(CheckpointError, match="as I8, so it is quantised"):
        load_nllb(copy)


def changed(folder: Path, **tensors: Tensor | None) -> None:
    kept = {**load_file(folder / FILE), **tensors}
    save_file({name: tensor for name, tensor in kept.items() if tensor is not None}, folder / FILE)


def test_bytes_without_their_scales_are_refused(copy: Path) -> None:
    changed(copy, **{f"{MATRIX}_scale": None})
    with pytest.raises(CheckpointError, match=f"{MATRIX} as I8, so it is quantised"):
        load_nllb(copy)


@pytest.mark.parametrize("scale", [torch.ones(3, 1), torch.ones(1), torch.ones(32, 1, dtype=torch.int32)])
def test_scales_that_fit_no_rows_are_refused(copy: Path, scale: Tensor) -> None:
    changed(copy, **{f"{MATRIX}_scale": scale})
    with pytest.raises(
        CheckpointError, match=f"{MATRIX}_scale is .* a scale in float is needed for each row"
    ):
        load_nllb(copy)


def test_scales_of_no_weight_and_zero_points_are_refused(copy: Path) -> None:
    changed(copy, **{f"{MATRIX}_zero_point": torch.zeros(32, 1)})
    with pytest.raises(KeyMismatch, match="zero_point"):
        load_nllb(copy)
