"""Two and four processes run golden models together, and give what one process gives."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from dragoman.models.config import NllbConfig
from dragoman.parallel.shares import own_experts
from dragoman.models.shapes import nllb_shapes
from dragoman.translation.translator import Translator

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are made by forking")

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
COUNTS = (2, 4)
SPARSE = ("nllb_moe_base", "nllb_moe_capacity", "nllb_moe_drop")
Found = Callable[[int], list[dict[str, Any]]]
count_of_ranks = pytest.mark.parametrize("count", COUNTS)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory, combined: Path) -> Path:
    """Where the processes have written what they found."""
    folder = tmp_path_factory.mktemp("ranks")
    groups = [*map(str, COUNTS), "failing"]
    command = [sys.executable, str(Path(__file__).with_name("crew.py")), str(folder), str(combined), *groups]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def found(output: Path) -> Found:
    """By the number of ranks, what each of them found."""
    return lambda count: [json.loads((output / f"{count}-{rank}.json").read_text()) for rank in range(count)]


def padded(ranked: list[list[list[int]]], width: int, pad: int) -> list[list[int]]:
    return [[*tokens, *[pad] * (width - len(tokens))] for row in ranked for tokens in row]


@count_of_ranks
@pytest.mark.parametrize("name", SPARSE)
def test_ids_of_sparse_models_are_the_reference_s(name: str, count: int, found: Found) -> None:
    cases = load_file(GOLDEN / name / "cases.safetensors")
    translations = found(count)[0][name]["translations"]
    for search in ("greedy", "beam4", "beam5_early"):
        expected = cases[f"{search}_ids"][:, 1:]
        assert padded(translations[search], expected.shape[1], 1) == expected.tolist(), search


@count_of_ranks
def test_searches_that_look_at_all_scores_find_what_they_find_in_one_process(
    count: int, found: Found
) -> None:
    from dragoman.checkpoints.nllb import load_nllb
    from tests.parallel.crew import translations

    alone = translations(load_nllb(GOLDEN / "nllb_moe_base"), "nllb_moe_base")
    assert found(count)[0]["nllb_moe_base"]["translations"]["penalties"] == alone["penalties"]


@count_of_ranks
def test_ids_of_x_alma_are_the_reference_s(count: int, found: Found) -> None:
    cases = load_file(GOLDEN / "xalma" / "cases.safetensors")
    start = cases["input_ids"].shape[1]
    for language in ("zh", "de"):
        for search, ranked in found(count)[0]["xalma"]["answers"]["-".join([language] * 3)].items():
            expected = cases[f"{language}.{search}_ids"][:, start:]
            assert padded(ranked, expected.shape[1], 0) == expected.tolist(), (language, search)


@count_of_ranks
def test_rows_of_one_batch_may_be_in_different_languages(count: int, found: Found) -> None:
    everything = found(count)[0]["xalma"]["answers"]
    mixed = everything["ar-zh-de"]["beam5"]
    assert mixed[1:] == [everything["zh-zh-zh"]["beam5"][1], everything["de-de-de"]["beam5"][2]]


@count_of_ranks
@pytest.mark.parametrize("form", ["adapter", "merged"])
def test_a_base_with_an_adapter_and_merged_weights_say_what_the_combined_one_does(
    form: str, count: int, found: Found
) -> None:
    first = found(count)[0]
    assert first[form]["answers"]["zh-zh-zh"] == first["xalma"]["answers"]["zh-zh-zh"]


@count_of_ranks
@pytest.mark.parametrize("name", SPARSE)
def test_a_rank_has_its_share_of_the_experts_and_reads_nothing_else(
    name: str, count: int, found: Found
) -> None:
    shapes = nllb_shapes(NllbConfig.from_folder(GOLDEN / name))
    size = {name: 4 * int(np.prod(shape)) for name, shape in shapes.items()}
    experts = sum(bytes for name, bytes in size.items() if ".experts." in name)
    rest = sum(size.values()) - experts
    before = [0] * count
    for rank, facts in enumerate(found(count)):
        assert facts[name]["bytes"] == experts // count + rest
        for earlier in SPARSE[: SPARSE.index(name)]:
            before[rank] = facts[earlier]["read"]
        assert facts[name]["read"] - before[rank] == facts[name]["bytes"]


@count_of_ranks
def test_ranks_have_equal_parts_of_a_llama_s_matrices(count: int, found: Found) -> None:
    from safetensors import safe_open

    with safe_open(GOLDEN / "xalma_group6" / "merged" / "model.safetensors", "numpy") as file:
        sizes = {name: 4 * int(np.prod(file.get_slice(name).get_shape())) for name in file.keys()}
    vectors = sum(size for name, size in sizes.items() if "norm" in name)
    expected = (sum(sizes.values()) - vectors) // count + vectors
    assert [facts["merged"]["bytes"] for facts in found(count)] == [expected] * count


@count_of_ranks
def test_whole_texts_come_out_as_from_one_process(count: int, found: Found, translator: Translator) -> None:
    from tests.parallel.crew import TEXTS

    options = {"max_new_tokens": 24}
    alone = [translator.translate(TEXTS, "en", target, **options) for target in ("fr", "de")]  # type: ignore[arg-type]
    assert found(count)[0]["mini"] == alone
    assert not any(facts["mini"] for facts in found(count)[1:])


def test_language_modules_are_read_by_all_ranks_when_a_language_needs_them(
    combined: Path, found: Found
) -> None:
    from tests.parallel.crew import TEXTS

    with Translator.load(combined, device="cpu", precision="fp32") as alone:
        expected = [alone.translate(TEXTS, "en", target, max_new_tokens=24) for target in ("de", "zh")]
    assert found(2)[0]["combined"] == expected


def test_the_command_line_reads_and_prints_on_the_first_rank_alone(
    output: Path, found: Found, translator: Translator
) -> None:
    from tests.parallel.crew import TEXTS

    assert [facts["status"] for facts in found(2)] == [0, 0]
    printed = [(output / f"out-{rank}.txt").read_text(encoding="utf-8") for rank in range(2)]
    expected = translator.translate(TEXTS[:2], "en", "fr")
    assert printed == ["".join(f"{text}\n" for text in expected), ""]


def test_one_rank_s_error_ends_all_with_a_message(output: Path) -> None:
    errors = [json.loads((output / f"failing-{rank}.json").read_text())["errors"] for rank in range(2)]
    assert errors[1] == [
        "RankFailed: a rank has failed or is gone, so that none can go on (MemoryError: no room for rank 1). "
        "What it said itself tells more; start all ranks again"
    ]
    for error in errors[0]:
        assert error.startswith(
            "RankFailed: a rank has failed or is gone, so that none can go on (RuntimeError: "
        )
