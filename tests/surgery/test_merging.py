"""Language modules merged into the weights, and taken out again."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dragoman.checkpoints.llama import load_xalma
from dragoman.errors import LanguageModuleError
from dragoman.generation.options import GenerationOptions
from dragoman.generation.search import complete
from dragoman.models.llama import Llama
from dragoman.surgery.language_modules import attach_, detach_, groups, merge_, unmerge_
from tests.surgery.looks import logits

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
COMBINED, GROUP6 = GOLDEN / "xalma", GOLDEN / "xalma_group6"


# Merge and unmerge


@pytest.mark.parametrize("group", range(1, 9))
def test_merged_equals_attached(group: int, model: Llama, prompts: tuple[Tensor, Tensor]) -> None:
    attached = logits(model, prompts, [group] * 3)
    merge_(model, group)
    torch.testing.assert_close(logits(model, prompts, [group] * 3), attached, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits(model, prompts, None), attached, atol=1e-5, rtol=1e-5)


def test_merged_weights_are_those_of_the_published_merged_model(model: Llama) -> None:
    merge_(model, 6)
    published = load_xalma(GROUP6 / "merged", merged_group=6)
    mine = dict(model.named_parameters())
    for name, parameter in published.named_parameters():
        torch.testing.assert_close(mine[name], parameter, atol=1e-6, rtol=0)


def test_merged_generates_the_same(model: Llama, untouched: Llama, prompts: tuple[Tensor, Tensor]) -> None:
    options = GenerationOptions(beams=4, max_new_tokens=14)
    merge_(model, 6)
    arrays = [part.numpy() for part in prompts]
    merged = complete(model, *arrays, options, [6] * 3)
    attached = complete(untouched, *arrays, options, [6] * 3)
    assert [[h.tokens for h in ranked] for ranked in merged] == [[h.tokens for h in r] for r in attached]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_unmerged_weights_are_what_they_were_bit_for_bit(dtype: torch.dtype) -> None:
    model = load_xalma(COMBINED, dtype=dtype)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    parameters = dict(model.named_parameters())
    for group in (6, 1, 6):
        merge_(model, group)
        assert not torch.equal(
            model.model.layers[0].mlp.down_proj.weight, before["model.layers.0.mlp.down_proj.weight"]
        )
        unmerge_(model)
        after = dict(model.named_parameters())
        assert after.keys() == before.keys()
        for name, parameter in after.items():
            assert torch.equal(parameter, before[name]), name
            assert parameter is parameters[name], name


def test_merging_reads_no_copy_of_weights_that_lie_in_memory_already(model: Llama) -> None:
    weight = model.model.layers[1].self_attn.q_proj.weight
    place = weight.data_ptr()
    merge_(model, 6)
    assert model.model.layers[1].self_attn.q_proj.weight.data_ptr() != place
    unmerge_(model)
    assert model.model.layers[1].self_attn.q_proj.weight.data_ptr() == place


def test_other_groups_wait_until_the_merged_one_is_out(
    model: Llama, untouched: Llama, prompts: tuple[Tensor, Tensor]
) -> None:
    merge_(model, 6)
    for wanted, message in (([6, 1, 6], "a row needs group 1"), ([6, 0, 6], "the base without a module")):
        with pytest.raises(LanguageModuleError, match=rf"{message}, but group 6 is merged"):
            logits(model, prompts, wanted)
    unmerge_(model)
    for wanted in ([6, 1, 6], [6, 0, 6], [6, 6, 6]):
        expected = logits(untouched, prompts, wanted)
        torch.testing.assert_close(logits(model, prompts, wanted), expected, atol=1e-6, rtol=1e-6)


def test_attaching_to_merged_weights_takes_effect_after_unmerging(
    untouched: Llama, prompts: tuple[Tensor, Tensor]
) -> None:
    model = load_xalma(COMBINED, groups=[6])
    merge_(model, 6)
    attach_(model, 1)
    with pytest.raises(LanguageModuleError, match="group 1"):
        logits(model, prompts, [1] * 3)
    unmerge_(model)
    for group in (0, 1, 6):
        torch.testing.assert_close(
            logits(model, prompts, [group] * 3), logits(untouched, prompts, [group] * 3), atol=1e-6, rtol=1e-6
        )


def test_a_merged_group_can_be_detached_and_stays_merged(
    model: Llama, untouched: Llama, prompts: tuple[Tensor, Tensor]
) -> None:
    expected = logits(untouched, prompts, [6] * 3)
    merge_(model, 6)
    detach_(model, 6)
    torch.testing.assert_close(logits(model, prompts, [6] * 3), expected, atol=1e-5, rtol=1e-5)
    unmerge_(model)
    with pytest.raises(LanguageModuleError, match="group 6"):
        logits(model, prompts, [6] * 3)


def test_without_originals_there_is_no_way_back(model: Llama) -> None:
    merge_(model, 6, keep_original=False)
    assert model.model.language.originals is None
    with pytest.raises(LanguageModuleError, match="keep_original=False"):
        unmerge_(model)


def test_merged_weights_of_a_file_have_no_originals() -> None:
    with pytest.raises(LanguageModuleError, match="load the base again"):
        unmerge_(load_xalma(GROUP6 / "merged", merged_group=6))


def test_training_the_merged_weights_is_not_thrown_away(model: Llama) -> None:
    merge_(model, 6)
    with torch.no_grad():
        model.model.layers[2].mlp.up_proj.weight.add_(0.1)
    with pytest.raises(LanguageModuleError, match=r"layers\.2\.mlp\.up_proj.*changed"):
        unmerge_(model)


def test_copies_have_modules_of_their_own(model: Llama, prompts: tuple[Tensor, Tensor]) -> None:
    expected = logits(model, prompts, [6] * 3)
    twin = copy.deepcopy(model)
    merge_(twin, 1)
    detach_(twin, 6)
    assert torch.equal(logits(model, prompts, [6] * 3), expected)
    assert groups(model) == (1, 2, 3, 4, 5, 6, 7, 8)
