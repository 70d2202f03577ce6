"""`generate` and the caches under it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache, StaticCache

from dragoman.huggingface import NllbMoeConfig, NllbMoeForConditionalGeneration
from dragoman.huggingface.calls import cache_field

Load = Callable[..., NllbMoeForConditionalGeneration]
# Greedy; the end of the sentence never comes, so that all rows have the same length.
PLAIN = {"num_beams": 1, "do_sample": False, "max_new_tokens": 8, "suppress_tokens": [2]}


@pytest.fixture
def model(load: Load) -> NllbMoeForConditionalGeneration:
    return load()


@pytest.fixture(scope="module")
def inputs(golden: Path) -> dict[str, Tensor]:
    cases = load_file(golden / "nllb_moe_base" / "cases.safetensors")
    return {name: cases[name] for name in ("input_ids", "attention_mask")}


def random_model(**fields: object) -> NllbMoeForConditionalGeneration:
    torch.manual_seed(0)
    shape = {
        "vocab_size": 60,
        "d_model": 16,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 8,
        "decoder_ffn_dim": 8,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_sparse_step": 2,
        "decoder_sparse_step": 2,
        "num_experts": 3,
        "init_std": 0.5,
    }
    return NllbMoeForConditionalGeneration(NllbMoeConfig(**{**shape, **fields})).eval()


def test_cached_equals_uncached(model: NllbMoeForConditionalGeneration, inputs: dict[str, Tensor]) -> None:
    for options in (PLAIN, {**PLAIN, "num_beams": 3}):
        cached, uncached = (model.generate(**inputs, **options, use_cache=use) for use in (True, False))
        assert torch.equal(cached, uncached)


@pytest.mark.parametrize("beams", [1, 3])
def test_static_cache_equals_dynamic(
    model: NllbMoeForConditionalGeneration, inputs: dict[str, Tensor], beams: int
) -> None:
    options = {**PLAIN, "num_beams": beams}
    static = model.generate(**inputs, **options, cache_implementation="static")
    assert torch.equal(static, model.generate(**inputs, **options))


def test_static_cache_with_room_to_spare_is_not_read_beyond_its_end(
    model: NllbMoeForConditionalGeneration, inputs: dict[str, Tensor]
) -> None:
    def cache() -> EncoderDecoderCache:
        own, source = (StaticCache(config=model.config, max_cache_len=40) for _ in range(2))
        return EncoderDecoderCache(own, source)

    found = model.generate(**inputs, **PLAIN, **cache_field(cache()))
    assert torch.equal(found, model.generate(**inputs, **PLAIN))


def test_cache_that_keeps_no_source_projects_it_anew(
    model: NllbMoeForConditionalGeneration, inputs: dict[str, Tensor]
) -> None:
    encoded = model.get_encoder()(**inputs)
    ids = torch.tensor([[2, 12, 34]] * 3)
    mask = inputs["attention_mask"]
    whole = model(encoder_outputs=encoded, attention_mask=mask, decoder_input_ids=ids).logits
    cache = DynamicCache()
    for place in range(3):
        step = model(
            encoder_outputs=encoded,
            attention_mask=mask,
            decoder_input_ids=ids[:, place : place + 1],
            past_key_values=cache,
        )
        torch.testing.assert_close(step.logits[:, 0], whole[:, place])
    assert step.past_key_values is cache


@pytest.mark.parametrize(("encoder", "decoder"), [(1, 3), (3, 1)])
def test_stacks_may_differ_in_depth(encoder: int, decoder: int) -> None:
    model = random_model(encoder_layers=encoder, decoder_layers=decoder)
    ids = torch.tensor([[5, 6, 7, 2]])
    cached, uncached = (model.generate(ids, **PLAIN, use_cache=use) for use in (True, False))
    assert torch.equal(cached, uncached)


def test_padding_of_a_decoder_prompt_changes_nothing(
    model: NllbMoeForConditionalGeneration, inputs: dict[str, Tensor]
) -> None:
    """Rows with prompts of different lengths, padded at the left, give what each gives alone."""
    prompts = torch.tensor([[2, 12, 34, 40], [1, 1, 2, 12], [1, 2, 12, 50]])
    mask = (prompts != 1).long()
    found = model.generate(**inputs, **PLAIN, decoder_input_ids=prompts, decoder_attention_mask=mask)
    for row, padded in enumerate((mask == 0).sum(1).tolist()):
        alone = model.generate(
            input_ids=inputs["input_ids"][row : row + 1],
            attention_mask=inputs["attention_mask"][row : row + 1],
            decoder_input_ids=prompts[row : row + 1, padded:],
            **PLAIN,
        )
        assert torch.equal(found[row : row + 1, padded:], alone)


def test_several_new_positions_on_a_padded_cache_are_computed_as_at_once(
    model: NllbMoeForConditionalGeneration, inputs: dict[str, Tensor]
) -> None:
    ids = torch.tensor([[1, 2, 12, 34, 40, 41], [2, 12, 50, 51, 52, 53], [1, 1, 2, 12, 60, 61]])
    mask = (ids != 1).long()
    whole = model(**inputs, decoder_input_ids=ids, decoder_attention_mask=mask).logits
    first = model(**inputs, decoder_input_ids=ids[:, :3], decoder_attention_mask=mask[:, :3])
    rest = model(
        encoder_outputs=(first.encoder_last_hidden_state,),
        attention_mask=inputs["attention_mask"],
        decoder_input_ids=ids[:, 3:],
        decoder_attention_mask=mask,
        past_key_values=first.past_key_values,
    )
    real = mask[:, 3:].bool()
    torch.testing.assert_close(rest.logits[real], whole[:, 3:][real])


def test_row_is_independent_of_its_batch(
    model: NllbMoeForConditionalGeneration, inputs: dict[str, Tensor]
) -> None:
    """With capacity for all tokens, as every published checkpoint has it."""
    together = model.generate(**inputs, **PLAIN, num_return_sequences=1)
    for row, length in enumerate(inputs["attention_mask"].sum(1).tolist()):
        alone = model.generate(inputs["input_ids"][row : row + 1, :length], **PLAIN)
        assert torch.equal(together[row : row + 1], alone)


def test_samples_can_be_drawn_again_and_differ(
    model: NllbMoeForConditionalGeneration, inputs: dict[str, Tensor]
) -> None:
    def sample(seed: int, **options: object) -> Tensor:
        torch.manual_seed(seed)
        return model.generate(**inputs, do_sample=True, max_new_tokens=8, temperature=2.0, **options)

    assert torch.equal(sample(0), sample(0))
    assert not torch.equal(sample(0), sample(1))
    assert sample(0, num_return_sequences=4, top_k=20).shape[0] == 12
    assert sample(0, num_beams=3, top_p=0.9).shape[0] == 3
    assert torch.equal(sample(0, top_k=1), sample(1, top_k=1))


def test_generation_starts_from_embeddings_too(
    model: NllbMoeForConditionalGeneration, inputs: dict[str, Tensor]
) -> None:
    embedded = model.get_input_embeddings()(inputs["input_ids"])
    mask = inputs["attention_mask"]
    found = model.generate(inputs_embeds=embedded, attention_mask=mask, **PLAIN)
    assert torch.equal(found, model.generate(**inputs, **PLAIN))


def test_generate_returns_attentions_states_and_scores(
    model: NllbMoeForConditionalGeneration, inputs: dict[str, Tensor]
) -> None:
    found = model.generate(
        **inputs,
        num_beams=1,
        do_sample=False,
        min_new_tokens=3,
        max_new_tokens=3,
        return_dict_in_generate=True,
        output_attentions=True,
        output_hidden_states=True,
        output_logits=True,
    )
    rows, source = inputs["input_ids"].shape
    assert [tuple(layer.shape) for layer in found.encoder_attentions] == [(rows, 4, source, source)] * 4
    assert len(found.encoder_hidden_states) == 5
    for step in range(3):
        assert [layer.shape[2:] for layer in found.decoder_attentions[step]] == [(1, step + 1)] * 4
        assert [layer.shape[2:] for layer in found.cross_attentions[step]] == [(1, source)] * 4
        assert len(found.decoder_hidden_states[step]) == 5
        torch.testing.assert_close(found.cross_attentions[step][0].sum(-1), torch.ones(rows, 4, 1))
    padding = inputs["attention_mask"] == 0
    assert found.encoder_attentions[0].sum((1, 2))[padding].max() == 0
    assert len(found.logits) == 3


def test_eager_and_sdpa_agree(load: Load, inputs: dict[str, Tensor]) -> None:
    eager, sdpa = (load(attn_implementation=kind) for kind in ("eager", "sdpa"))
    assert torch.equal(eager.generate(**inputs, **PLAIN), sdpa.generate(**inputs, **PLAIN))
    eager.config.output_attentions = True
    ids = torch.tensor([[2, 12]] * 3)
    explained = eager(**inputs, decoder_input_ids=ids)
    assert len(explained.cross_attentions) == len(explained.encoder_attentions) == 4
    wanted = sdpa(**inputs, decoder_input_ids=ids).logits
    torch.testing.assert_close(explained.logits, wanted, atol=1e-4, rtol=0)


def test_tuples_and_dicts_hold_the_same(
    model: NllbMoeForConditionalGeneration, inputs: dict[str, Tensor]
) -> None:
    flags = {"output_attentions": True, "output_hidden_states": True, "output_router_logits": True}
    ids = torch.tensor([[2, 12, 34]] * 3)
    whole = model(**inputs, decoder_input_ids=ids, labels=ids, use_cache=False, **flags)
    parts = model(**inputs, decoder_input_ids=ids, labels=ids, use_cache=False, return_dict=False, **flags)
    assert list(whole)[:2] == ["loss", "logits"]
    assert len(parts) == len(whole)
    assert torch.equal(parts[1], whole.logits)
    encoded = model.get_encoder()(**inputs, return_dict=False, output_hidden_states=True)
    again = model(encoder_outputs=encoded, attention_mask=inputs["attention_mask"], decoder_input_ids=ids)
    torch.testing.assert_close(again.logits, whole.logits, atol=1e-4, rtol=0)
    assert len(again.encoder_hidden_states) == 5


def test_decoder_runs_without_a_source(model: NllbMoeForConditionalGeneration) -> None:
    ids = torch.tensor([[2, 12, 34, 40]])
    decoder = model.get_decoder()
    whole = decoder(ids)
    assert whole.last_hidden_state.shape == (1, 4, 64)
    part = decoder(ids[:, :2], use_cache=True)
    rest = decoder(ids[:, 2:], past_key_values=part.past_key_values)
    torch.testing.assert_close(rest.last_hidden_state, whole.last_hidden_state[:, 2:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention_mask": torch.ones(3, 5)}, r"attention_mask .* must be \[batch, keys\] = \[3, 11\]"),
        (
            {"decoder_attention_mask": torch.ones(3, 7)},
            r"decoder_attention_mask .* must be \[batch, keys\] = \[3, 2\]",
        ),
        ({"inputs_embeds": torch.zeros(3, 11, 64)}, "either input_ids or inputs_embeds"),
        ({"decoder_input_ids": None}, "either decoder_input_ids or decoder_inputs_embeds"),
    ],
)
def test_input_that_fits_nothing_is_an_error(
    model: NllbMoeForConditionalGeneration,
    inputs: dict[str, Tensor],
    change: dict[str, Tensor],
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        model(**{**inputs, "decoder_input_ids": torch.tensor([[2, 12]] * 3), **change})
