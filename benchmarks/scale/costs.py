"""Bytes and operations of published models: how long a step takes, how many experts it needs, what travels.

A step is one more token of the whole batch, a row is a hypothesis. Times are a roofline (Williams, Waterman
and Patterson, 2009): what memory needs for the bytes, or the processor for the operations, if that is more.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BYTES = {"fp32": 4.0, "fp16": 2.0, "int8": 1.0, "int4": 0.5625}
"""Of a weight; int4 with a scale of 16 bits for each 32."""
SCREEN = {"fp32": 2.0, "fp16": 2.0, "int8": 1.0, "int4": 1.0}
"""Of a number of the output layer in the pass over all tokens."""


@dataclass(frozen=True)
class Model:
    """The shape of a model, in numbers of its config."""

    name: str
    width: int
    inner: int
    decoder: int
    encoder: int = 0
    vocabulary: int = 256_206
    experts: int = 0
    sparse: int = 0
    """Layers with experts on each side."""
    is_llama: bool = False

    @property
    def expert(self) -> float:
        """Weights of an expert, or of a dense layer's MLP."""
        return (3 if self.is_llama else 2) * self.width * self.inner

    def step_bytes(self, rows: int, precision: str, shares: Sequence[float] | None = None) -> float:
        """What a step of so many rows reads. shares: of tokens by expert; even if not given."""
        dense = self.decoder * self._attention + (self.decoder - self.sparse) * self.expert
        needed = (
            distinct(shares or [1 / self.experts] * self.experts, rows) * self.sparse if self.experts else 0.0
        )
        weights = dense + needed * self.expert
        return weights * BYTES[precision] + self._head * (
            BYTES[precision] if self.is_llama else SCREEN[precision]
        )

    def step_operations(self, rows: int) -> float:
        """Multiplications and additions of a step of so many rows."""
        mlps = self.decoder + self.sparse  # two experts where there are some
        return 2.0 * rows * (self.decoder * self._attention + mlps * self.expert + self._head)

    def encoder_operations(self, tokens: int) -> float:
        """Of reading so many tokens of sources or prompts, but for products of tokens with tokens."""
        layers = self.decoder if self.is_llama else self.encoder
        each = layers * 4 * self.width**2 + (layers + self.sparse) * self.expert
        return 2.0 * tokens * each

    def weights(self) -> float:
        """All of them."""
        mlps = (
            self.decoder
            + self.encoder
            - 2 * self.sparse * bool(self.experts)
            + 2 * self.sparse * self.experts
        )
        attention = self.decoder * (4 if self.is_llama else 8) + self.encoder * 4
        tables = 2 if self.is_llama else 1
        return attention * self.width**2 + mlps * self.expert + tables * self._head

    @property
    def _attention(self) -> float:
        """Weights of a decoder layer's attention that a step reads; the source's keys are there."""
        return (4 if self.is_llama else 6) * self.width**2

    @property
    def _head(self) -> float:
        return float(self.vocabulary * self.width)


@dataclass(frozen=True)
class Processor:
    """What some cores can do together."""

    bandwidth: float
    """Bytes of memory a second."""
    operations: float
    """A second."""

    def step(self, model: Model, rows: int, precision: str) -> float:
        """Seconds of a step."""
        return max(
            model.step_bytes(rows, precision) / self.bandwidth, model.step_operations(rows) / self.operations
        )

    def sentence(self, model: Model, precision: str, batch: int, beams: int, tokens: int) -> float:
        """Seconds of a sentence in a full batch, with as many tokens in as out."""
        step = self.step(model, batch * beams, precision)
        return step * tokens / batch + model.encoder_operations(tokens) / self.operations

    @classmethod
    def fitted(
        cls, model: Model, precision: str, few: tuple[int, float], many: tuple[int, float]
    ) -> "Processor":
        """From two measured steps (rows, seconds): one that waits for memory and one that computes."""
        return cls(model.step_bytes(few[0], precision) / few[1], model.step_operations(many[0]) / many[1])


MODELS = {
    model.name: model
    for model in (
        Model("NLLB-600M", 1024, 4096, 12, 12),
        Model("NLLB-3.3B", 2048, 8192, 24, 24),
        Model("NLLB-MoE, 32 experts", 1024, 4096, 12, 12, experts=32, sparse=3),
        Model("NLLB-MoE 54B", 2048, 8192, 24, 24, experts=128, sparse=6),
        Model("Llama-2-13B, 8 layers", 5120, 13824, 8, vocabulary=32_000, is_llama=True),
        Model("X-ALMA", 5120, 13824, 40, vocabulary=32_000, is_llama=True),
    )
}


def distinct(shares: Sequence[float], tokens: float, choices: int = 2) -> float:
    """How many experts of a layer some tokens need, on the average, were their choices independent.

    shares: of all choices, by expert. An expert is left out by a token's choices with 1 - choices * share.
    """
    each = np.minimum(choices * np.asarray(shares, float), 1.0)
    return float(np.sum(1 - (1 - each) ** tokens))


def read_again(shares: Sequence[float], slots: int, tokens: float) -> float:
    """How many experts of a layer a pass must read, on the average, if the likeliest are kept."""
    return distinct(np.sort(np.asarray(shares, float))[::-1][slots:].tolist(), tokens)


def hit_rate(shares: Sequence[float], slots: int) -> float:
    """The share of choices whose expert is among those kept, if these are the likeliest."""
    return float(np.sort(np.asarray(shares, float))[::-1][:slots].sum() / np.sum(shares))


def skew(experts: int, exponent: float) -> list[float]:
    """Shares that fall as 1 / rank^exponent: 0 for a router that chooses evenly."""
    weights = np.arange(1, experts + 1) ** -float(exponent)
    return (weights / weights.sum()).tolist()


def exchanged(model: Model, tokens: int, ranks: int, bytes_: float = 4.0) -> float:
    """Bytes that each rank sends for one side's sparse layers: there and back, to two experts a token."""
    return 4.0 * tokens * (ranks - 1) / ranks**2 * model.width * bytes_ * model.sparse
