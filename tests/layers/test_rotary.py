import math
from typing import Any

import pytest
import torch
from torch import Tensor

from dragoman.errors import ConfigError
from dragoman.layers.options import KINDS, RotaryOptions
from dragoman.layers.rotary import Rotary, rotate

# Settings of `rope_scaling` as published configs have them, in both spellings of the kind.
SCALINGS: dict[str, dict[str, Any] | None] = {
    "default": None,
    "linear": {"type": "linear", "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
    "yarn, own attention factor": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 16,
        "attention_factor": 0.5,
        "beta_fast": 16.0,
        "beta_slow": 2.0,
    },
    "yarn, mscales, not truncated": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 16,
        "mscale": 1.0,
        "mscale_all_dim": 0.5,
        "truncate": False,
    },
}


def of_config(scaling: dict[str, Any] | None, theta: float = 10000.0) -> Rotary:
    data = {"rope_theta": theta, "rope_scaling": scaling, "max_position_embeddings": 64}
    return Rotary(32, RotaryOptions.from_config(data), 64)


def whole(rotation: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """transformers keeps each angle twice, and no dimension for heads."""
    cos, sin = (torch.cat([part, part], -1)[:, 0] for part in rotation)
    return cos, sin


def test_every_kind_is_tried() -> None:
    assert {name.split(",")[0] for name in SCALINGS} == set(KINDS)


@pytest.mark.parametrize("length", [20, 150])
@pytest.mark.parametrize("theta", [10000.0, 500000.0])
@pytest.mark.parametrize("name", SCALINGS)
@pytest.mark.filterwarnings("ignore")
def test_angles_are_those_of_transformers(name: str, theta: float, length: int) -> None:
    modeling = pytest.importorskip("transformers.models.llama.modeling_llama")
    transformers = pytest.importorskip("transformers")
    scaling = SCALINGS[name]
    config = transformers.LlamaConfig(
        hidden_size=64,
        num_attention_heads=2,
        max_position_embeddings=64,
        rope_parameters={"rope_theta": theta, "rope_type": "default", **({} if scaling is None else scaling)}
        | ({"rope_type": scaling["type"]} if scaling and "type" in scaling else {}),
    )
    positions = torch.arange(length)[None]
    cos, sin = modeling.LlamaRotaryEmbedding(config)(torch.zeros(1), positions)
    mine = whole(of_config(scaling, theta)(positions, torch.float32))
    torch.testing.assert_close(mine[0], cos, atol=2e-5, rtol=0)
    torch.testing.assert_close(mine[1], sin, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", SCALINGS)
def test_both_ways_to_write_a_config_are_read_alike_and_come_back(name: str) -> None:
    scaling = SCALINGS[name]
    old = {"rope_theta": 5000.0, "rope_scaling": scaling, "max_position_embeddings": 64}
    new = {"rope_parameters": {"rope_theta": 5000.0, **(scaling or {})}, "max_position_embeddings": 64}
    options = RotaryOptions.from_config(old)
    assert RotaryOptions.from_config(new) == options
    assert RotaryOptions.from_config(options.to_config()) == options


def test_a_missing_yarn_factor_follows_from_the_lengths() -> None:
    scaling = {"rope_type": "yarn", "factor": None, "original_max_position_embeddings": 16}
    assert of_config(scaling).options.factor == 4.0


def test_rotation_is_that_of_complex_numbers() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 32)
    rotary = of_config(None)
    positions = torch.arange(5)[None]
    angles = positions[0, :, None] * 10000.0 ** (-torch.arange(16) / 16)
    turned = torch.complex(x[..., :16], x[..., 16:]) * torch.polar(torch.ones_like(angles), angles)
    expected = torch.cat([turned.real, turned.imag], -1)
    torch.testing.assert_close(rotate(x, rotary(positions, torch.float32)), expected, atol=1e-5, rtol=0)


def test_only_distances_matter_to_scores() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(1, 1, 1, 32), torch.randn(1, 1, 1, 32)
    rotary = of_config(None)

    def score(query_at: int, key_at: int) -> Tensor:
        at = [rotary(torch.tensor([[place]]), torch.float32) for place in (query_at, key_at)]
        return (rotate(q, at[0]) * rotate(k, at[1])).sum()

    torch.testing.assert_close(score(9, 4), score(45, 40), atol=1e-4, rtol=0)
    assert abs(score(9, 4) - score(9, 5)) > 1e-3


def test_dynamic_stretching_of_a_row_ignores_its_neighbours() -> None:
    rotary = of_config(SCALINGS["dynamic"])
    short, long = torch.arange(40), torch.arange(100, 140)
    together = rotary(torch.stack([short, long]), torch.float32)
    for row, positions in enumerate((short, long)):
        alone = rotary(positions[None], torch.float32)
        assert torch.equal(together[0][row], alone[0][0])
        assert torch.equal(together[1][row], alone[1][0])
    assert torch.equal(together[0][0], of_config(None)(short[None], torch.float32)[0][0])


def test_angles_are_taken_in_float32_and_rounded_last() -> None:
    positions = torch.tensor([[3000, 3001]])
    cos, sin = of_config(None)(positions, torch.bfloat16)
    assert cos.dtype == sin.dtype == torch.bfloat16
    assert torch.equal(cos, of_config(None)(positions, torch.float32)[0].bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(cos, of_config(None)(positions, torch.bfloat16)[0])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"rope_scaling": {"rope_type": "longrope", "factor": 2}}, "'longrope'.*'default', 'linear'"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, "factor is 0"),
        ({"rope_theta": math.inf}, "rope_theta is inf"),
        ({"rope_scaling": "linear"}, "must be an object"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "whole heads only"),
    ],
)
def test_what_is_not_known_is_an_error(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RotaryOptions.from_config(config)


def test_odd_heads_are_an_error() -> None:
    with pytest.raises(ConfigError, match="even"):
        Rotary(7, RotaryOptions(), 64)
