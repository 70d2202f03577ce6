"""The settings files describe runs that can start."""

from pathlib import Path

import pytest

from dragoman.languages import find
from dragoman.models.nllb import Nllb, initialize_
from dragoman.training.config import TrainingConfig
from dragoman.training.data import MADE_UP

RECIPE = Path(__file__).parents[2] / "recipes" / "mini"


@pytest.mark.parametrize("path", [RECIPE / "cpu.toml", RECIPE / "gpu.toml"], ids=lambda path: path.stem)
def test_settings_make_a_sparse_model_that_fits_the_package(path):
    config = TrainingConfig.from_toml(path)
    assert {find(short).nllb for short in config.languages} == set(config.languages.values())
    for part in config.parts:
        # Only what is openly licensed.
        open_alone = part.origins or not part.files.startswith("train/")
        assert open_alone or {"multi30k", "wmt-news"} <= set(part.excluded)
        assert part.files or part.name in MADE_UP
    model = Nllb(config.model_config(config.vocabulary + 206))
    initialize_(model, config.seed)
    assert model.config.is_sparse
    assert model.config.num_experts >= 8
    # In 8 bits.
    assert sum(p.numel() for p in model.parameters()) < 80e6
