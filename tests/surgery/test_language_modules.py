from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dragoman.checkpoints.llama import load_xalma
from dragoman.checkpoints.numbers import Numbers
from dragoman.checkpoints.weight_files import Entry
from dragoman.errors import CheckpointError, InvalidOption, KeyMismatch, LanguageModuleError
from dragoman.models.llama import Llama
from dragoman.models.prompt import Prompt
from dragoman.surgery.language_modules import attach_, detach_, groups, merge_, unmerge_
from tests.surgery.looks import logits, lora_names

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
COMBINED, GROUP6 = GOLDEN / "xalma", GOLDEN / "xalma_group6"


# Attach and detach


def test_groups_lists_what_is_attached(model: Llama) -> None:
    assert groups(model) == (1, 2, 3, 4, 5, 6, 7, 8)
    assert groups(load_xalma(COMBINED, groups=[6, 2])) == (2, 6)
    assert groups(load_xalma(GROUP6 / "base")) == ()


def test_detached_groups_are_gone_and_can_come_back(model: Llama, prompts: tuple[Tensor, Tensor]) -> None:
    before = {group: logits(model, prompts, [group] * 3) for group in range(9)}
    names = lora_names(model)
    detach_(model, 3)
    assert groups(model) == (1, 2, 4, 5, 6, 7, 8)
    assert lora_names(model) == {name for name in names if name.split(".")[-2] != "3"}
    with pytest.raises(LanguageModuleError, match=r"group 3.*attached: 1, 2, 4"):
        logits(model, prompts, [6, 3, 6])
    assert torch.equal(logits(model, prompts, [4] * 3), before[4])
    attach_(model, 3)  # from the checkpoint it came from
    assert lora_names(model) == names
    for group in range(9):
        torch.testing.assert_close(logits(model, prompts, [group] * 3), before[group], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("source", ["combined", "adapter", "combined tensors", "adapter tensors"])
def test_a_module_can_come_from_anywhere(
    source: str, untouched: Llama, prompts: tuple[Tensor, Tensor]
) -> None:
    model = load_xalma(GROUP6 / "base")
    sources: dict[str, Any] = {
        "combined": COMBINED,
        "adapter": str(GROUP6 / "adapter"),
        "combined tensors": {
            name: tensor
            for name, tensor in load_file(COMBINED / "model.safetensors").items()
            if "_lora_" in name
        },
        "adapter tensors": load_file(GROUP6 / "adapter" / "adapter_model.safetensors"),
    }
    attach_(model, 6, sources[source])
    assert groups(model) == (6,)
    torch.testing.assert_close(
        logits(model, prompts, [6] * 3), logits(untouched, prompts, [6] * 3), atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(
        logits(model, prompts, [0] * 3), logits(untouched, prompts, [0] * 3), atol=1e-6, rtol=1e-6
    )


def test_weights_of_unknown_origin_become_a_base_when_a_module_is_attached(
    prompts: tuple[Tensor, Tensor],
) -> None:
    model = load_xalma(GROUP6 / "base")
    before = logits(model, prompts, [3] * 3)  # not checked: any group might be merged in
    attach_(model, 6, GROUP6 / "adapter")
    torch.testing.assert_close(logits(model, prompts, [0] * 3), before, atol=1e-6, rtol=1e-6)
    with pytest.raises(LanguageModuleError, match="group 3"):
        logits(model, prompts, [3] * 3)


def test_scale_can_be_given(untouched: Llama, prompts: tuple[Tensor, Tensor]) -> None:
    model = load_xalma(GROUP6 / "base")
    attach_(model, 1, GROUP6 / "adapter", scale=2.0)
    attach_(model, 2, GROUP6 / "adapter", scale=0.0)
    both = logits(model, prompts, [1, 1, 1]), logits(model, prompts, [2, 2, 2])
    torch.testing.assert_close(both[0], logits(untouched, prompts, [6] * 3), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(both[1], logits(untouched, prompts, [0] * 3), atol=1e-5, rtol=1e-5)
    mixed = logits(model, prompts, [1, 2, 1])
    rows = prompts[1].nonzero()[:, 0]
    torch.testing.assert_close(mixed[rows == 1], both[1][rows == 1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(mixed[rows != 1], both[0][rows != 1], atol=1e-5, rtol=1e-5)


def test_attached_modules_take_the_dtype_of_the_model(prompts: tuple[Tensor, Tensor]) -> None:
    model = load_xalma(GROUP6 / "base", dtype=torch.bfloat16)
    attach_(model, 6, GROUP6 / "adapter")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert bool(logits(model, prompts, [6] * 3).isfinite().all())


def test_modules_come_and_go_while_decoding(
    model: Llama, untouched: Llama, prompts: tuple[Tensor, Tensor]
) -> None:
    ids, keep = (part.numpy() for part in prompts)
    wanted = [6, 1, 6]
    with torch.inference_mode():
        expected, state = (
            untouched.begin(Prompt(keep=keep, groups=wanted)),
            model.begin(Prompt(keep=keep, groups=wanted)),
        )
        _, tokens = untouched.step(ids, expected).top(1)
        model.step(ids, state)
        for change in (
            lambda: detach_(model, 3),
            lambda: attach_(model, 3),
            lambda: (detach_(model, 6), attach_(model, 6)),
            lambda: (merge_(model, 8), unmerge_(model)),
        ):
            change()
            its = untouched.step(tokens, expected)
            found = model.step(tokens, state)
            np.testing.assert_allclose(found.logits(), its.logits(), atol=1e-5, rtol=1e-5)
            _, tokens = its.top(1)
        detach_(model, 6)
        with pytest.raises(LanguageModuleError, match="group 6"):
            model.step(tokens, state)


# What is read


@pytest.fixture
def keys_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of all tensors read from files since."""
    from dragoman.checkpoints import places

    seen: list[str] = []
    open_shard = places.open_shard

    def watched(path: Path) -> dict[str, Entry]:
        def note(key: str, stored: Entry) -> Entry:
            def read() -> Numbers:
                seen.append(key)
                return stored.read()

            return Entry(stored.shape, stored.dtype, read)

        return {key: note(key, stored) for key, stored in open_shard(path).items()}

    monkeypatch.setattr(places, "open_shard", watched)
    return seen


def test_groups_nobody_asked_for_stay_unread(keys_read: list[str], prompts: tuple[Tensor, Tensor]) -> None:
    model = load_xalma(COMBINED, groups=[6])
    assert {key.split(".")[-2] for key in keys_read if "_lora_" in key} == {"6"}
    assert len(keys_read) == len(set(keys_read)) == len(list(model.parameters()))
    keys_read.clear()
    logits(model, prompts, [6] * 3)
    assert not keys_read
    attach_(model, 2)
    assert {key.split(".")[-2] for key in keys_read} == {"2"}
    assert len(keys_read) == 3 * 7 * 2


def test_no_groups_is_a_choice_too(keys_read: list[str]) -> None:
    model = load_xalma(COMBINED, groups=[])
    assert not [key for key in keys_read if "_lora_" in key]
    assert groups(model) == ()


# Errors


@pytest.mark.parametrize("group", [0, -1, True, "6", 1.0])
def test_groups_are_whole_numbers_from_one(group: Any, model: Llama) -> None:
    with pytest.raises(InvalidOption, match="language groups are numbers"):
        attach_(model, group, COMBINED)


def test_impossible_changes_are_errors(model: Llama) -> None:
    with pytest.raises(LanguageModuleError, match="group 6 is attached already"):
        attach_(model, 6)
    with pytest.raises(LanguageModuleError, match="nothing is merged"):
        unmerge_(model)
    merge_(model, 6)
    with pytest.raises(LanguageModuleError, match="merged into the weights already"):
        merge_(model, 1)
    bare = load_xalma(COMBINED, groups=[])
    for verb in (detach_, merge_):
        with pytest.raises(LanguageModuleError, match=r"group 2 is not attached \(attached: none\)"):
            verb(bare, 2)
    with pytest.raises(LanguageModuleError, match="did not come from a combined checkpoint"):
        attach_(load_xalma(GROUP6 / "base"), 6)


def test_sources_without_the_module_are_errors(tmp_path: Path) -> None:
    model = load_xalma(GROUP6 / "base")
    with pytest.raises(CheckpointError, match=r"no module of group 9; groups there: 1, 2, 3"):
        attach_(model, 9, COMBINED)
    with pytest.raises(CheckpointError, match="no module of group 6; groups there: none"):
        attach_(model, 6, GROUP6 / "merged")
    with pytest.raises(CheckpointError, match="neither a combined checkpoint nor a PEFT adapter"):
        attach_(model, 6, tmp_path)
    with pytest.raises(KeyMismatch) as caught:
        attach_(model, 6, {"model.layers.0.self_attn.q_lora_A.5.weight": torch.zeros(8, 64)})
    assert caught.value.missing
    assert groups(model) == ()


def test_modules_of_another_shape_are_errors_that_name_every_tensor() -> None:
    model = load_xalma(GROUP6 / "base")
    tensors = load_file(GROUP6 / "adapter" / "adapter_model.safetensors")
    layer = "base_model.model.model.layers.1.mlp.up_proj.lora_"
    wrong = dict(tensors) | {
        layer + "A.weight": torch.zeros(8, 63),
        "base_model.model.lm_head.lora_A.weight": torch.zeros(1),
    }
    del wrong[layer + "B.weight"]
    with pytest.raises(KeyMismatch) as caught:
        attach_(model, 6, wrong)
    assert caught.value.unexpected == ["base_model.model.lm_head.lora_A.weight"]
    del wrong["base_model.model.lm_head.lora_A.weight"]
    with pytest.raises(KeyMismatch) as caught:
        attach_(model, 6, wrong)
    assert caught.value.missing == [layer + "B.weight"]
    assert caught.value.misshapen == {layer + "A.weight": ((8, 63), (8, 64))}
    assert groups(model) == ()
    assert not lora_names(model)


def test_a_quantised_base_can_have_modules_attached_but_not_merged(
    model: Llama, untouched: Llama, prompts: tuple[Tensor, Tensor]
) -> None:
    class Eighth(nn.Linear):
        """Stands for a layer that keeps its weights in a form of its own."""

        def forward(self, x: Tensor) -> Tensor:
            return x @ (self.weight * 1.0).t()

    for layer in model.model.layers:
        layer.mlp.gate_proj.__class__ = Eighth
    expected = logits(untouched, prompts, [6, 1, 0])
    torch.testing.assert_close(logits(model, prompts, [6, 1, 0]), expected, atol=1e-5, rtol=1e-5)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    with pytest.raises(LanguageModuleError, match=r"gate_proj is a Eighth.*Leave the module attached"):
        merge_(model, 6)
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    assert model.model.language.merged is None


def test_other_models_have_no_modules() -> None:
    with pytest.raises(InvalidOption, match="Linear is no Llama"):
        groups(nn.Linear(2, 2))
