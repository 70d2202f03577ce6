"""The router and the sparse block on their own, against transformers 4.57.6."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from dragoman.errors import ConfigError
from dragoman.huggingface import NllbMoeConfig, NllbMoeSparseMLP, NllbMoeTop2Router

POLICIES = (
    "all",
    "fraction",
    "prioritized",
    "normalized",
    "random",
    "sampling",
    "routed_padding",
    "negative_fraction",
    "training",
    "training_prioritized",
)


@pytest.fixture(scope="module")
def cases(golden: Path) -> dict[str, Tensor]:
    return load_file(golden / "nllb_moe_router" / "cases.safetensors")


@pytest.fixture(scope="module")
def configs(golden: Path) -> dict[str, NllbMoeConfig]:
    with safe_open(golden / "nllb_moe_router" / "cases.safetensors", "pt") as file:
        stored = json.loads(file.metadata()["configs"])
    return {name: NllbMoeConfig(**fields) for name, fields in stored.items()}


@pytest.fixture(scope="module")
def block(cases: dict[str, Tensor], configs: dict[str, NllbMoeConfig]) -> NllbMoeSparseMLP:
    block = NllbMoeSparseMLP(configs["block"], ffn_dim=8)
    names = block.state_dict()
    block.load_state_dict({name: cases[f"block.{name}"] for name in names})
    return block.eval()


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("name", POLICIES)
def test_tokens_are_routed_as_in_the_reference(
    cases: dict[str, Tensor],
    configs: dict[str, NllbMoeConfig],
    name: str,
    padded: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = configs[name]
    router = NllbMoeTop2Router(config).train(name.startswith("training"))
    if name.startswith(("training", "negative")):
        # The reference goes by a fixed capacity there; all else about these cases must agree.
        monkeypatch.setattr(router, "capacity", lambda tokens: config.expert_capacity)
    logits = cases["logits"].clone()
    torch.manual_seed(1)
    first, weights = router.route_tokens(
        logits, padding_mask=cases["padding"].reshape(-1) if padded else None
    )
    key = f"{name}_padded" if padded else name
    assert torch.equal(first, cases[f"{key}.first"])
    torch.testing.assert_close(weights, cases[f"{key}.weights"])
    if name == "sampling":
        torch.testing.assert_close(logits, cases[f"{key}.noisy_logits"], atol=1e-3, rtol=0)
    else:
        assert torch.equal(logits, cases["logits"])


def test_block_computes_what_the_reference_does(block: NllbMoeSparseMLP, cases: dict[str, Tensor]) -> None:
    padding = cases["padding"]
    additive = torch.zeros(4, 1, 6, 6).masked_fill(padding[:, None, None], torch.finfo(torch.float32).min)
    for mask, key in [
        (None, "block"),
        (False, "block"),
        (additive, "block_additive"),
        (padding, "block_additive"),
    ]:
        hidden, (weights, first) = block(cases["hidden"], mask)
        torch.testing.assert_close(hidden, cases[f"{key}.hidden"])
        torch.testing.assert_close(weights, cases[f"{key}.weights"])
        assert torch.equal(first, cases[f"{key}.first"])


def test_router_is_stateless_across_training_and_evaluation(configs: dict[str, NllbMoeConfig]) -> None:
    router = NllbMoeTop2Router(configs["fraction"])
    hidden = torch.randn(4, 6, 16)
    before = router.train()(hidden)
    router.eval()(hidden)
    assert torch.equal(router.train()(hidden)[1], before[1])


def test_cached_keys_are_not_taken_for_tokens(block: NllbMoeSparseMLP, cases: dict[str, Tensor]) -> None:
    """One new token a row: only the last key of its row says whether it is padding."""
    step = cases["hidden"][:, :1]
    additive = torch.zeros(4, 1, 1, 5)
    additive[1, ..., -1] = additive[3, ..., :3] = torch.finfo(torch.float32).min
    hidden, _ = block(step, additive)
    assert (hidden != 0).any(-1).squeeze(1).tolist() == [True, False, True, True]


def test_router_takes_states_of_two_or_three_dimensions(
    block: NllbMoeSparseMLP, cases: dict[str, Tensor]
) -> None:
    hidden = cases["hidden"]
    for found, flat in zip(block.router(hidden), block.router(hidden.reshape(-1, 16)), strict=True):
        assert found.shape == (24, 4)
        assert torch.equal(found, flat)


def test_routing_has_the_logits(block: NllbMoeSparseMLP, cases: dict[str, Tensor]) -> None:
    logits = block.router.routing(cases["hidden"], cases["padding"]).logits
    torch.testing.assert_close(logits, block.router.classifier(cases["hidden"].reshape(-1, 16)))


def test_parameters_have_the_published_names(configs: dict[str, NllbMoeConfig]) -> None:
    names = set(dict(NllbMoeSparseMLP(configs["all"], 8).named_parameters()))
    experts = {
        f"experts.expert_{number}.{layer}.{kind}"
        for number in range(4)
        for layer in ("fc1", "fc2")
        for kind in ("weight", "bias")
    }
    assert names == {"router.classifier.weight", *experts}


def test_weights_keep_the_dtype_of_the_states_and_are_chosen_in_float32(
    configs: dict[str, NllbMoeConfig], cases: dict[str, Tensor]
) -> None:
    router = NllbMoeTop2Router(configs["all"]).to(torch.bfloat16).eval()
    _, weights = router(cases["hidden"].bfloat16())
    assert weights.dtype == torch.bfloat16
    assert router.routing(cases["hidden"].bfloat16()).logits.dtype == torch.float32


@pytest.mark.parametrize("mask", [True, torch.zeros(3, 6), torch.zeros(25)])
def test_mask_that_fits_no_tokens_is_an_error(block: NllbMoeSparseMLP, mask: Tensor | bool) -> None:
    with pytest.raises(ValueError, match="padding_mask"):
        block(torch.zeros(4, 6, 16), mask)


def test_config_has_the_published_fields_and_ours() -> None:
    config = NllbMoeConfig(hidden_size=48, num_hidden_layers=3, num_experts=5, made_up=7)
    assert (config.model_type, config.d_model, config.encoder_layers) == ("nllb-moe", 48, 3)
    assert (config.made_up, config.expert_capacity, config.router_aux_loss_coef) == (7, 64, 0.001)
    assert NllbMoeConfig().moe_final_output_dropout == 0
    copy = NllbMoeConfig.from_dict(NllbMoeConfig(moe_final_output_dropout=0.25).to_dict())
    assert copy.moe_final_output_dropout == 0.25


def test_config_of_no_model_is_an_error() -> None:
    with pytest.raises(ConfigError, match="activation_function"):
        NllbMoeTop2Router(NllbMoeConfig(activation_function="tanhshrink"))
