import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from dragoman.errors import ConfigError
from dragoman.models.config import DENSE, MOE, NllbConfig, is_sparse_layer

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


def test_golden_config_is_read_field_by_field() -> None:
    config = NllbConfig.from_folder(GOLDEN / "nllb_moe_capacity")
    stored = json.loads((GOLDEN / "nllb_moe_capacity" / "config.json").read_text())
    names = {field.name for field in fields(config)} & stored.keys()
    assert len(names) > 25
    assert {name: getattr(config, name) for name in names} == {name: stored[name] for name in names}


def test_routing_options_are_those_of_the_config() -> None:
    options = NllbConfig.from_folder(GOLDEN / "nllb_moe_capacity").moe_options()
    assert options.num_experts == 8
    assert options.batch_prioritized
    assert options.normalize_before_dropping
    assert options.router_bias
    assert options.eval_capacity_fraction == 0.25
    assert options.expert_output_masking == 0.2
    assert options.router_dtype == "float32"
    final = NllbConfig(moe_final_output_dropout=0.1, second_expert_policy="random", router_dtype="bfloat16")
    assert final.moe_options().final_output_masking == 0.1
    assert final.moe_options().second_expert_policy == "random"
    assert final.moe_options().router_dtype == "bfloat16"


@pytest.mark.parametrize("ignores", [False, True])
def test_padding_is_routed_only_if_the_router_ignores_what_is_padding(ignores: bool) -> None:
    assert NllbConfig(router_ignore_padding_tokens=ignores).moe_options().route_padding is ignores


def test_dense_model_has_no_sparse_layers_whatever_its_steps_say() -> None:
    config = NllbConfig(model_type=DENSE, encoder_sparse_step=2, decoder_sparse_step=2)
    assert (config.encoder_sparse_step, config.decoder_sparse_step) == (0, 0)
    assert not config.is_sparse
    assert NllbConfig(encoder_sparse_step=0).is_sparse


@pytest.mark.parametrize(
    ("step", "sparse"), [(0, []), (1, [0, 1, 2, 3, 4, 5]), (2, [1, 3, 5]), (4, [3]), (9, [])]
)
def test_every_nth_layer_is_sparse(step: int, sparse: list[int]) -> None:
    assert [layer for layer in range(6) if is_sparse_layer(layer, step)] == sparse


def test_what_is_not_ours_is_ignored_and_null_is_the_default() -> None:
    data = {"model_type": MOE, "transformers_version": "4.57.6", "max_length": 200, "d_model": None}
    assert NllbConfig.from_dict(data) == NllbConfig()


def test_config_survives_being_written_and_read(tmp_path: Path) -> None:
    for config in (
        NllbConfig(d_model=64, num_experts=4, decoder_experts=3),
        NllbConfig(model_type=DENSE, pad_token_id=0),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
        assert NllbConfig.from_folder(tmp_path) == config


@pytest.mark.parametrize(
    ("model_type", "name"),
    [(DENSE, "M2M100ForConditionalGeneration"), (MOE, "NllbMoeForConditionalGeneration")],
)
def test_written_config_names_the_published_architecture(model_type: str, name: str) -> None:
    assert NllbConfig(model_type=model_type).to_dict()["architectures"] == [name]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model_type", "llama", r"model_type is 'llama'.*'nllb-moe', 'm2m_100'"),
        ("second_expert_policy", "some", "must be one of 'all', 'sampling', 'random'"),
        ("router_dtype", "int8", "must be one of 'float32'"),
        ("activation_function", ["relu"], "must be one of 'relu'"),
        ("vocab_size", 0, "vocab_size is 0.*at least 1"),
        ("d_model", "64", "d_model is '64'.*whole number"),
        ("d_model", 64.0, "d_model is 64.0.*whole number"),
        ("encoder_layers", True, "encoder_layers is True.*whole number"),
        ("decoder_layers", 0, "decoder_layers is 0.*at least 1"),
        ("decoder_attention_heads", 0, "decoder_attention_heads is 0.*at least 1"),
        ("encoder_attention_heads", 7, r"d_model is 1024.*7 heads \(encoder_attention_heads\)"),
        ("decoder_attention_heads", 3, r"d_model is 1024.*3 heads \(decoder_attention_heads\)"),
        ("encoder_sparse_step", -1, "encoder_sparse_step is -1.*at least 0"),
        ("num_experts", 1, "num_experts is 1; top-2 routing needs at least 2"),
        ("encoder_experts", 1, "encoder_experts is 1; top-2 routing needs at least 2"),
        ("decoder_experts", "3", "decoder_experts is '3'.*whole number"),
        ("moe_token_dropout", 1.5, "moe_token_dropout is 1.5.*from 0 to 1"),
        ("dropout", "none", "dropout is 'none'.*from 0 to 1"),
        ("pad_token_id", 128112, "pad_token_id is 128112.*beyond its vocabulary of 128112"),
    ],
)
def test_impossible_field_is_an_error_that_names_it(field: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NllbConfig.from_dict({"model_type": MOE} | {field: value})


def test_sides_may_have_fewer_experts_than_the_model_was_published_with() -> None:
    config = NllbConfig(num_experts=8, encoder_experts=5)
    assert (config.experts("encoder"), config.experts("decoder")) == (5, 8)
    assert config.moe_options("encoder").num_experts == 5
    assert "decoder_experts" not in config.to_dict()


def test_dense_model_needs_no_experts() -> None:
    assert replace(NllbConfig(model_type=DENSE), num_experts=1).num_experts == 1


def test_config_without_model_type_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no model_type; expected 'nllb-moe' or 'm2m_100'"):
        NllbConfig.from_dict({"d_model": 64})


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "can't be read"), ("[1]", "holds a list"), (b"\xff\xfe{", "can't be read")],
    ids=["cut off", "a list", "not UTF-8"],
)
def test_broken_config_file_is_an_error_that_names_it(
    text: str | bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=message) as error:
        NllbConfig.from_folder(tmp_path)
    assert str(path) in str(error.value)


def test_folder_without_config_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no config\.json"):
        NllbConfig.from_folder(tmp_path)
