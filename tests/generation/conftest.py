"""Models for generation: a toy that is cheap to enumerate, and the golden ones."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from dragoman.generation.hypotheses import Array
from dragoman.generation.scores import DenseScores
from dragoman.models.prompt import Prompt

if TYPE_CHECKING:
    from dragoman.models.nllb import Nllb

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


@dataclass
class ToyState:
    history: Array
    source: Array
    beams: int = 1

    def select(self, rows: Array, beams: int) -> None:
        assert len(rows) % beams == 0
        self.history, self.source = self.history[rows], self.source[rows]
        assert (self.source.reshape(-1, beams) == self.source[::beams, None]).all()
        self.beams = beams

    def join(self, other: "ToyState") -> None:
        assert self.beams == other.beams
        assert self.history.shape[1] >= 2
        assert other.history.shape[1] >= 2
        # Only the last two tokens count.
        self.history = np.concatenate([self.history[:, -2:], other.history[:, -2:]])
        self.source = np.concatenate([self.source, other.source])


@dataclass
class Toy:
    """A Markov chain of second order: logits are `table[first source token, last but one, last]`.

    table: [kinds, vocabulary, vocabulary, vocabulary]. Wrongly ordered rows give wrong results,
    as the history is the state's own.
    """

    table: Array
    rows: list[int] = field(default_factory=list)
    """How many rows each step had."""
    read: list[tuple[int, int]] = field(default_factory=list)
    """How many sentences were read together, and how long with padding."""
    before_begin: Callable[[Array], None] = lambda ids: None
    before_step: Callable[[ToyState], None] = lambda state: None

    def begin(self, prompt: Prompt) -> ToyState:
        input_ids, _ = prompt.read()
        self.before_begin(input_ids)
        self.read.append((len(input_ids), input_ids.shape[1]))
        return ToyState(np.zeros((len(input_ids), 0), np.int64), input_ids[:, 0])

    def step(self, tokens: Array, state: ToyState) -> DenseScores:
        self.before_step(state)
        self.rows.append(len(tokens))
        state.history = np.concatenate([state.history, tokens], 1)
        return DenseScores(self.logits(state.source, state.history))

    def state_bytes(self, source_tokens: int, new_tokens: int, beams: int) -> int:
        return source_tokens + beams * new_tokens

    def logits(self, source: Array, history: Array) -> Array:
        return self.table[source, history[:, -2], history[:, -1]]


@pytest.fixture(scope="session")
def toy() -> Callable[..., Toy]:
    """Makes a toy of random tables, or of the given one."""

    def make(kinds: int = 4, vocabulary: int = 4, seed: int = 0, table: Array | None = None) -> Toy:
        if table is None:
            shape = (kinds, vocabulary, vocabulary, vocabulary)
            table = 1.5 * np.random.default_rng(seed).standard_normal(shape, np.float32)
        return Toy(table)

    return make


@pytest.fixture(scope="session")
def golden() -> "Callable[[str], Nllb]":
    """The golden model of a name."""
    pytest.importorskip("torch")
    from dragoman.checkpoints.nllb import load_nllb

    return cache(lambda name: load_nllb(GOLDEN / name))


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    return GOLDEN


@pytest.fixture(scope="session")
def sources() -> tuple[Array, Array]:
    """Seven sources of different lengths for the golden models, padded, and which tokens are real."""
    # A seed whose translations differ in length, so that sentences leave the batch one by one.
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(4)
    lengths = [4, 11, 7, 2, 9, 5, 11]
    ids = torch.ones(len(lengths), max(lengths), dtype=torch.long)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(3, 112, (length,), generator=generator)
        ids[row, length - 1] = 2
    return ids.numpy(), (ids != 1).numpy()
