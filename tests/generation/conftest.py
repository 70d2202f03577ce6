"""Models for generation: a toy that is cheap to enumerate, and the golden ones."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dragoman.checkpoints.nllb import load_nllb
from dragoman.models.nllb import Nllb
from dragoman.models.prompt import Prompt

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


@dataclass
class ToyState:
    history: Tensor
    source: Tensor
    beams: int = 1

    def select(self, rows: Tensor, beams: int) -> None:
        assert len(rows) % beams == 0
        self.history, self.source = self.history[rows], self.source[rows]
        assert bool((self.source.view(-1, beams) == self.source[::beams, None]).all())
        self.beams = beams

    def join(self, other: "ToyState") -> None:
        assert self.beams == other.beams
        assert self.history.shape[1] >= 2
        assert other.history.shape[1] >= 2
        # Only the last two tokens count.
        self.history = torch.cat([self.history[:, -2:], other.history[:, -2:]])
        self.source = torch.cat([self.source, other.source])


@dataclass
class Toy:
    """A Markov chain of second order: logits are `table[first source token, last but one, last]`.

    table: [kinds, vocabulary, vocabulary, vocabulary]. Wrongly ordered rows give wrong results,
    as the history is the state's own.
    """

    table: Tensor
    rows: list[int] = field(default_factory=list)
    """How many rows each step had."""
    read: list[tuple[int, int]] = field(default_factory=list)
    """How many sentences were read together, and how long with padding."""
    before_begin: Callable[[Tensor], None] = lambda ids: None
    before_step: Callable[[ToyState], None] = lambda state: None

    def begin(self, prompt: Prompt) -> ToyState:
        input_ids, _ = prompt.read()
        self.before_begin(input_ids)
        self.read.append((len(input_ids), input_ids.shape[1]))
        return ToyState(torch.zeros(len(input_ids), 0, dtype=torch.long), input_ids[:, 0])

    def step(self, tokens: Tensor, state: ToyState) -> Tensor:
        self.before_step(state)
        self.rows.append(len(tokens))
        state.history = torch.cat([state.history, tokens], 1)
        return self.logits(state.source, state.history)

    def state_bytes(self, source_tokens: int, new_tokens: int, beams: int) -> int:
        return source_tokens + beams * new_tokens

    def logits(self, source: Tensor, history: Tensor) -> Tensor:
        return self.table[source, history[:, -2], history[:, -1]]


@pytest.fixture(scope="session")
def toy() -> Callable[..., Toy]:
    """Makes a toy of random tables, or of the given one."""

    def make(kinds: int = 4, vocabulary: int = 4, seed: int = 0, table: Tensor | None = None) -> Toy:
        if table is None:
            shape = (kinds, vocabulary, vocabulary, vocabulary)
            table = 1.5 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        return Toy(table)

    return make


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Nllb]:
    """The golden model of a name."""
    return cache(lambda name: load_nllb(GOLDEN / name))


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    return GOLDEN


@pytest.fixture(scope="session")
def sources() -> tuple[Tensor, Tensor]:
    """Seven sources of different lengths for the golden models, padded, and which tokens are real."""
    # A seed whose translations differ in length, so that sentences leave the batch one by one.
    generator = torch.Generator().manual_seed(4)
    lengths = [4, 11, 7, 2, 9, 5, 11]
    ids = torch.ones(len(lengths), max(lengths), dtype=torch.long)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(3, 112, (length,), generator=generator)
        ids[row, length - 1] = 2
    return ids, ids != 1
