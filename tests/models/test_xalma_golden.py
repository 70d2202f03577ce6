"""The plain X-ALMA equals the authors' implementation on the golden cases."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from dragoman.checkpoints.llama import load_xalma
from dragoman.generation.options import GenerationOptions
from dragoman.generation.search import complete
from dragoman.models.llama import Llama
from dragoman.models.xalma_rows import row_groups

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
LANGUAGES = ("zh", "de", "uk", "ar")
SEARCHES = {
    "greedy": GenerationOptions(beams=1, max_new_tokens=14),
    "beam5": GenerationOptions(beams=5, max_new_tokens=14),
    "beam4_lp06_nret2": GenerationOptions(beams=4, length_penalty=0.6, n_best=2, max_new_tokens=14),
}


@pytest.fixture(scope="module")
def cases() -> dict[str, Tensor]:
    return load_file(GOLDEN / "xalma" / "cases.safetensors")


@pytest.fixture(scope="module")
def model() -> Llama:
    return load_xalma(GOLDEN / "xalma")


def difference(model: Llama, cases: dict[str, Tensor], language: str) -> float:
    keep = cases["attention_mask"].bool()
    with torch.inference_mode():
        logits = model(cases["input_ids"], keep, row_groups(language, len(keep)))
    return float(((logits - cases[f"{language}.logits"]) * keep[..., None]).abs().max())


@pytest.mark.parametrize("language", LANGUAGES)
def test_logits_states_and_losses_are_the_reference_s(
    model: Llama, cases: dict[str, Tensor], language: str
) -> None:
    keep = cases["attention_mask"].bool()
    groups = row_groups(language, len(keep))
    with torch.inference_mode():
        states = model.model(cases["input_ids"], keep, groups)
        logits = model.lm_head(states)
    assert difference(model, cases, language) < 1e-4
    apart = (states - cases[f"{language}.last_hidden_state"]) * keep[..., None]
    assert float(apart.abs().max()) < 1e-4
    labels = cases["input_ids"].masked_fill(~keep, -100)[:, 1:]
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels.flatten())
    assert abs(float(loss) - float(cases[f"{language}.loss"])) < 1e-5


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_generated_ids_and_scores_are_the_reference_s(
    model: Llama, cases: dict[str, Tensor], language: str, search: str
) -> None:
    keep = cases["attention_mask"].bool()
    groups = row_groups(language, len(keep)).tolist()
    ranked = complete(model, cases["input_ids"].numpy(), keep.numpy(), SEARCHES[search], groups)
    found = [hypothesis for row in ranked for hypothesis in row]
    expected = cases[f"{language}.{search}_ids"][:, keep.shape[1] :]
    width = expected.shape[1]
    assert [[*h.tokens, *[0] * (width - len(h.tokens))] for h in found] == expected.tolist()
    if search != "greedy":
        scores = cases[f"{language}.{search}_scores"].tolist()
        assert [h.score for h in found] == pytest.approx(scores, abs=1e-3)


def test_rows_of_one_batch_may_be_in_different_languages(model: Llama, cases: dict[str, Tensor]) -> None:
    keep, wanted = cases["attention_mask"].bool(), ["ar", "zh", "de"]
    with torch.inference_mode():
        mixed = model(cases["input_ids"], keep, row_groups(wanted, 3))
    for row, language in enumerate(wanted):
        apart = (mixed[row] - cases[f"{language}.logits"][row]) * keep[row][:, None]
        assert float(apart.abs().max()) < 1e-4


def test_base_with_adapter_and_merged_weights_equal_the_combined_checkpoint(cases: dict[str, Tensor]) -> None:
    folder = GOLDEN / "xalma_group6"
    attached = load_xalma(folder / "base", adapter=folder / "adapter", groups=[6])
    merged = load_xalma(folder / "merged", merged_group=6)
    assert difference(attached, cases, "zh") < 1e-4
    assert difference(merged, cases, "zh") < 1e-4
