"""A model with fewer experts is the whole one whose routers may not choose the others."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dragoman.checkpoints.cutting import Kept, keep_experts
from dragoman.checkpoints.nllb import load_nllb
from dragoman.checkpoints.nllb_files import NllbFiles, open_nllb
from dragoman.checkpoints.packing import pack_nllb, packed_bytes
from dragoman.checkpoints.places import Reader
from dragoman.errors import InvalidOption
from dragoman.generation.scores import log_softmax
from dragoman.kernels.library import kernels
from dragoman.layers.moe import SparseMLP
from dragoman.models.nllb import Nllb
from dragoman.models.prompt import Prompt
from dragoman.models.shapes import nllb_shapes
from dragoman.native.nllb import NativeNllb
from dragoman.native.weights import PackedWeights

MODEL = Path(__file__).parents[1] / "data" / "golden" / "nllb_moe_base"
KEPT: Kept = {
    "encoder": {1: (0, 3, 4, 5, 7), 3: (6, 2, 1, 0, 5)},
    "decoder": {1: (3, 4), 3: (0, 7)},
}


@pytest.fixture(scope="module")
def cut() -> NllbFiles:
    return keep_experts(open_nllb(MODEL), KEPT)


def forbid_(model: Nllb, kept: Kept) -> None:
    """Have the routers of the whole model never choose the experts that are left out."""
    for side, stack in (("encoder", model.encoder), ("decoder", model.decoder)):
        for index, numbers in kept[side].items():
            block = stack.layers[index].ffn
            assert isinstance(block, SparseMLP)
            banned = sorted(set(range(8)) - set(numbers))

            def ban(module: object, inputs: object, logits: torch.Tensor, banned: list[int] = banned) -> None:
                logits[..., banned] = -torch.inf

            block.router.classifier.register_forward_hook(ban)


@pytest.mark.skipif(kernels() is None, reason="there are no native kernels here")
def test_routers_choose_among_those_that_stay_as_if_the_others_were_forbidden(cut: NllbFiles) -> None:
    whole = load_nllb(MODEL).eval()
    forbid_(whole, KEPT)
    native = NativeNllb(cut.config, PackedWeights(pack_nllb(cut, "fp32")))
    source = np.random.default_rng(4).integers(5, cut.config.vocab_size, (3, 9))
    prompt, tokens = Prompt(source, np.ones_like(source, bool)), np.array([[2, 5, 7]] * 3)
    found = native.step(tokens, native.begin(prompt)).logits()
    with torch.no_grad():
        expected = whole.step(tokens, whole.begin(prompt)).logits()
    assert np.allclose(log_softmax(found), log_softmax(np.array(expected)), atol=1e-4)


def test_all_that_is_left_is_what_the_config_says(cut: NllbFiles) -> None:
    assert (cut.config.encoder_experts, cut.config.decoder_experts) == (5, 2)
    assert {name: place.shape for name, place in cut.places.items()} == nllb_shapes(cut.config)
    assert packed_bytes(cut.config, "int8") < packed_bytes(open_nllb(MODEL).config, "int8")


def test_experts_keep_their_order_and_routers_the_rows_of_theirs(cut: NllbFiles) -> None:
    read, whole = Reader(), open_nllb(MODEL).places
    stem = "encoder.layers.3.ffn"
    for new, old in enumerate((0, 1, 2, 5, 6)):
        name = "fc1.weight"
        ours = read(cut.places[f"{stem}.experts.expert_{new}.{name}"]).data
        assert np.array_equal(ours, read(whole[f"{stem}.experts.expert_{old}.{name}"]).data)
    router = f"{stem}.router.classifier.weight"
    assert np.array_equal(read(cut.places[router]).data, read(whole[router]).data[[0, 1, 2, 5, 6]])


def test_a_model_that_was_cut_can_be_cut_again(cut: NllbFiles) -> None:
    again = keep_experts(cut, {"encoder": {1: (1, 4), 3: (0, 4)}, "decoder": {1: (0, 1), 3: (0, 1)}})
    read, router = Reader(), "encoder.layers.1.ffn.router.classifier.weight"
    assert np.array_equal(read(again.places[router]).data, read(open_nllb(MODEL).places[router]).data[[3, 7]])


def test_an_adapter_of_routers_and_experts_is_cut_likewise(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    names = ("router.classifier", "experts.expert_3.fc1", "experts.expert_6.fc1")
    modules = [f"encoder.layers.1.ffn.{name}" for name in names]
    shapes, random = nllb_shapes(open_nllb(MODEL).config), np.random.default_rng(1)
    tensors = {}
    for module in modules:
        outputs, inputs = shapes[f"{module}.weight"]
        for side, size in (("A", (2, inputs)), ("B", (outputs, 2))):
            tensors[f"base_model.model.{module}.lora_{side}.weight"] = random.standard_normal(
                size, np.float32
            )
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "SEQ_2_SEQ_LM", "r": 2, "lora_alpha": 2}
    config |= {"target_modules": modules, "base_model_name_or_path": str(MODEL)}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    whole = open_nllb(tmp_path)
    cut, read = keep_experts(whole, KEPT), Reader()
    assert set(cut.changes) == {f"{modules[0]}.weight", "encoder.layers.1.ffn.experts.expert_1.fc1.weight"}
    for name, old in (("router.classifier", "router.classifier"), ("experts.expert_1.fc1", names[1])):
        ours, theirs = (
            files.changes[key].applied(read(files.places[key]), read).data
            for files, key in (
                (cut, f"encoder.layers.1.ffn.{name}.weight"),
                (whole, f"encoder.layers.1.ffn.{old}.weight"),
            )
        )
        rows = list(KEPT["encoder"][1]) if "router" in name else slice(None)
        assert np.allclose(ours, theirs[rows], atol=1e-6)


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({"encoder": KEPT["encoder"]}, r"of the decoder's layers \[\] are to stay; it has \[1, 3\]"),
        ({**KEPT, "decoder": {1: (0, 1), 2: (0, 1)}}, r"layers \[1, 2\] are to stay; it has \[1, 3\]"),
        ({**KEPT, "decoder": {1: (0, 1), 3: (0, 8)}}, "expert 8 of the decoder is to stay; it has 8"),
        ({**KEPT, "decoder": {1: (0, 1), 3: (0, 1, 2)}}, r"\[2, 3\] experts are to stay in the decoder"),
        ({**KEPT, "decoder": {1: (0,), 3: (1,)}}, "at least 2"),
    ],
)
def test_what_can_not_be_cut_so_is_refused(kept: Kept, message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        keep_experts(open_nllb(MODEL), kept)
