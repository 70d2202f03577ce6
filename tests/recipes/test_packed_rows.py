"""Rows of several examples: the embedded model's recipe for accelerators computes what the loop does."""

import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

from dragoman.models.config import NllbConfig
from dragoman.models.nllb import Nllb, initialize_
from dragoman.training.data import EOS, Example, assemble
from dragoman.training.objectives.translation import Translation

WIDTH = 24


@pytest.fixture(scope="module")
def recipe():
    folder = Path(__file__).parents[2] / "recipes" / "mini"
    sys.path.insert(0, str(folder))
    import packed_loss
    import packing

    yield packing, packed_loss
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def model() -> Nllb:
    torch.manual_seed(0)
    made = Nllb(
        NllbConfig(
            model_type="nllb-moe",
            vocab_size=90,
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=48,
            decoder_ffn_dim=48,
            encoder_sparse_step=2,
            decoder_sparse_step=2,
            num_experts=4,
            moe_token_dropout=0.2,
            dropout=0.0,
        )
    )
    initialize_(made, 0)
    for name, parameter in made.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, 0, 0.1)
    return made.eval()


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    rng = Random(1)

    def side() -> list[int]:
        return [rng.randrange(4, 80) for _ in range(rng.randrange(1, WIDTH - 3))]

    return [Example([80, *side(), EOS], [EOS, 81, *side(), EOS]) for _ in range(60)]


def test_every_example_is_in_one_row_and_whole(recipe, examples):
    packing, _ = recipe
    rows = packing.pack(examples, WIDTH)
    found = []
    for row in range(len(rows)):
        for number in range(1, rows.part[row].max() + 1):
            here, there = rows.source_part[row] == number, rows.part[row] == number
            source, inputs, gold = rows.source[row][here], rows.inputs[row][there], rows.gold[row][there]
            assert inputs[1:].tolist() == gold[:-1].tolist()
            assert rows.source_place[row][here].tolist() == list(range(len(source)))
            assert rows.place[row][there].tolist() == list(range(len(gold)))
            found.append((source.tolist(), [*inputs.tolist(), int(gold[-1])]))
    assert sorted(found) == sorted((e.source, e.target) for e in examples)
    assert len(rows) < len(examples) * 0.75


def test_loss_and_gradients_are_those_of_single_examples(recipe, model, examples):
    packing, packed_loss = recipe
    rows = [torch.from_numpy(a.astype(np.int64)) for a in packing.pack(examples, WIDTH).arrays()]
    model.zero_grad()
    packed = packed_loss.PackedLoss(model, smoothing=0.1, balance=0.0).eval()
    loss, nll, _ = packed(rows)
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    objective = Translation(1, smoothing=0.1)
    batch = assemble(examples)
    found = objective(model, batch)
    counts = objective.counts(batch)
    plain = sum(term / counts[name] for name, term in found.terms.items())
    plain.backward()
    torch.testing.assert_close(loss, plain, rtol=1e-5, atol=1e-6)
    assert float(nll) == pytest.approx(found.figures["loss"] / counts["tokens"], rel=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_all_experts_at_once_are_the_two_of_each_token(recipe, model):
    _, packed_loss = recipe
    ffn = model.encoder.layers[1].ffn
    tokens, keep = torch.randn(50, 32), torch.rand(50) > 0.2
    mixed, balance = packed_loss.mix_all(ffn, tokens, keep, training=False)
    plain, routing = ffn(tokens[None], keep[None])
    torch.testing.assert_close(mixed, plain[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(balance, routing.balance_loss(), rtol=1e-5, atol=1e-6)


def test_training_masks_whole_rows_of_experts(recipe, model, examples):
    packing, packed_loss = recipe
    rows = [torch.from_numpy(a.astype(np.int64)) for a in packing.pack(examples, WIDTH).arrays()]
    packed = packed_loss.PackedLoss(model, smoothing=0.1, balance=0.3)
    packed.train()
    torch.manual_seed(1)
    one = packed(rows)[0].detach()
    other = packed(rows)[0].detach()
    packed.eval()
    assert float(one) != float(other)
    assert torch.equal(packed(rows)[0], packed(rows)[0])
