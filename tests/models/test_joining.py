"""Rows that join a batch at any time have the logits they would have alone."""

import random
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dragoman.checkpoints.llama import load_xalma
from dragoman.checkpoints.nllb import load_nllb
from dragoman.layers.cache import Slots
from dragoman.models.llama import Llama
from dragoman.models.llama_config import LlamaConfig
from dragoman.models.nllb import Nllb
from dragoman.models.prompt import Prompt
from dragoman.models.scores import TorchScores

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
CLOSE = {"atol": 1e-4, "rtol": 1e-4}
LLAMA = {
    "model_type": "llama",
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 24,
    "pad_token_id": 0,
}


@cache
def model_of(name: str) -> Nllb | Llama:
    if name.startswith("nllb"):
        return load_nllb(GOLDEN / name)
    if name == "xalma":
        return load_xalma(GOLDEN / "xalma")
    scaling = {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}} if name == "dynamic" else {}
    torch.manual_seed(0)
    model = Llama(LlamaConfig.from_dict(LLAMA | scaling))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(1 if parameter.dim() == 1 else 0, 0.3 if parameter.dim() == 1 else 0.15)
    return model.eval()


class Rows:
    """A state under way, beside what each of its rows has been fed: what it should be like."""

    def __init__(self, name: str, lengths: list[int], beams: int, chance: random.Random) -> None:
        """New sentences after their first step, each with `beams` rows."""
        self.name, self.beams, self.chance = name, beams, chance
        sources = [[chance.randrange(3, 90) for _ in range(length)] for length in lengths]
        groups = [chance.choice((6, 1, 3, 0)) for _ in sources]
        model = model_of(name)
        ids, keep = self.padded(sources)
        if isinstance(model, Nllb):
            self.state: Any = model.begin(Prompt(ids, keep))
            self.fed = [[2, 12] for _ in sources]
            first = np.array(self.fed)
        else:
            self.state = model.begin(Prompt(keep=keep, groups=groups if name == "xalma" else None))
            self.fed, first = [[] for _ in sources], ids
        self.known = list(zip(sources, groups, strict=True))
        self.check(model.step(first, self.state))
        self.select([row for row in range(len(sources)) for _ in range(beams)], beams)

    def padded(self, rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
        width, left = max(map(len, rows)), not self.name.startswith("nllb")
        ids = np.zeros((len(rows), width), np.int64)
        keep = np.zeros((len(rows), width), bool)
        for row, tokens in enumerate(rows):
            place = slice(width - len(tokens), None) if left else slice(None, len(tokens))
            ids[row, place], keep[row, place] = tokens, True
        return ids, keep

    def check(self, scores: TorchScores) -> None:
        """Each row against a pass over all it has read, alone."""
        model, logits = model_of(self.name), torch.from_numpy(scores.logits())
        with torch.inference_mode():
            for found, (source, group), fed in zip(logits, self.known, self.fed, strict=True):
                if isinstance(model, Nllb):
                    whole = model(torch.tensor([source]), torch.tensor([fed]))
                else:
                    groups = [group] if self.name == "xalma" else None
                    whole = model(torch.tensor([source + fed]), groups=groups)
                torch.testing.assert_close(found, whole[0, -1], **CLOSE)

    def select(self, rows: list[int], beams: int) -> None:
        self.state.select(np.array(rows, np.int64), beams)
        self.known = [self.known[row] for row in rows]
        self.fed = [list(self.fed[row]) for row in rows]

    def step(self, new: int = 1) -> None:
        tokens = [[self.chance.randrange(3, 90) for _ in range(new)] for _ in self.fed]
        for fed, more in zip(self.fed, tokens, strict=True):
            fed += more
        self.check(model_of(self.name).step(np.array(tokens), self.state))

    def reorder(self) -> None:
        """Beams of a sentence at random, sentences in a new order, some of them gone."""
        sentences = list(range(len(self.known) // self.beams))
        left = self.chance.sample(sentences, self.chance.randint(1, len(sentences)))
        if self.chance.random() < 0.5:
            left.sort()
        rows = [s * self.beams + self.chance.randrange(self.beams) for s in left for _ in range(self.beams)]
        self.select(rows, self.beams)

    def join(self, other: "Rows") -> None:
        self.state.join(other.state)
        self.known += other.known
        self.fed += other.fed


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", ["nllb_dense", "nllb_moe_base", "llama", "dynamic", "xalma"])
@pytest.mark.parametrize("seed", range(3))
def test_joined_rows_have_the_logits_they_have_alone(name: str, beams: int, seed: int) -> None:
    chance = random.Random(seed)

    def lengths() -> list[int]:
        return [chance.randint(1, 9) for _ in range(chance.randint(1, 3))]

    rows = Rows(name, lengths(), beams, chance)
    for _ in range(8):
        action = chance.choice(("step", "step", "join", "join", "reorder", "several"))
        if action == "join":
            other = Rows(name, lengths(), beams, chance)
            for _ in range(chance.randint(0, 4)):
                other.step()
            rows.join(other)
        elif action == "reorder":
            rows.reorder()
        rows.step(2 if action == "several" else 1)


def test_rows_of_one_length_need_no_mask_again_once_the_others_have_left() -> None:
    rows = Rows("nllb_dense", [5, 5], 2, random.Random(0))
    rows.step()
    rows.join(Rows("nllb_dense", [9], 2, random.Random(1)))
    assert rows.state.own_mask(1).shape == (6, 1, 1, 4)
    assert rows.state.source_mask.shape == (3, 1, 1, 9)
    rows.step()
    rows.select([0, 1, 2, 3], 2)
    assert rows.state.own_mask(1) is None
    assert rows.state.source_mask is None
    rows.step()


def test_room_that_only_the_longest_needed_is_given_back() -> None:
    rows = Rows("nllb_dense", [20], 1, random.Random(0))
    for _ in range(6):
        rows.step()
    rows.join(Rows("nllb_dense", [3], 1, random.Random(1)))
    assert rows.state.cache.length == 8
    assert rows.state.cache.sources[0][0].shape[2] == 20
    rows.select([1], 1)
    assert rows.state.cache.length == 2
    assert rows.state.cache.sources[0][0].shape[2] == 3
    rows.step()
    prompts = Rows("llama", [12], 3, random.Random(0))
    prompts.join(Rows("llama", [4], 3, random.Random(1)))
    prompts.step()
    prompts.select([3, 4, 5], 3)
    assert prompts.state.cache.shared_length == 4
    prompts.step()


def test_what_fills_a_shorter_row_is_no_garbage() -> None:
    # Uninitialised memory may hold what is no number, which a weight of zero doesn't silence.
    slots, other = Slots(1, [0]), Slots(1, [0])
    for target, time in ((slots, 2), (other, 5)):
        part = torch.full((1, 1, time, 2), float("nan"))
        target.write(0, part, part)
    slots.join(other, 1)
    key, _ = slots.views()[0] or ()
    assert key.shape == (2, 1, 5, 2)
    assert key[0, 0, :3].eq(0).all()
    assert key[0, 0, 3:].isnan().all()
    assert slots.lengths == [2, 5]
    assert slots.visible(1, 1, key.device)[:, 0, 0].tolist() == [[False] * 3 + [True] * 3, [True] * 6]


@pytest.mark.parametrize(("name", "each"), [("nllb_dense", 2 * 4 * 64 * 4), ("llama", 2 * 2 * 32 * 4)])
def test_state_takes_about_the_bytes_that_were_announced(name: str, each: int) -> None:
    model = model_of(name)
    assert model.state_bytes(10, 0, 1) - model.state_bytes(0, 0, 1) == 10 * each
    assert model.state_bytes(0, 7, 3) - model.state_bytes(0, 0, 3) == 21 * each
    scores = 3 * model.config.vocab_size * 4
    rows = Rows(name, [9, 9], 3, random.Random(0))
    for _ in range(5):
        rows.step()
    cache = rows.state.cache
    held = [*cache.own.pairs, *(cache.sources if name.startswith("nllb") else cache.shared)]
    taken = sum(part.numel() * part.element_size() for pair in held if pair for part in pair)
    assert taken <= 2 * (model.state_bytes(9, 7, 3) - scores) <= 1.5 * taken
