"""The golden X-ALMA, and prompts for it."""

from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from dragoman.checkpoints.llama import load_xalma
from dragoman.models.llama import Llama

COMBINED = Path(__file__).parents[1] / "data" / "golden" / "xalma"


@pytest.fixture
def model() -> Llama:
    return load_xalma(COMBINED)


@pytest.fixture(scope="module")
def untouched() -> Llama:
    return load_xalma(COMBINED)


@pytest.fixture(scope="module")
def prompts() -> tuple[Tensor, Tensor]:
    cases = load_file(COMBINED / "cases.safetensors")
    return cases["input_ids"], cases["attention_mask"].bool()
