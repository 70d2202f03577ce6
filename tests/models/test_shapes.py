from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from dragoman.checkpoints.loading import shapes_of, skeleton
from dragoman.models.config import DENSE, NllbConfig
from dragoman.models.llama import Llama
from dragoman.models.llama_config import LlamaConfig
from dragoman.models.nllb import Nllb
from dragoman.models.shapes import llama_shapes, nllb_shapes

NLLB = NllbConfig(
    vocab_size=70,
    d_model=16,
    encoder_layers=4,
    decoder_layers=3,
    encoder_attention_heads=2,
    decoder_attention_heads=4,
    encoder_ffn_dim=24,
    decoder_ffn_dim=28,
    encoder_sparse_step=2,
    decoder_sparse_step=3,
    num_experts=3,
)
LLAMA = LlamaConfig(
    vocab_size=50,
    hidden_size=32,
    intermediate_size=44,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=10,
)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model_type": DENSE},
        {"router_bias": True},
        {"tie_word_embeddings": False},
        {"encoder_sparse_step": 0},
        {"encoder_experts": 2, "decoder_experts": 5},
    ],
    ids=str,
)
def test_parameters_of_nllb_are_those_of_the_model(changes: dict[str, Any]) -> None:
    config = replace(NLLB, **changes)
    assert nllb_shapes(config) == shapes_of(skeleton(partial(Nllb, config)))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attention_bias": True},
        {"mlp_bias": True},
        {"tie_word_embeddings": True},
        {"num_key_value_heads": 0},
    ],
    ids=str,
)
def test_parameters_of_llama_are_those_of_the_model(changes: dict[str, Any]) -> None:
    config = replace(LLAMA, **changes)
    assert llama_shapes(config) == shapes_of(skeleton(partial(Llama, config)))
