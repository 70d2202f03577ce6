from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dragoman.checkpoints.nllb import load_nllb
from dragoman.layers.moe import SparseMLP
from dragoman.models.config import NllbConfig
from dragoman.models.nllb import Nllb, Trace, initialize_
from dragoman.models.prompt import Prompt

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
ALL = ["nllb_dense", "nllb_moe_base", "nllb_moe_capacity", "nllb_moe_drop"]
EVERY_GOLDEN = pytest.mark.parametrize("name", ALL)
# Those that drop no tokens; in the others what a token gets depends on its batch.
DROPLESS = pytest.mark.parametrize("name", ALL[:2])
CLOSE = {"atol": 1e-4, "rtol": 0.0}


@cache
def golden(name: str) -> tuple[Nllb, dict[str, Tensor], Tensor]:
    """The model, its cases, and which source tokens are real."""
    cases = load_file(GOLDEN / name / "cases.safetensors")
    return load_nllb(GOLDEN / name), cases, cases["attention_mask"].bool()


def small(**changes: object) -> Nllb:
    config = replace(NllbConfig.from_folder(GOLDEN / "nllb_moe_base"), num_experts=4, **changes)
    model = Nllb(config)
    initialize_(model, seed=1)
    return model


@torch.no_grad()
@EVERY_GOLDEN
def test_logits_and_hidden_states_are_those_of_transformers(name: str) -> None:
    model, cases, keep = golden(name)
    encoded = model.encoder(cases["input_ids"], keep)
    torch.testing.assert_close(encoded[keep], cases["encoder_last_hidden_state"][keep], **CLOSE)
    logits = model(cases["input_ids"], cases["decoder_input_ids"], keep)
    torch.testing.assert_close(logits, cases["logits"], **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("name", ALL[1:])
def test_routing_is_that_of_transformers(name: str) -> None:
    model, cases, keep = golden(name)
    traces = {"encoder": Trace(), "decoder": Trace()}
    model(
        cases["input_ids"],
        cases["decoder_input_ids"],
        keep,
        encoder_trace=traces["encoder"],
        decoder_trace=traces["decoder"],
    )
    for stack, trace in traces.items():
        sparse = [layer for layer in getattr(model, stack).layers if isinstance(layer.ffn, SparseMLP)]
        assert len(trace.routings) == len(sparse) > 0
        for layer, routing in enumerate(trace.routings):
            expected = cases[f"{stack}_combine_weights_{layer}"]
            torch.testing.assert_close(routing.combine_weights(), expected, **CLOSE)
            # The stored first choice is 0 where that was dropped, or the token is padding.
            survived = routing.weights[:, 0] > 0
            first = cases[f"{stack}_top1_{layer}"]
            assert torch.equal(routing.experts[survived, 0], first[survived])
            assert not first[~survived].any()


@torch.no_grad()
@DROPLESS
def test_padding_and_batch_mates_do_not_change_logits(name: str) -> None:
    model, cases, keep = golden(name)
    together = model(cases["input_ids"], cases["decoder_input_ids"], keep)
    for row in range(len(keep)):
        source = cases["input_ids"][row, keep[row]][None]
        alone = model(source, cases["decoder_input_ids"][row : row + 1])
        torch.testing.assert_close(alone[0], together[row], **CLOSE)
        wider = torch.nn.functional.pad(source, (0, 9), value=1)
        padded = model(wider, cases["decoder_input_ids"][row : row + 1], wider != 1)
        torch.testing.assert_close(padded, alone, **CLOSE)


@torch.no_grad()
@DROPLESS
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_of_the_target_does_not_change_logits(name: str, side: str) -> None:
    model, cases, keep = golden(name)
    target = cases["decoder_input_ids"]
    logits = model(cases["input_ids"], target, keep)
    padded = torch.nn.functional.pad(target, (4, 0) if side == "left" else (0, 4), value=1)
    real = padded != 1
    found = model(cases["input_ids"], padded, keep, real)
    assert found.isfinite().all()
    torch.testing.assert_close(found[real], logits.flatten(0, 1), **CLOSE)


@torch.no_grad()
@DROPLESS
@pytest.mark.parametrize("chunks", [[1] * 6, [2, 1, 3], [4, 2], [6]], ids=str)
def test_cached_equals_uncached(name: str, chunks: list[int]) -> None:
    model, cases, keep = golden(name)
    target = cases["decoder_input_ids"]
    logits = model(cases["input_ids"], target, keep)
    state = model.begin(Prompt(cases["input_ids"].numpy(), keep.numpy()))
    end = 0
    for chunk in chunks:
        found = torch.from_numpy(model.step(target[:, end : end + chunk].numpy(), state).logits())
        end += chunk
        torch.testing.assert_close(found, logits[:, end - 1], **CLOSE)


@torch.no_grad()
@DROPLESS
def test_cached_equals_uncached_behind_left_padding(name: str) -> None:
    model, cases, keep = golden(name)
    target = cases["decoder_input_ids"].clone()
    real = torch.arange(target.shape[1]) >= torch.tensor([[0], [2], [3]])
    target[~real] = 1
    encoded = model.encoder(cases["input_ids"], keep)
    whole = model.decoder(target, encoded, keep, real)
    cache_ = model.begin(Prompt(cases["input_ids"].numpy(), keep.numpy())).cache
    for end, new in ((2, 2), (3, 1), (6, 3)):
        part = slice(end - new, end)
        found = model.decoder(target[:, part], encoded, keep, real[:, :end], cache_)
        assert found.isfinite().all()
        torch.testing.assert_close(found[real[:, part]], whole[:, part][real[:, part]], **CLOSE)


# Each move: which of the present rows stay, and how many rows each sentence has then.
REORDERINGS = [
    [([0, 0, 1, 1, 2, 2], 2), ([1, 0, 2, 2, 5, 4], 2), ([5, 5, 0, 1], 2), ([3, 2], 2), ([0], 1)],
    [([2, 0], 1), ([1, 1, 1, 0, 0, 0], 3), ([2, 0, 0, 5, 3, 4], 3), ([4, 3, 5], 3)],
    [([0, 1, 2], 1), ([0, 1, 2], 1), ([2, 1, 0], 1)],
]


@torch.no_grad()
@DROPLESS
@pytest.mark.parametrize("moves", REORDERINGS, ids=["beams", "drop first", "plain"])
@pytest.mark.parametrize("early", [False, True], ids=["after a step", "before any step"])
def test_select_widens_reorders_and_drops_rows(
    name: str, moves: list[tuple[list[int], int]], early: bool
) -> None:
    model, cases, keep = golden(name)
    generator = torch.Generator().manual_seed(0)
    origin = [0, 1, 2]
    history = torch.full((3, 0), 2)
    state = model.begin(Prompt(cases["input_ids"].numpy(), keep.numpy()))
    if not early:
        history = torch.full((3, 1), 2)
        model.step(history.numpy(), state)
    for rows, beams in moves:
        state.select(np.array(rows), beams)
        new = torch.randint(3, 100, (len(rows), 1), generator=generator)
        history, origin = torch.cat([history[rows], new], 1), [origin[row] for row in rows]
        found = torch.from_numpy(model.step(new.numpy(), state).logits())
        afresh = model(cases["input_ids"][origin], history, keep[origin])[:, -1]
        torch.testing.assert_close(found, afresh, **CLOSE)


@torch.no_grad()
@EVERY_GOLDEN
def test_eval_twice_is_the_same(name: str) -> None:
    model, cases, keep = golden(name)
    first, second = (model(cases["input_ids"], cases["decoder_input_ids"], keep) for _ in range(2))
    assert torch.equal(first, second)


@torch.no_grad()
@DROPLESS
def test_trace_shows_hidden_states_and_attention_without_changing_them(name: str) -> None:
    model, cases, keep = golden(name)
    want = frozenset({"hidden", "attention"})
    encoder, decoder = Trace(want), Trace(want)
    arguments = cases["input_ids"], cases["decoder_input_ids"], keep
    logits = model(*arguments, encoder_trace=encoder, decoder_trace=decoder)
    torch.testing.assert_close(logits, cases["logits"], **CLOSE)
    layers, heads = len(model.encoder.layers), model.config.encoder_attention_heads
    (batch, source), target = keep.shape, arguments[1].shape[1]
    assert [x.shape for x in encoder.hidden] == [(batch, source, model.config.d_model)] * (layers + 1)
    assert torch.equal(model.lm_head(decoder.hidden[-1]), logits)
    shapes = {
        (heads, source, source): encoder.self_attention,
        (heads, target, target): decoder.self_attention,
        (heads, target, source): decoder.cross_attention,
    }
    for shape, weights in shapes.items():
        assert [w.shape for w in weights] == [(batch, *shape)] * layers
        for w in weights:
            torch.testing.assert_close(w.sum(-1), torch.ones(w.shape[:-1]))
    assert not any(w[~keep[:, None, None, :].expand_as(w)].any() for w in decoder.cross_attention)
    assert not any(w.triu(1).any() for w in decoder.self_attention)
    assert not Trace().hidden


@torch.no_grad()
@DROPLESS
def test_embedded_input_stands_in_for_ids(name: str) -> None:
    model, cases, keep = golden(name)
    encoded = model.encoder(None, keep, embedded=model.shared(cases["input_ids"]))
    torch.testing.assert_close(encoded[keep], cases["encoder_last_hidden_state"][keep], **CLOSE)
    target = model.shared(cases["decoder_input_ids"])
    hidden = model.decoder(None, encoded, keep, embedded=target)
    torch.testing.assert_close(model.lm_head(hidden), cases["logits"], **CLOSE)


@torch.no_grad()
def test_decoder_runs_without_a_source() -> None:
    model, cases, _ = golden("nllb_moe_base")
    hidden = model.decoder(cases["decoder_input_ids"], None)
    assert hidden.isfinite().all()
    assert hidden.shape == (3, 6, 64)


def test_embedding_and_output_are_one_parameter_if_tied() -> None:
    tied, untied = small(), small(tie_word_embeddings=False)
    assert tied.lm_head.weight is tied.shared.weight
    assert tied.encoder.embed_tokens is tied.decoder.embed_tokens is tied.shared
    assert untied.lm_head.weight is not untied.shared.weight
    assert len(list(untied.parameters())) == len(list(tied.parameters())) + 1


def test_initialisation_follows_its_seed_and_fills_every_parameter() -> None:
    one, same = small(router_bias=True), small(router_bias=True)
    other = Nllb(one.config)
    for parameter in other.parameters():
        parameter.data.fill_(float("nan"))
    initialize_(other, seed=2)
    for (name, a), b, c in zip(one.named_parameters(), same.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert c.isfinite().all()
        assert a.dim() == 1 or not torch.equal(a, c), name
    assert not one.shared.weight[one.config.pad_token_id].any()
    assert float(one.shared.weight.detach().std()) == pytest.approx(64**-0.5, rel=0.05)


def test_training_starts_with_nearly_even_routing() -> None:
    model = small()
    trace = Trace()
    model.encoder(torch.randint(3, 100, (8, 40), generator=torch.Generator().manual_seed(0)), None, trace)
    for routing in trace.routings:
        assert float(routing.logits.detach().softmax(-1).max()) < 0.6
        assert float(routing.balance_loss().detach()) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("field", ["dropout", "attention_dropout", "activation_dropout", "moe_token_dropout"])
def test_each_regulariser_acts_in_training_only(field: str) -> None:
    _, cases, keep = golden("nllb_moe_base")
    none = dict.fromkeys(["dropout", "attention_dropout", "activation_dropout", "moe_token_dropout"], 0.0)
    model = small(**none | {field: 0.5})
    arguments = cases["input_ids"], cases["decoder_input_ids"], keep
    quiet = model.eval()(*arguments)
    assert torch.equal(model(*arguments), quiet)
    torch.manual_seed(0)
    first, second = model.train()(*arguments), model(*arguments)
    assert not torch.allclose(first, second)
    silent = small(**none).train()
    assert torch.equal(silent(*arguments), silent(*arguments))


def test_dropped_layers_are_skipped_in_training_only() -> None:
    model = small(encoder_layerdrop=1.0, decoder_layerdrop=1.0, dropout=0.0)
    ran: list[str] = []
    for stack in (model.encoder, model.decoder):
        for layer in stack.layers:
            layer.register_forward_hook(lambda *_: ran.append("layer"))
    ids = torch.tensor([[5, 6, 2]])
    model.train()(ids, ids)
    assert not ran
    model.eval()(ids, ids)
    assert len(ran) == 8


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    _, cases, keep = golden("nllb_moe_base")
    gradients = []
    for saving in (False, True):
        model = small(dropout=0.0, attention_dropout=0.0, moe_token_dropout=0.0).train()
        for stack in (model.encoder, model.decoder):
            stack.gradient_checkpointing = saving
            stack._gradient_checkpointing_func = lambda *args: checkpoint(*args, use_reentrant=False)
        model(cases["input_ids"], cases["decoder_input_ids"], keep).square().mean().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert len(gradients[0]) > 50
    torch.testing.assert_close(gradients[0], gradients[1])


@torch.no_grad()
def test_half_precision_saturates_instead_of_overflowing() -> None:
    model = small().eval().half()
    for layer in model.encoder.layers:
        block = layer.ffn.experts["expert_0"] if isinstance(layer.ffn, SparseMLP) else layer.ffn
        block.fc2.bias.fill_(60_000)
    ids = torch.randint(3, 100, (2, 7), generator=torch.Generator().manual_seed(0))
    assert model.encoder(ids, None).isfinite().all()


@torch.no_grad()
def test_bfloat16_stays_near() -> None:
    _, cases, keep = golden("nllb_dense")
    model = load_nllb(GOLDEN / "nllb_dense", dtype=torch.bfloat16)
    logits = model(cases["input_ids"], cases["decoder_input_ids"], keep)
    assert logits.dtype == torch.bfloat16
    expected = cases["logits"]
    assert float((logits.float() - expected).norm() / expected.norm()) < 0.1
