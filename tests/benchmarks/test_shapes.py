"""Random checkpoints are the same every time and behave like models."""

import pytest
import torch

from benchmarks import shapes
from benchmarks.agreement import compared
from benchmarks.decode import step_ms
from benchmarks.shapes import SHAPES, Shape
from benchmarks.work import Timing, Work, _words, chosen
from dragoman.checkpoints.llama import load_xalma
from dragoman.checkpoints.nllb import load_nllb
from dragoman.models.config import NllbConfig
from dragoman.models.llama_config import LlamaConfig

TINY = {
    "vocab_size": 1206,
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
}
DENSE = Shape("dense", NllbConfig(model_type="m2m_100", **TINY))
SPARSE = Shape("sparse", NllbConfig(num_experts=4, encoder_sparse_step=2, decoder_sparse_step=2, **TINY))
LLAMA = Shape(
    "llama",
    LlamaConfig(
        vocab_size=600,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
    ),
    torch.float16,
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(shapes, "CACHE", tmp_path)
    return tmp_path


@pytest.mark.parametrize("shape", [DENSE, SPARSE], ids=lambda shape: shape.name)
def test_logits_of_a_random_nllb_differ_and_do_not_favour_the_last_token(shape):
    model = load_nllb(shape.build())
    ids = torch.randint(4, 1000, (2, 12), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = model(ids, ids)
    assert 2 < logits.std() < 3
    assert (logits.argmax(-1) == ids).float().mean() < 0.1


def test_logits_of_a_random_llama_differ():
    model = load_xalma(LLAMA.build(), groups=())
    ids = torch.randint(4, 500, (2, 12), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert 2 < model(ids).std() < 3


def test_a_checkpoint_is_made_once_and_always_the_same(cache, monkeypatch):
    file = SPARSE.build() / "model.safetensors"
    first, moment = file.read_bytes(), file.stat().st_mtime_ns
    SPARSE.build()
    assert file.stat().st_mtime_ns == moment
    monkeypatch.setattr(shapes, "CACHE", cache / "again")
    assert (SPARSE.build() / "model.safetensors").read_bytes() == first


def test_another_recipe_makes_it_anew(monkeypatch):
    file = DENSE.build() / "model.safetensors"
    moment = file.stat().st_mtime_ns
    monkeypatch.setattr(shapes, "RECIPE", shapes.RECIPE + 1)
    DENSE.build()
    assert file.stat().st_mtime_ns != moment


def test_weights_are_stored_in_the_dtype_of_the_shape():
    size = (LLAMA.build() / "model.safetensors").stat().st_size
    assert 0 <= size - 2 * LLAMA.parameters() < 10_000


def test_published_shapes_have_their_published_sizes():
    millions = {name: round(shape.parameters() / 1e6) for name, shape in SHAPES.items()}
    assert millions == {"nllb-600m": 615, "nllb-moe-32": 2177, "llama-13b-8": 2865}


def test_a_step_reads_no_encoder_and_more_experts_for_more_rows():
    config, hidden = DENSE.config, 64
    layer = 6 * (hidden * hidden + hidden) + 3 * 2 * hidden + 2 * hidden * 128 + 128 + hidden
    assert DENSE.step_parameters(1) == config.vocab_size * hidden + 2 * layer + 2 * hidden
    assert SPARSE.step_parameters(1) < SPARSE.step_parameters(4) < SPARSE.step_parameters(10**6)


@pytest.mark.parametrize("shape", [SPARSE, LLAMA], ids=lambda shape: shape.name)
def test_sources_have_as_many_tokens_as_asked_for(shape):
    work = Work(shape, 3, 4, 20, 8)
    assert [len(source) for source in work.sources] == [20] * 3
    assert work.sources == Work(shape, 3, 4, 20, 8).sources
    assert all(0 <= token < shape.config.vocab_size for source in work.sources for token in source)


def test_a_prompt_is_asked_of_encoder_decoders_only():
    prompt = Work(SPARSE, 1, 4, 20, 8).request(8)["prompt"]
    assert prompt[0] == 2
    assert 1000 < prompt[1] < 1206
    assert "prompt" not in Work(LLAMA, 1, 4, 20, 8).request(8)


def test_a_cut_vocabulary_keeps_specials_and_languages():
    words = _words(SPARSE, 500)
    assert len(words) == len(set(words)) == 500
    assert {0, 1, 2, 3, *range(1001, 1203)} <= set(words)


def test_peers_are_named_with_or_without_precision():
    assert chosen("ctranslate2", "int8", ["ctranslate2"])
    assert chosen("ctranslate2", "int8", ["transformers", "ctranslate2:int8"])
    assert not chosen("ctranslate2", "fp32", ["transformers", "ctranslate2:int8"])


def test_a_step_is_the_difference_by_the_tokens_between():
    work = Work(SPARSE, 1, 4, 20, 12)
    assert step_ms(work, Timing({"start": 1.0, "whole": 2.0}, {})) == pytest.approx(100)
    assert step_ms(work, Timing({"start": 2.0, "whole": 1.0}, {})) is None
    assert step_ms(work, Timing({}, {}, "gone")) is None


def test_agreement_counts_same_ids_and_where_they_part():
    assert compared([[1, 2, 3, 4], [5, 6, 7, 8]], [[1, 2, 9, 4], [5, 6, 7, 8]]) == (8, 7 / 8, 3)
