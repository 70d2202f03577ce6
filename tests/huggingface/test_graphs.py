"""Masks for every pair of tokens, export, and compilation in one graph."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from dragoman.huggingface import (
    NllbMoeConfig,
    NllbMoeForConditionalGeneration,
    XALMAConfig,
    XALMAForCausalLM,
    XALMAForSequenceClassification,
)

IDS = torch.tensor([[5, 6, 7, 8, 2], [9, 6, 2, 1, 1], [5, 9, 9, 2, 1]])
MASK = (IDS != 1).long()
ANY = torch.export.Dim.AUTO


def nllb(sparse_step: int) -> NllbMoeForConditionalGeneration:
    torch.manual_seed(0)
    shape = {"vocab_size": 60, "d_model": 16, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    depth = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    steps = {"encoder_sparse_step": sparse_step, "decoder_sparse_step": sparse_step, "num_experts": 3}
    whole = {"encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0, "init_std": 0.5}
    return NllbMoeForConditionalGeneration(NllbMoeConfig(**shape, **depth, **steps, **whole)).eval()


def dense() -> NllbMoeForConditionalGeneration:
    return nllb(sparse_step=0)


def sparse() -> NllbMoeForConditionalGeneration:
    return nllb(sparse_step=1)


def xalma_config(**fields: Any) -> XALMAConfig:
    shape = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    modules = {"num_attention_heads": 2, "lora_size": 2, "lora_groups": [1, 6], "initializer_range": 0.5}
    return XALMAConfig(**shape, **modules, pad_token_id=1, **fields)


def xalma(kind: type = XALMAForCausalLM) -> Any:
    torch.manual_seed(0)
    model = kind(xalma_config(num_labels=3)).eval()
    for name, parameter in model.named_parameters():
        if "_lora_B" in name:
            torch.nn.init.normal_(parameter)
    return model


def added(mask: Tensor) -> Tensor:
    """A boolean mask as numbers to add to scores."""
    return torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)


@pytest.mark.parametrize("form", [lambda mask: mask, added, lambda mask: mask.long()])
@torch.inference_mode()
def test_encoder_and_decoder_take_masks_of_pairs(form: Any) -> None:
    model = sparse()
    inputs = {"input_ids": IDS, "decoder_input_ids": IDS, "use_cache": False}
    wanted = model(**inputs, attention_mask=MASK, decoder_attention_mask=MASK).logits
    real = MASK.bool()
    pairs = real[:, None, None, :].expand(-1, 1, 5, -1)
    ordered = pairs & torch.ones(5, 5, dtype=torch.bool).tril()
    masks = {"attention_mask": form(pairs), "decoder_attention_mask": form(ordered)}
    torch.testing.assert_close(model(**inputs, **masks).logits[real], wanted[real], atol=1e-5, rtol=0)
    short = {**masks, "attention_mask": form(pairs[:, :, :1])}
    torch.testing.assert_close(model(**inputs, **short).logits[real], wanted[real], atol=1e-5, rtol=0)
    alone = {**masks, "decoder_attention_mask": form(torch.eye(5, dtype=torch.bool)[None, None])}
    assert (model(**inputs, **alone).logits - wanted)[real].abs().max() > 1e-2


@torch.inference_mode()
def test_decoder_takes_a_mask_from_target_to_source() -> None:
    model = sparse()
    encoded = model.get_encoder()(IDS, attention_mask=MASK).last_hidden_state
    decoder = model.get_decoder()
    wanted = decoder(IDS, encoder_hidden_states=encoded, encoder_attention_mask=MASK).last_hidden_state
    pairs = MASK.bool()[:, None, None, :].expand(-1, 1, 5, -1)
    found = decoder(IDS, encoder_hidden_states=encoded, encoder_attention_mask=pairs).last_hidden_state
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("form", [lambda mask: mask, added])
@torch.inference_mode()
def test_llama_takes_masks_of_pairs_beside_a_cache(form: Any) -> None:
    model = xalma()
    ids, real = IDS.flip(1), MASK.flip(1).bool()  # padded at the left
    whole = model(ids, attention_mask=real, lang="zh").logits
    pairs = form(real[:, None, None, :] & torch.ones(5, 5, dtype=torch.bool).tril())
    first = model(ids[:, :3], attention_mask=pairs[:, :, :3, :3], lang="zh", use_cache=True)
    cache = first.to_tuple()[1]
    rest = model(ids[:, 3:], attention_mask=pairs[:, :, 3:], cache=cache, lang="zh")
    found = torch.cat([first.logits, rest.logits], 1)
    torch.testing.assert_close(found[real], whole[real], atol=1e-4, rtol=0)


@torch.inference_mode()
def test_texts_packed_into_a_row_are_what_each_is_alone() -> None:
    model = xalma()
    text, other = IDS[:1], IDS[2:, :4]
    packed = torch.cat([text, other], 1)
    places = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2, 3]])
    same = torch.block_diag(torch.ones(5, 5), torch.ones(4, 4)).bool().tril()
    found = model(packed, attention_mask=same[None, None], position_ids=places, lang="zh").logits
    alone = torch.cat([model(ids, lang="zh").logits for ids in (text, other)], 1)
    torch.testing.assert_close(found, alone, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_head_finds_the_last_token_in_a_mask_of_pairs() -> None:
    model = xalma(XALMAForSequenceClassification)
    pairs = MASK.bool()[:, None, None, :] & torch.ones(5, 5, dtype=torch.bool).tril()
    wanted = model(IDS, attention_mask=MASK, lang="zh").logits
    found = model(IDS, attention_mask=pairs, lang="zh").logits
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(3, 4), (2, 5), (3, 1, 5, 4), (3, 1, 2, 5), (2, 1, 5, 5), (3, 5, 5)])
def test_mask_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    for model, others in ((dense(), {"decoder_input_ids": IDS}), (xalma(), {"lang": "zh"})):
        with pytest.raises(ValueError, match=r"must be \[batch, keys\] = \[3, 5\].*= \[3, 1, 5, 5\]"):
            model(IDS, attention_mask=torch.ones(shape), **others)


def seq2seq_inputs(rows: int, source: int, target: int) -> dict[str, Any]:
    ids = torch.randint(5, 50, (rows, source))
    mask = torch.ones_like(ids)
    mask[0, 2:] = 0
    target_ids = torch.randint(5, 50, (rows, target))
    return {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": target_ids, "use_cache": False}


def prompt_inputs(time: int) -> dict[str, Any]:
    ids = torch.randint(5, 50, (2, time))
    mask = torch.ones_like(ids)
    mask[0, :2] = 0
    return {"input_ids": ids, "attention_mask": mask, "use_cache": False, "lang": "zh"}


@pytest.mark.filterwarnings("ignore")  # those of the exporter
@pytest.mark.parametrize("load", [dense, sparse, xalma])
def test_exported_graph_is_the_model_at_other_lengths(load: Any) -> None:
    """The graph of a sparse model runs all experts; neither leaves anything of itself in the model."""
    model: PreTrainedModel = load()
    if load is xalma:
        given, others = prompt_inputs(6), prompt_inputs(9)
        sizes: dict[str, Any] = {"input_ids": {1: ANY}, "attention_mask": {1: ANY}, "lang": None}
    else:
        given, others = seq2seq_inputs(2, 6, 5), seq2seq_inputs(3, 9, 4)
        sizes = {name: {0: ANY, 1: ANY} for name in given}
    graph = torch.export.export(model, (), given, dynamic_shapes={**sizes, "use_cache": None})
    with torch.inference_mode():
        torch.testing.assert_close(
            graph.module()(**others).logits, model(**others).logits, atol=1e-5, rtol=1e-5
        )


def test_training_graph_of_a_sparse_model_is_refused() -> None:
    with pytest.raises(Exception, match=r"only be exported for inference; call eval\(\)"):
        torch.export.export(sparse().train(), (), seq2seq_inputs(2, 6, 5))


@pytest.mark.filterwarnings("ignore")  # those of the compiler
@pytest.mark.parametrize("load", [dense, xalma])
@torch.no_grad()
def test_model_compiles_in_one_graph(load: Any) -> None:
    model = load()
    given = {**prompt_inputs(6), "lang": ["zh", "de"]} if load is xalma else seq2seq_inputs(2, 6, 5)
    wanted = model(**given).logits
    torch.compiler.reset()
    found = torch.compile(model, fullgraph=True, backend="eager")(**given).logits
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
