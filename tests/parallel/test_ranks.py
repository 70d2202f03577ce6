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

from dragoman.checkpoints.llama import load_xalma
from dragoman.checkpoints.module_layout import base_shapes
from dragoman.checkpoints.nllb import load_nllb
from dragoman.checkpoints.packed_folders import open_packed
from dragoman.kernels.library import kernels
from dragoman.models.config import NllbConfig
from dragoman.models.llama_config import LlamaConfig
from dragoman.models.shapes import nllb_shapes
from dragoman.translation.translator import Translator
from tests.checkpoints.packing_kit import converted
from tests.parallel import crew

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are made by forking")

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
COUNTS = (2, 4)
Found = Callable[[int], list[dict[str, Any]]]
count_of_ranks = pytest.mark.parametrize("count", COUNTS)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory, combined: Path) -> Path:
    """Where the processes have written what they found."""
    folder = tmp_path_factory.mktemp("ranks")
    if kernels() is not None:
        converted("nllb_moe_base", folder, "fp32")
    groups = [*map(str, COUNTS), "failing"]
    command = [sys.executable, str(Path(__file__).with_name("crew.py")), str(folder), str(combined), *groups]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def found(output: Path) -> Found:
    """By the number of ranks, what each of them found."""
    return lambda count: [json.loads((output / f"{count}-{rank}.json").read_text()) for rank in range(count)]


def padded(ranked: list[list[list[int]]], width: int, pad: int) -> list[list[int]]:
    return [[*tokens, *[pad] * (width - len(tokens))] for row in ranked for tokens in row]


@count_of_ranks
@pytest.mark.parametrize("search", ["greedy", "beam4"])
def test_ids_of_nllb_moe_are_the_reference_s(search: str, count: int, found: Found) -> None:
    expected = load_file(GOLDEN / "nllb_moe_base" / "cases.safetensors")[f"{search}_ids"][:, 1:]
    ranked = found(count)[0]["nllb_moe_base"]["translations"][search]
    assert padded(ranked, expected.shape[1], 1) == expected.tolist()


@pytest.mark.parametrize(("count", "beams"), [(2, 1), (2, 5), (4, 5)])
def test_ids_of_x_alma_are_the_reference_s_with_a_language_for_each_row(
    beams: int, count: int, found: Found
) -> None:
    cases = load_file(GOLDEN / "xalma" / "cases.safetensors")
    start = cases["input_ids"].shape[1]
    for row, language in enumerate(crew.LANGUAGES):
        expected = cases[f"{language}.{'beam5' if beams == 5 else 'greedy'}_ids"][row, start:]
        ranked = found(count)[0]["xalma"]["answers"][str(beams)][row]
        assert padded([ranked], len(expected), 0) == [expected.tolist()]


@pytest.mark.parametrize("name", ["nllb_moe_base", "nllb_moe_capacity", "nllb_moe_drop"])
def test_penalties_and_a_capacity_that_drops_tokens_do_what_they_do_in_one_process(
    name: str, found: Found
) -> None:
    alone = crew.translations(load_nllb(GOLDEN / name), name)
    assert found(2)[0][name]["translations"] == alone


def test_a_base_with_an_adapter_and_merged_weights_say_what_they_say_in_one_process(found: Found) -> None:
    alone = crew.answers(load_xalma(GOLDEN / "xalma_group6" / "merged", merged_group=6), ["zh"] * 3)
    first = found(2)[0]
    assert first["adapter"]["answers"]["5"] == first["merged"]["answers"]["5"] == alone


@count_of_ranks
def test_a_rank_has_its_share_of_the_experts_and_reads_nothing_else(count: int, found: Found) -> None:
    shapes = nllb_shapes(NllbConfig.from_folder(GOLDEN / "nllb_moe_base"))
    size = {name: 4 * int(np.prod(shape)) for name, shape in shapes.items()}
    experts = sum(nbytes for name, nbytes in size.items() if ".experts." in name)
    share = experts // count + sum(size.values()) - experts
    for facts in found(count):
        assert facts["nllb_moe_base"]["held"] == facts["nllb_moe_base"]["read"] == share


def test_a_rank_has_its_part_of_each_matrix_and_reads_nothing_else(found: Found) -> None:
    shapes = base_shapes(LlamaConfig.from_folder(GOLDEN / "xalma"))
    matrices, vectors = (
        sum(4 * int(np.prod(shape)) for shape in shapes.values() if len(shape) == dimensions)
        for dimensions in (2, 1)
    )
    for facts in found(2):
        assert facts["merged"]["held"] == facts["merged"]["read"] == matrices // 2 + vectors


@pytest.mark.skipif(kernels() is None, reason="there are no native kernels here")
def test_a_packed_model_is_shared_by_its_parts(output: Path, found: Found) -> None:
    packed = open_packed(output / "packed")
    padding = 4 * 56 * 64 * 4  # of routers, whose 8 rows are 64 in the files
    for facts in found(2):
        assert facts["packed"]["held"] <= packed.bytes() - packed.expert_bytes() // 2
        assert facts["packed"]["held"] > packed.bytes() - packed.expert_bytes() // 2 - padding - 1000
    expected = load_file(GOLDEN / "nllb_moe_base" / "cases.safetensors")["beam4_ids"][:, 1:]
    assert padded(found(2)[0]["packed"]["translations"]["beam4"], expected.shape[1], 1) == expected.tolist()


def test_texts_come_out_as_from_one_process(found: Found, translator: Translator) -> None:
    alone = [each.text for each in translator.stream(crew.TEXTS, "en", "de", max_new_tokens=12)]
    assert [facts["mini"] for facts in found(2)] == [alone, []]


def test_all_ranks_read_a_language_module_when_it_is_needed(combined: Path, found: Found) -> None:
    with Translator.load(combined, device="cpu", precision="fp32") as one:
        alone = [each.text for each in one.stream(crew.TEXTS, "en", "de", max_new_tokens=12)]
    assert found(2)[0]["combined"] == alone


def test_the_command_reads_and_prints_on_the_first_rank_alone(
    output: Path, found: Found, translator: Translator
) -> None:
    assert [facts["status"] for facts in found(2)] == [0, 0]
    printed = [(output / f"out-{rank}.txt").read_text(encoding="utf-8") for rank in range(2)]
    expected = translator.translate(crew.TEXTS[:2], "en", "fr")
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
