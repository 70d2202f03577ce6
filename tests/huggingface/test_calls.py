"""What the faces take under which name, on every release of transformers, and what they refuse."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel
from transformers.utils import ModelOutput

from dragoman.huggingface import (
    NllbMoeConfig,
    NllbMoeForConditionalGeneration,
    XALMAForCausalLM,
    XALMAForQuestionAnswering,
    XALMAForSequenceClassification,
    XALMAForTokenClassification,
    calls,
)
from dragoman.huggingface.calls import cache_field, cache_of

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
IDS = torch.tensor([[5, 6, 7, 2]])
HEADS = (XALMAForSequenceClassification, XALMAForTokenClassification, XALMAForQuestionAnswering)
# A face, and the least that it has to be given.
Face = tuple[PreTrainedModel, dict[str, Any]]
NAMES = ["encoder", "decoder", "nllb", "nllb_translates", "llama", "xalma_translates", *range(3)]
WITH_CACHE = [name for name in NAMES if name != "encoder"]


@pytest.fixture(scope="module")
def faces() -> dict[object, Face]:
    nllb = NllbMoeForConditionalGeneration.from_pretrained(GOLDEN / "nllb_moe_base")
    xalma = XALMAForCausalLM.from_pretrained(GOLDEN / "xalma")
    ids, both = {"input_ids": IDS}, {"input_ids": IDS, "decoder_input_ids": IDS}
    spoken = {"input_ids": IDS, "lang": "zh"}
    found: dict[object, Face] = {
        "encoder": (nllb.get_encoder(), ids),
        "decoder": (nllb.get_decoder(), ids),
        "nllb": (nllb.model, both),
        "nllb_translates": (nllb, both),
        "llama": (xalma.model, spoken),
        "xalma_translates": (xalma, spoken),
    }
    heads = [kind.from_pretrained(GOLDEN / "xalma").eval() for kind in HEADS]
    return found | {place: (head, spoken) for place, head in enumerate(heads)}


def new_cache(model: PreTrainedModel) -> DynamicCache | EncoderDecoderCache:
    if model.config.is_encoder_decoder:
        return EncoderDecoderCache(DynamicCache(), DynamicCache())
    return DynamicCache()


@pytest.mark.parametrize("name", WITH_CACHE)
@pytest.mark.parametrize("word", calls.CACHE_NAMES)
@torch.inference_mode()
def test_cache_is_taken_under_the_name_of_either_release(
    faces: dict[object, Face], name: object, word: str
) -> None:
    model, inputs = faces[name]
    cache = new_cache(model)
    model(**inputs, **{word: cache})
    assert cache.get_seq_length() == 4
    assert word in inspect.signature(model.forward).parameters


@pytest.mark.parametrize("name", WITH_CACHE)
def test_two_caches_are_an_error_unless_one_is_empty(faces: dict[object, Face], name: object) -> None:
    model, inputs = faces[name]
    first, second = new_cache(model), new_cache(model)
    with pytest.raises(TypeError, match="past_key_values and as cache"):
        model(**inputs, past_key_values=first, cache=second)
    model(**inputs, past_key_values=first, cache=first)
    assert first.get_seq_length() == 4
    model(**inputs, past_key_values=first, cache=second)
    assert (first.get_seq_length(), second.get_seq_length()) == (8, 0)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("encoder", 1, 2)])
@torch.inference_mode()
def test_cache_comes_back_under_the_name_of_the_release(faces: dict[object, Face], name: object) -> None:
    model, inputs = faces[name]
    cache = new_cache(model)
    output = model(**inputs, **cache_field(cache))
    assert cache_of(output) is cache
    assert set(cache_field(cache)) <= set(output)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("word", "value", "what"),
    [
        ("token_type_ids", torch.zeros(1, 4), r"a tensor \[1, 4\]"),
        ("kv", DynamicCache(), "a DynamicCache"),
        ("use_cachee", False, "False"),
        ("is_causal", False, "False"),
        ("head_mask", [None], "a list"),
        ("num_items", 3, "3"),
    ],
)
def test_what_no_face_knows_is_refused_by_name(
    faces: dict[object, Face], name: object, word: str, value: object, what: str
) -> None:
    model, inputs = faces[name]
    with pytest.raises(TypeError, match=rf"{type(model).__name__}.*{word}, which is {what}.*input_ids"):
        model(**inputs, **{word: value})


@pytest.mark.parametrize("name", NAMES)
def test_cache_is_refused_under_every_other_name(faces: dict[object, Face], name: object) -> None:
    """So that the next name fails loudly; even one that is otherwise harmless."""
    model, inputs = faces[name]
    for word in ("kv_cache", "num_items_in_batch", "use_cache", "cache_params"):
        if word not in inspect.signature(model.forward).parameters:
            with pytest.raises(TypeError, match=f"{word}, which is a DynamicCache"):
                model(**inputs, **{word: DynamicCache()})


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_nothing_under_an_unknown_name_and_what_says_nothing_pass(
    faces: dict[object, Face], name: object
) -> None:
    model, inputs = faces[name]
    wanted = model(**inputs)[0]
    found = model(**inputs, token_type_ids=None, num_items_in_batch=7, use_cache=False)[0]
    assert torch.equal(found, wanted)


def test_argument_by_place_and_by_name_is_an_error(faces: dict[object, Face]) -> None:
    model, inputs = faces["decoder"]
    with pytest.raises(TypeError, match="input_ids"):
        model(IDS, **inputs)


@pytest.fixture(params=["nllb_translates", "xalma_translates"])
def translator(request: pytest.FixtureRequest, faces: dict[object, Face]) -> Face:
    model, _ = faces[request.param]
    cases = load_file(
        GOLDEN / ("xalma" if "xalma" in request.param else "nllb_moe_base") / "cases.safetensors"
    )
    inputs = {"input_ids": cases["input_ids"], "attention_mask": cases["attention_mask"]}
    return model, {**inputs, "lang": "zh"} if "xalma" in request.param else inputs


# Greedy; the end never comes.
PLAIN: dict[str, Any] = {"num_beams": 1, "do_sample": False, "max_new_tokens": 6, "suppress_tokens": [2]}


def test_generate_reads_the_newest_token_alone(translator: Face) -> None:
    model, inputs = translator
    lengths: list[int] = []
    decoder = model.get_decoder()
    hook = decoder.register_forward_pre_hook(
        lambda _, args, kwargs: lengths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    model.generate(**inputs, **PLAIN)
    hook.remove()
    assert lengths[1:] == [1] * 5


@pytest.mark.parametrize(
    ("word", "value", "error"),
    [
        ("seq_idx", torch.zeros(1, 4), TypeError),  # transformers lets it through to every model
        ("is_causal", False, TypeError),
        ("token_type_ids", torch.zeros(1, 4), ValueError),
        ("use_cachee", False, ValueError),
    ],
)
def test_generate_refuses_what_the_model_does_not_know(
    translator: Face, word: str, value: object, error: type[Exception]
) -> None:
    model, inputs = translator
    with pytest.raises(error, match=word):
        model.generate(**inputs, **PLAIN, **{word: value})


def test_generate_returns_the_cache_that_it_was_given(translator: Face) -> None:
    model, inputs = translator
    cache = new_cache(model)
    found = model.generate(**inputs, **PLAIN, **cache_field(cache), return_dict_in_generate=True)
    assert cache_of(found) is cache


@pytest.mark.parametrize("draft", ["prompt", "model"])
def test_assisted_generation_is_plain_generation(translator: Face, draft: str) -> None:
    model, inputs = translator
    real = inputs["attention_mask"][:1].bool()
    one = {"input_ids": inputs["input_ids"][:1][real][None]}
    if "lang" in inputs:
        one["lang"] = inputs["lang"]
    wanted = model.generate(**one, **PLAIN)
    helper = {"prompt_lookup_num_tokens": 2} if draft == "prompt" else {"assistant_model": model}
    assert torch.equal(model.generate(**one, **PLAIN, **helper), wanted)


@pytest.fixture(params=["nllb", "xalma"])
def still(request: pytest.FixtureRequest) -> Face:
    """A model in which nothing is random in training."""
    if request.param == "xalma":
        return XALMAForCausalLM.from_pretrained(GOLDEN / "xalma"), {"input_ids": IDS, "lang": "zh"}
    torch.manual_seed(0)
    shape = {"vocab_size": 60, "d_model": 16, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    depth = {"encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    dense = {"encoder_sparse_step": 0, "decoder_sparse_step": 0}
    chances = {"dropout": 0.0, "attention_dropout": 0.0, "encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0}
    config = NllbMoeConfig(**shape, **depth, **dense, **chances, init_std=0.5)
    return NllbMoeForConditionalGeneration(config).eval(), {"input_ids": IDS}


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_model_in_training_generates_with_a_cache(still: Face, reentrant: bool) -> None:
    model, inputs = still
    wanted = model.generate(**inputs, **PLAIN, use_cache=False)
    model.train()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    lengths: list[int] = []
    model.get_decoder().register_forward_pre_hook(
        lambda _, args, kwargs: lengths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    found = model.generate(**inputs, **PLAIN, use_cache=True, return_dict_in_generate=True)
    assert torch.equal(found.sequences, wanted)
    assert lengths[1:] == [1] * 5
    assert cache_of(found).get_seq_length() == wanted.shape[1] - 1


def test_outputs_of_the_release_have_one_field_for_the_cache() -> None:
    (name,) = cache_field(None)
    assert name in calls.CACHE_NAMES


def test_helper_finds_the_cache_of_any_output(faces: dict[object, Face]) -> None:
    model, inputs = faces["nllb"]
    output: ModelOutput = model(**inputs, use_cache=True)
    assert isinstance(cache_of(output), EncoderDecoderCache)
    assert cache_of(model(**inputs, use_cache=False)) is None
