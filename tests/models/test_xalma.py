"""X-ALMA against the outputs of its authors' implementation."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from dragoman.checkpoints.llama import load_xalma
from dragoman.errors import LanguageModuleError, UnknownLanguage
from dragoman.generation.options import GenerationOptions
from dragoman.generation.search import Hypothesis, complete
from dragoman.layers.lora import AdaptedProjections, Routes
from dragoman.models.llama import Llama
from dragoman.models.prompt import Prompt
from dragoman.models.xalma import GROUPS, group_of, language_groups
from dragoman.models.xalma_rows import row_groups

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
LANGUAGES = ("zh", "de", "uk", "ar")
SEARCHES: dict[str, dict[str, Any]] = {
    "greedy": {"beams": 1},
    "beam5": {"beams": 5},
    "beam4_lp06_nret2": {"beams": 4, "length_penalty": 0.6, "n_best": 2},
}
# The same group 6 in all forms it is published in.
FORMS: dict[str, dict[str, Any]] = {
    "combined": {"folder": GOLDEN / "xalma"},
    "combined, one group read": {"folder": GOLDEN / "xalma", "groups": [6]},
    "base and adapter": {
        "folder": GOLDEN / "xalma_group6" / "base",
        "adapter": GOLDEN / "xalma_group6" / "adapter",
        "groups": [6],
    },
    "adapter that names its base": {"folder": GOLDEN / "xalma_group6" / "adapter", "groups": [6]},
    "merged": {"folder": GOLDEN / "xalma_group6" / "merged", "merged_group": 6},
    "merged, group unknown": {"folder": GOLDEN / "xalma_group6" / "merged"},
    "adapter, group unknown": {"folder": GOLDEN / "xalma_group6" / "adapter"},
}


@pytest.fixture(scope="module")
def model() -> Llama:
    return load_xalma(GOLDEN / "xalma")


@pytest.fixture(scope="module")
def cases() -> dict[str, Tensor]:
    return load_file(GOLDEN / "xalma" / "cases.safetensors")


@pytest.fixture(scope="module")
def prompts(cases: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    return cases["input_ids"], cases["attention_mask"].bool()


def arrays(tensors: Iterable[Tensor]) -> list[np.ndarray]:
    return [tensor.numpy() for tensor in tensors]


def ids_and_scores(results: list[list[Hypothesis]]) -> tuple[list[list[int]], list[float]]:
    flat = [hypothesis for ranked in results for hypothesis in ranked]
    return [list(hypothesis.tokens) for hypothesis in flat], [hypothesis.score for hypothesis in flat]


def golden_ids(cases: dict[str, Tensor], name: str) -> list[list[int]]:
    """Without the prompt, and without the padding behind </s>."""
    rows = cases[f"{name}_ids"][:, cases["input_ids"].shape[1] :].tolist()
    return [row[: row.index(2) + 1] if 2 in row else row for row in rows]


@pytest.mark.parametrize("grad", [True, False], ids=["plain", "stacked"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_logits_hidden_states_and_losses_are_golden(
    model: Llama, cases: dict[str, Tensor], prompts: tuple[Tensor, Tensor], language: str, grad: bool
) -> None:
    ids, keep = prompts
    with torch.set_grad_enabled(grad):
        hidden = model.model(ids, keep, row_groups(language, len(ids)))
        logits = model.lm_head(hidden)
    golden = {name: cases[f"{language}.{name}"] for name in ("logits", "last_hidden_state", "loss")}
    torch.testing.assert_close(hidden[keep], golden["last_hidden_state"][keep], atol=1e-4, rtol=0)
    torch.testing.assert_close(logits[keep], golden["logits"][keep], atol=1e-4, rtol=0)
    # The reference's loss takes in what the last padding token predicts.
    labels = ids.masked_fill(~keep, -100)
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    torch.testing.assert_close(loss[None], golden["loss"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_generation_is_golden(
    model: Llama, cases: dict[str, Tensor], prompts: tuple[Tensor, Tensor], language: str, search: str
) -> None:
    options = GenerationOptions(max_new_tokens=14, **SEARCHES[search])
    found, scores = ids_and_scores(
        complete(model, *arrays(prompts), options, row_groups(language, 3).tolist())
    )
    assert found == golden_ids(cases, f"{language}.{search}")
    if search != "greedy":
        assert scores == pytest.approx(cases[f"{language}.{search}_scores"].tolist(), abs=1e-3)


@pytest.mark.parametrize("form", FORMS)
def test_every_published_form_of_a_group_gives_the_same(
    cases: dict[str, Tensor], prompts: tuple[Tensor, Tensor], form: str
) -> None:
    model = load_xalma(**FORMS[form])
    with torch.inference_mode():
        logits = model(*prompts, row_groups("zh", 3))
    keep = prompts[1]
    torch.testing.assert_close(logits[keep], cases["zh.logits"][keep], atol=1e-4, rtol=0)
    for search, options in SEARCHES.items():
        results = complete(
            model, *arrays(prompts), GenerationOptions(max_new_tokens=14, **options), [group_of("zh")] * 3
        )
        assert ids_and_scores(results)[0] == golden_ids(cases, f"zh.{search}")


# Languages side by side


def many(rows: int = 13) -> tuple[Tensor, Tensor, list[int]]:
    """Left-padded prompts of all groups, and of none, in no order."""
    generator = torch.Generator().manual_seed(7)
    ids = torch.zeros(rows, 9, dtype=torch.long)
    for row in range(rows):
        length = 3 + row * 5 % 7
        ids[row, -length:] = torch.randint(3, 112, (length,), generator=generator)
    return ids, ids != 0, [(row * 5) % 9 for row in range(rows)]


@pytest.mark.parametrize("grad", [True, False], ids=["plain", "stacked"])
def test_logits_of_mixed_rows_are_those_of_separate_batches(model: Llama, grad: bool) -> None:
    ids, keep, groups = many()
    with torch.set_grad_enabled(grad):
        mixed = model(ids, keep, groups)
        for group in set(groups):
            rows = [row for row, its in enumerate(groups) if its == group]
            alone = model(ids[rows], keep[rows], [group] * len(rows))
            real = keep[rows]
            torch.testing.assert_close(mixed[rows][real], alone[real], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [*SEARCHES.values(), {"beams": 1, "sample": True, "n_best": 2}, {"beams": 3, "early_stopping": True}],
    ids=str,
)
def test_generation_of_mixed_rows_is_that_of_separate_batches(model: Llama, options: dict[str, Any]) -> None:
    *padded, groups = many()
    ids, keep = arrays(padded)
    settings = GenerationOptions(max_new_tokens=10, **options)
    mixed = complete(model, ids, keep, settings, groups)
    for group in set(groups):
        rows = [row for row, its in enumerate(groups) if its == group]
        found = complete(model, ids[rows], keep[rows], settings, [group] * len(rows))
        expected = [mixed[row] for row in rows]
        assert ids_and_scores(found)[0] == ids_and_scores(expected)[0]
        assert ids_and_scores(found)[1] == pytest.approx(ids_and_scores(expected)[1], abs=1e-4)


def test_languages_differ(model: Llama, prompts: tuple[Tensor, Tensor]) -> None:
    ids, keep = prompts
    with torch.inference_mode():
        outputs = [model(ids, keep, [group] * 3)[keep] for group in range(9)]
    for first in range(9):
        for second in range(first):
            assert not torch.allclose(outputs[first], outputs[second], atol=1e-2)


def test_rows_of_a_state_lie_sorted_so_that_decoding_gathers_nothing(
    model: Llama, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Routes] = []
    project = AdaptedProjections.project

    def watched(self: Any, names: Any, x: Tensor, routes: Routes) -> Any:
        seen.append(routes)
        return project(self, names, x, routes)

    monkeypatch.setattr(AdaptedProjections, "project", watched)
    *padded, groups = many()
    complete(model, *arrays(padded), GenerationOptions(beams=3, max_new_tokens=6), groups)
    assert seen
    assert all(routes.first is not None for routes in seen)


# Training


def test_gradients_reach_the_modules_of_the_rows_and_no_others() -> None:
    model = load_xalma(GOLDEN / "xalma").train()
    ids, keep, _ = many(4)
    model(ids, keep, [6, 1, 6, 0])[keep].pow(2).mean().backward()
    for name, parameter in model.named_parameters():
        if "_lora_" in name:
            has = parameter.grad is not None and bool(parameter.grad.any())
            assert has == (name.split(".")[-2] in ("6", "1")), name


def test_gradient_checkpointing_passes_the_languages_on() -> None:
    model = load_xalma(GOLDEN / "xalma", groups=[1, 6]).train()
    ids, keep, _ = many(4)
    gradients = []
    for turned_on in (False, True):
        model.zero_grad()
        model.model.gradient_checkpointing = turned_on
        model.model._gradient_checkpointing_func = lambda f, *args: checkpoint(f, *args, use_reentrant=False)
        model(ids, keep, [6, 1, 6, 0])[keep].pow(2).mean().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for mine, its in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, its)


# Names of languages


def test_49_languages_have_the_published_groups() -> None:
    published = (
        "da nl de is no sv af|ca ro gl it pt es|bg mk sr uk ru|id ms th vi mg fr|"
        "hu el cs pl lt lv|ka zh ja ko fi et|gu hi mr ne ur|az kk ky tr uz ar he fa"
    )
    expected = {code: group for group, codes in enumerate(published.split("|"), 1) for code in codes.split()}
    assert dict(language_groups()) == expected
    assert {code: group_of(code) for code in expected} == expected
    assert set(expected.values()) == set(GROUPS)


@pytest.mark.parametrize("spelling", ["zh", "zho_Hans", "Chinese", "ZH-cn", "中文"])
def test_any_spelling_of_a_language_will_do(spelling: str) -> None:
    assert group_of(spelling) == 6


@pytest.mark.parametrize("nothing", [None, "", "  "])
def test_a_missing_language_is_an_error_with_the_choices(nothing: str | None) -> None:
    with pytest.raises(UnknownLanguage, match=r"af, da, de, .*tr, uz"):
        group_of(nothing)


@pytest.mark.parametrize(
    ("language", "message"),
    [("en", "English, which is on one side"), ("sw", "Swahili"), ("klingon", "no language I know")],
)
def test_a_language_without_a_module_is_an_error_with_the_choices(language: str, message: str) -> None:
    with pytest.raises(UnknownLanguage, match=rf"{message}.*af, da, de, .*tr, uz"):
        group_of(language)


def test_language_is_one_for_all_rows_or_one_for_each() -> None:
    assert row_groups("de", 3).tolist() == [1, 1, 1]
    assert row_groups(["de", "zh", "uk"], 3).tolist() == [1, 6, 3]
    with pytest.raises(UnknownLanguage, match="2 languages for 3 rows"):
        row_groups(["de", "zh"], 3)


def test_a_group_that_was_not_loaded_is_an_error() -> None:
    model = load_xalma(GOLDEN / "xalma", groups=[1, 6])
    ids, keep, _ = many(2)
    with pytest.raises(LanguageModuleError, match=r"group 3.*attached: 1, 6"):
        model(ids, keep, [6, 3])
    with pytest.raises(LanguageModuleError, match="group 3"):
        model.begin(Prompt(keep=keep.numpy(), groups=[6, 3]))
