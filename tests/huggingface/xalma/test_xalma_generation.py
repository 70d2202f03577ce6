"""Languages, `generate`, the caches under it, and what a pass brings back."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import DynamicCache, StaticCache

from dragoman.errors import ConfigError, UnknownLanguage
from dragoman.huggingface import (
    XALMAForCausalLM,
    XALMAForQuestionAnswering,
    XALMAForSequenceClassification,
    XALMAForTokenClassification,
    XALMAModel,
)
from dragoman.huggingface.calls import cache_field

COMBINED = Path(__file__).parents[2] / "data" / "golden" / "xalma"
# Greedy; the end never comes, so that all rows have the same length.
PLAIN = {"num_beams": 1, "do_sample": False, "max_new_tokens": 8, "suppress_tokens": [2]}
MIXED = ["uk", "zh", "de"]


@pytest.fixture(scope="module")
def model() -> XALMAForCausalLM:
    return XALMAForCausalLM.from_pretrained(COMBINED)


@pytest.fixture(scope="module")
def inputs() -> dict[str, Tensor]:
    cases = load_file(COMBINED / "cases.safetensors")
    return {name: cases[name] for name in ("input_ids", "attention_mask")}


@pytest.mark.parametrize("lang", [None, "", "en", "eng_Latn", "tlh", ["zh", "en", "zh"], ["zh", "de"]])
@pytest.mark.parametrize(
    "kind",
    [
        XALMAForCausalLM,
        XALMAModel,
        XALMAForSequenceClassification,
        XALMAForTokenClassification,
        XALMAForQuestionAnswering,
    ],
)
def test_language_without_a_module_is_an_error_of_every_model(
    kind: type, inputs: dict[str, Tensor], loaded: Callable[[type], torch.nn.Module], lang: object
) -> None:
    pattern = "2 languages for 3 rows" if lang == ["zh", "de"] else "X-ALMA has modules for .*da"
    with pytest.raises(UnknownLanguage, match=pattern):
        loaded(kind)(**inputs, lang=lang)


@pytest.fixture(scope="module")
def loaded() -> Callable[[type], torch.nn.Module]:
    found: dict[type, torch.nn.Module] = {}

    def load(kind: type) -> torch.nn.Module:
        if kind not in found:
            found[kind] = kind.from_pretrained(COMBINED)
        return found[kind]

    return load


@pytest.mark.parametrize("lang", [None, "", "en", ["zh", "en", "zh"]])
def test_generate_needs_a_language_with_a_module(
    model: XALMAForCausalLM, inputs: dict[str, Tensor], lang: object
) -> None:
    with pytest.raises(UnknownLanguage, match=r"X-ALMA has modules for .*zh"):
        model.generate(**inputs, **PLAIN, lang=lang)
    with pytest.raises(UnknownLanguage, match=r"X-ALMA has modules for .*zh"):
        model.generate(**inputs, **PLAIN)


def test_generate_counts_languages_before_it_multiplies_rows(
    model: XALMAForCausalLM, inputs: dict[str, Tensor]
) -> None:
    with pytest.raises(UnknownLanguage, match="2 languages for 3 rows"):
        model.generate(**inputs, num_beams=4, max_new_tokens=2, lang=["zh", "de"])


def test_misspelt_option_of_generate_is_an_error(model: XALMAForCausalLM, inputs: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match="language"):
        model.generate(**inputs, **PLAIN, lang="zh", language="zh")


def test_languages_have_many_spellings(model: XALMAForCausalLM, inputs: dict[str, Tensor]) -> None:
    wanted = model.generate(**inputs, **PLAIN, lang="zh")
    for spelling in ("zho_Hans", "Chinese", ("zh",) * 3):
        assert torch.equal(model.generate(**inputs, **PLAIN, lang=spelling), wanted)


@pytest.mark.parametrize("beams", [1, 3])
def test_caches_of_all_kinds_give_what_none_gives(
    model: XALMAForCausalLM, inputs: dict[str, Tensor], beams: int
) -> None:
    options = {**PLAIN, "num_beams": beams, "lang": MIXED}
    wanted = model.generate(**inputs, **options, use_cache=False)
    assert torch.equal(model.generate(**inputs, **options), wanted)
    assert torch.equal(model.generate(**inputs, **options, cache_implementation="static"), wanted)


def test_static_cache_with_room_to_spare_is_not_read_beyond_its_end(
    model: XALMAForCausalLM, inputs: dict[str, Tensor]
) -> None:
    cache = StaticCache(config=model.config, max_cache_len=40)
    found = model.generate(**inputs, **PLAIN, lang=MIXED, **cache_field(cache))
    assert torch.equal(found, model.generate(**inputs, **PLAIN, lang=MIXED))


@torch.inference_mode()
def test_several_new_positions_on_a_padded_cache_are_computed_as_at_once(
    model: XALMAForCausalLM, inputs: dict[str, Tensor]
) -> None:
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    whole = model(ids, attention_mask=mask, lang=MIXED).logits
    cache = DynamicCache()
    first = model(ids[:, :6], attention_mask=mask[:, :6], past_key_values=cache, lang=MIXED)
    assert first.past_key_values is cache
    rest = model(ids[:, 6:], attention_mask=mask, past_key_values=cache, lang=MIXED).logits
    real = mask[:, 6:].bool()
    torch.testing.assert_close(rest[real], whole[:, 6:][real], atol=1e-4, rtol=0)


@torch.inference_mode()
def test_positions_are_counted_without_padding_unless_given(
    model: XALMAForCausalLM, inputs: dict[str, Tensor]
) -> None:
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    whole = model(ids, attention_mask=mask, lang="zh").logits
    counted = (mask.cumsum(1) - 1).clamp(min=0)
    given = model(ids, attention_mask=mask, position_ids=counted, lang="zh").logits
    moved = model(ids, attention_mask=mask, position_ids=counted * 2, lang="zh").logits
    real = mask.bool()
    torch.testing.assert_close(given[real], whole[real], atol=1e-5, rtol=0)
    assert (moved - whole)[real].abs().max() > 0.01
    alone = model(ids[2:, 5:], lang="zh").logits
    torch.testing.assert_close(whole[2:, 5:], alone, atol=1e-4, rtol=0)


def test_samples_have_the_language_of_their_row(model: XALMAForCausalLM, inputs: dict[str, Tensor]) -> None:
    def sample(seed: int, **options: object) -> Tensor:
        torch.manual_seed(seed)
        return model.generate(
            **inputs, do_sample=True, max_new_tokens=8, temperature=2.0, lang=MIXED, **options
        )

    assert torch.equal(sample(0), sample(0))
    assert not torch.equal(sample(0), sample(1))
    assert sample(0, num_beams=3, top_p=0.9).shape[0] == 3
    likeliest = sample(0, num_return_sequences=2, top_k=1)
    wanted = model.generate(**inputs, do_sample=False, max_new_tokens=8, lang=MIXED)
    assert torch.equal(likeliest, wanted.repeat_interleave(2, 0))


def test_generation_starts_from_embeddings_too(model: XALMAForCausalLM, inputs: dict[str, Tensor]) -> None:
    embedded = model.get_input_embeddings()(inputs["input_ids"])
    found = model.generate(
        inputs_embeds=embedded,
        attention_mask=inputs["attention_mask"],
        **PLAIN,
        num_return_sequences=1,
        lang=MIXED,
    )
    assert torch.equal(found, model.generate(**inputs, **PLAIN, lang=MIXED)[:, 10:])


@torch.inference_mode()
def test_attentions_and_states_are_brought_back(model: XALMAForCausalLM, inputs: dict[str, Tensor]) -> None:
    plain = model(**inputs, lang="uk")
    found = model(**inputs, lang="uk", output_attentions=True, output_hidden_states=True)
    torch.testing.assert_close(found.logits, plain.logits, atol=1e-4, rtol=0)
    assert [tuple(layer.shape) for layer in found.attentions] == [(3, 4, 10, 10)] * 3
    real = inputs["attention_mask"].bool()
    for layer in found.attentions:
        rows = layer.transpose(1, 2)[real]
        assert layer.triu(1).transpose(1, 2)[real].max() == 0
        torch.testing.assert_close(rows.sum(-1), torch.ones(rows.shape[:-1]))
        assert layer[2, :, 5:, :5].max() == 0  # padding
    assert [tuple(state.shape) for state in found.hidden_states] == [(3, 10, 64)] * 4
    torch.testing.assert_close(model.lm_head(found.hidden_states[-1]), found.logits)
    steps = model.generate(
        **inputs, **PLAIN, lang="uk", return_dict_in_generate=True, output_attentions=True
    ).attentions
    assert [step[0].shape[-2:] for step in steps[:3]] == [(10, 10), (1, 11), (1, 12)]


@torch.inference_mode()
def test_eager_and_sdpa_agree(model: XALMAForCausalLM, inputs: dict[str, Tensor]) -> None:
    eager = XALMAForCausalLM.from_pretrained(COMBINED, attn_implementation="eager")
    assert torch.equal(
        eager.generate(**inputs, **PLAIN, lang="ar"), model.generate(**inputs, **PLAIN, lang="ar")
    )


@torch.inference_mode()
def test_tuples_and_dicts_hold_the_same(model: XALMAForCausalLM, inputs: dict[str, Tensor]) -> None:
    flags = {"labels": inputs["input_ids"], "lang": "zh", "output_hidden_states": True, "use_cache": False}
    whole, parts = model(**inputs, **flags), model(**inputs, **flags, return_dict=False)
    assert list(whole) == ["loss", "logits", "hidden_states"]
    assert len(parts) == 3
    assert torch.equal(parts[1], whole.logits)


@torch.inference_mode()
def test_logits_can_be_had_of_some_positions(model: XALMAForCausalLM, inputs: dict[str, Tensor]) -> None:
    whole = model(**inputs, lang="zh").logits
    last = model(**inputs, lang="zh", logits_to_keep=2).logits
    some = model(**inputs, lang="zh", logits_to_keep=torch.tensor([4, 9])).logits
    torch.testing.assert_close(last, whole[:, -2:], atol=1e-5, rtol=0)
    torch.testing.assert_close(some, whole[:, [4, 9]], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_last_real_token_decides_whichever_side_is_padded(inputs: dict[str, Tensor]) -> None:
    head = XALMAForSequenceClassification.from_pretrained(COMBINED, num_labels=4)
    left, mask = inputs["input_ids"], inputs["attention_mask"]
    lengths = mask.sum(1).tolist()
    right = torch.zeros_like(left)
    for row, length in enumerate(lengths):
        right[row, :length] = left[row, -length:]
    wanted = torch.cat([head(left[i : i + 1, -n:], lang=MIXED[i]).logits for i, n in enumerate(lengths)])
    for ids in (left, right):
        with_mask = head(ids, attention_mask=(ids != 0).long(), lang=MIXED).logits
        torch.testing.assert_close(with_mask, wanted, atol=1e-4, rtol=0)
    # On the right padding can't be seen by what comes before, so its id alone will do.
    torch.testing.assert_close(head(right, lang=MIXED).logits, wanted, atol=1e-4, rtol=0)
    embedded = head.get_input_embeddings()(left)
    found = head(inputs_embeds=embedded, attention_mask=mask, lang=MIXED).logits
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


@torch.inference_mode()
def test_padding_token_at_the_end_is_a_token_if_the_mask_says_so() -> None:
    """X-ALMA's padding token is its unknown token, which texts may contain."""
    head = XALMAForSequenceClassification.from_pretrained(COMBINED, num_labels=4)
    ids = torch.tensor([[1, 20, 30, 0], [1, 20, 30, 40]])
    masked = head(ids, attention_mask=torch.ones_like(ids), lang="zh").logits
    assert (masked[0] - head(ids, lang="zh").logits[0]).abs().max() > 1e-3
    head.config.pad_token_id = None
    assert torch.allclose(head(ids[:1], lang="zh").logits, masked[:1], atol=1e-4)
    with pytest.raises(ConfigError, match="pass an attention_mask, or set pad_token_id"):
        head(ids, lang="zh")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention_mask": torch.ones(3, 5)}, r"attention_mask .* must be \[batch, keys\] = \[3, 10\]"),
        ({"inputs_embeds": torch.zeros(3, 10, 64)}, "either input_ids or inputs_embeds"),
        ({"input_ids": None}, "either input_ids or inputs_embeds"),
    ],
)
def test_input_that_fits_nothing_is_an_error(
    model: XALMAForCausalLM, inputs: dict[str, Tensor], change: dict[str, Tensor], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        model(**{**inputs, **change}, lang="zh")
