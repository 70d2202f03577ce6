"""What learns and what is frozen, and that what is saved computes the same."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dragoman.checkpoints.llama import load_xalma
from dragoman.checkpoints.module_files import extract_base, extract_module
from dragoman.checkpoints.module_saving import Saving
from dragoman.checkpoints.nllb import load_nllb
from dragoman.errors import InvalidOption
from dragoman.models.llama import Llama
from dragoman.models.nllb import Nllb
from dragoman.text.tokenizers.llama import LlamaTokenizer
from dragoman.training.config import LoraOptions, TrainingConfig
from dragoman.training.recomputation import recompute_
from dragoman.training.saving import save
from dragoman.training.starting import Subject
from dragoman.training.trainable import add_lora_, load_trained_, train_module_, trained_state

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
TOKENS = torch.tensor([[1, 5, 6, 7, 8, 9], [1, 9, 8, 7, 6, 5]])
OPTIONS = LoraOptions(rank=3, scale=0.5, dropout=0.0)


@pytest.fixture
def base(combined: Path, tmp_path: Path) -> Path:
    extract_base(combined, tmp_path / "base", Saving())
    return tmp_path / "base"


def disturb_(model: nn.Module) -> None:
    """Give what learns other numbers, as training would."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                # As half precision stores them.
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
                parameter.copy_(parameter.half().float())


def learning(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


def test_new_module_changes_nothing_at_first_and_learns_alone(base: Path) -> None:
    model, plain = load_xalma(base), load_xalma(base)
    train_module_(model, 6, OPTIONS, seed=1)
    torch.testing.assert_close(model(TOKENS, groups=[6, 6]), plain(TOKENS), rtol=0, atol=0)
    names = learning(model)
    assert len(names) == 2 * 7 * len(model.model.layers)
    assert all("_lora_" in name and name.endswith(".6.weight") for name in names)
    model(TOKENS, groups=[6, 6]).square().sum().backward()
    assert all((p.grad is not None) == (name in names) for name, p in model.named_parameters())


def test_saved_module_goes_on_where_it_was(base: Path, tmp_path: Path) -> None:
    model = load_xalma(base)
    train_module_(model, 6, OPTIONS, seed=1)
    disturb_(model)
    expected = model(TOKENS, groups=[6, 6])
    config = TrainingConfig(objective="sft", start=str(base), train="module", group=6)
    subject = Subject(model, LlamaTokenizer.from_folder(base), "chat", base, base)
    folder = save(subject, config, tmp_path, "mine")
    loaded = load_xalma(folder)
    torch.testing.assert_close(loaded(TOKENS, groups=[6, 6]), expected)
    again = load_xalma(folder)
    train_module_(again, 6, LoraOptions(rank=99, dropout=0.0), seed=2)
    torch.testing.assert_close(again(TOKENS, groups=[6, 6]), expected)
    assert learning(again) == learning(model)


def test_published_module_learns_and_merged_weights_are_refused(
    combined: Path, base: Path, tmp_path: Path
) -> None:
    extract_module(combined, 6, tmp_path / "module", str(base), Saving())
    model = load_xalma(tmp_path / "module")
    before = model(TOKENS, groups=[6, 6])
    train_module_(model, 6, OPTIONS, seed=1)
    torch.testing.assert_close(model(TOKENS, groups=[6, 6]), before)
    with pytest.raises(InvalidOption, match="group 6 is merged into the weights"):
        train_module_(load_xalma(GOLDEN / "xalma_group6" / "merged", merged_group=6), 6, OPTIONS, 1)


@pytest.mark.parametrize("kind", ["nllb_dense", "nllb_moe_base", "llama"])
def test_lora_is_loaded_as_it_was_saved(kind: str, base: Path, tmp_path: Path) -> None:
    folder = base if kind == "llama" else GOLDEN / kind
    model: Llama | Nllb = load_xalma(base) if kind == "llama" else load_nllb(folder)
    plain = outputs(model)
    add_lora_(model, OPTIONS, seed=1)
    torch.testing.assert_close(outputs(model), plain, rtol=0, atol=0)
    assert all(".lora_" in name for name in learning(model))
    disturb_(model)
    expected = outputs(model)
    assert not torch.allclose(expected, plain)
    config = TrainingConfig(start=str(folder), train="lora")
    saved = save(Subject(model, None, "plain", folder, folder), config, tmp_path, "mine")  # type: ignore[arg-type]
    loaded = load_xalma(saved) if kind == "llama" else load_nllb(saved)
    torch.testing.assert_close(outputs(loaded), expected, rtol=1e-4, atol=1e-4)
    assert json.loads((saved / "adapter_config.json").read_text())["r"] == 3


def outputs(model: Any) -> Tensor:
    found: Tensor = model(TOKENS) if isinstance(model, Llama) else model(TOKENS, TOKENS)
    return found.detach()


def test_lora_for_what_a_model_lacks_is_refused(base: Path) -> None:
    with pytest.raises(InvalidOption, match=r"lora.targets has 'fc9'; the model has .*q_proj"):
        add_lora_(load_xalma(base), LoraOptions(targets=("q_proj", "fc9")), 1)


def test_checkpoint_of_a_frozen_model_holds_what_learns_alone(base: Path) -> None:
    model, other = load_xalma(base), load_xalma(base)
    for each in (model, other):
        train_module_(each, 6, OPTIONS, seed=1)
    disturb_(model)
    state = trained_state(model)
    assert set(state) == learning(model)
    load_trained_(other, state)
    torch.testing.assert_close(other(TOKENS, groups=[6, 6]), model(TOKENS, groups=[6, 6]))
    whole = load_xalma(base)
    with pytest.raises(InvalidOption, match="a run that trained other weights"):
        load_trained_(whole, state)


@pytest.mark.parametrize("kind", ["nllb", "llama"])
def test_recomputed_layers_give_the_same_gradients_with_the_same_chance(kind: str, base: Path) -> None:
    gradients = []
    for again in (False, True):
        model: Any = load_nllb(GOLDEN / "nllb_moe_base") if kind == "nllb" else load_xalma(base)
        if kind == "llama":
            train_module_(model, 6, LoraOptions(rank=3, dropout=0.3), seed=1)
            disturb_(model)
        if again:
            recompute_(model)
        model.train()
        torch.manual_seed(5)
        out = model(TOKENS, groups=[6, 6]) if kind == "llama" else model(TOKENS, TOKENS)
        out.square().mean().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)
