"""Batches of parallel text: drawn from parts, changed, encoded, sorted by length."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dragoman.training.augmentation import copying
from dragoman.training.augmentation.examples import Augmentation
from dragoman.training.augmentation.phrases import WRITINGS, phrase
from dragoman.training.mixture import Draw, Mixture, part_weights
from dragoman.training.parts import Part

PAD, EOS = 1, 2


class Encoder(Protocol):
    """Cuts text into pieces."""

    def encode_pieces(self, texts: Sequence[str]) -> list[list[int]]: ...


@dataclass(frozen=True)
class Example:
    """A directed pair: token ids with languages and `</s>`."""

    source: list[int]
    """`[language] pieces </s>`"""
    target: list[int]
    """`</s> [language] pieces </s>`"""


@dataclass(frozen=True)
class Batch:
    """source: [batch, time]; target: [batch, time] starting with </s>; both padded on the right."""

    source: Tensor
    target: Tensor

    def __len__(self) -> int:
        return len(self.source)

    def to(self, device: torch.device) -> "Batch":
        return Batch(self.source.to(device), self.target.to(device))


@dataclass(frozen=True)
class Position:
    """How far a run has read: all that it needs to go on where it was."""

    round: int = 0
    batch: int = 0
    phase: int = 0
    """Of a curriculum: whose rounds these are."""


class Batches:
    """Batches of both directions of every part, in endless rounds, the same for the same seed.

    A round is a number of examples, each part's share of them, and all pairs of a part come before one
    comes again. Its batches hold examples of like length, of all directions, up to `batch_tokens`
    padded tokens. An example depends on the seed, the round and its place in it alone.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        encoder: Encoder,
        language_ids: Mapping[str, int],
        batch_tokens: int,
        max_tokens: int,
        balance: float = 1.0,
        seed: int = 1,
        augmentation: Augmentation | None = None,
        round_examples: int = 16384,
        ratios: Mapping[str, float] | None = None,
    ) -> None:
        """balance: a language of n pairs gets a share proportional to n**balance; ratios: to its number."""
        self.parts, self.encoder, self.language_ids = list(parts), encoder, language_ids
        self.batch_tokens, self.max_tokens = batch_tokens, max_tokens
        self.seed, self.augmentation, self.round_examples = seed, augmentation, round_examples
        weights = part_weights(self.parts, balance, ratios, MADE_UP)
        self.mixture = Mixture(self.parts, weights, seed, round_examples)

    @property
    def pad(self) -> int:
        return PAD

    def fingerprint(self) -> str:
        """Differs where the examples would: a run that finds another one begins a new round."""
        facts = self.mixture.facts()
        options = self.augmentation and self.augmentation.options
        text = repr((facts, options, self.seed, self.round_examples, self.batch_tokens, self.max_tokens))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def round(self, number: int) -> list[Batch]:
        """The batches of a round. Examples with an empty or overlong side are left out."""
        examples = self.examples(number)
        rng = np.random.default_rng((self.seed, number))
        batches = cut(examples, self.batch_tokens, rng)
        rng.shuffle(batches)
        return [assemble(batch) for batch in batches]

    def examples(self, number: int) -> list[Example]:
        """Those of a round, in order of their parts."""
        return self._encoded([self.texts(draw) for draw in self.mixture.round(number)])

    def texts(self, draw: Draw) -> tuple[str, str, str, str]:
        """Source, target and their languages of a drawn example."""
        part, rng = self.parts[draw.part], draw.rng
        codes = part.code, part.other
        source = rng.randrange(2)
        pair = part.pairs[self.mixture.row(draw)] if part.pairs else self._any(part, rng)
        texts = pair[source], pair[1 - source]
        if self.augmentation is not None:
            texts = self.augmentation.example(pair, codes, source, rng, lambda draw: self._any(part, draw))
        return *texts, codes[source], codes[1 - source]

    def _any(self, part: Part, rng: Random) -> tuple[str, str]:
        if part.pairs:
            return part.pairs[rng.randrange(len(part))]
        return MADE_UP[part.name](part.code, rng)

    def _encoded(self, texts: list[tuple[str, str, str, str]]) -> list[Example]:
        sides = [self.encoder.encode_pieces([row[side] for row in texts]) for side in (0, 1)]
        ids = self.language_ids
        return [
            Example([ids[row[2]], *source, EOS], [EOS, ids[row[3]], *target, EOS])
            for row, source, target in zip(texts, *sides, strict=True)
            if 0 < len(source) <= self.max_tokens and 0 < len(target) <= self.max_tokens
        ]


MADE_UP = {"phrases": phrase, "copies": lambda _, rng: copying.pure(rng)}
"""Parts without pairs, by name."""


def can_make_up(name: str, code: str) -> bool:
    """Whether a part without pairs can be made up in a language: phrases need its tables."""
    return name != "phrases" or code in WRITINGS


def cut(examples: list[Example], batch_tokens: int, rng: np.random.Generator) -> list[list[Example]]:
    """Examples of like length together, as many as `batch_tokens` padded tokens take."""
    source = np.array([len(example.source) for example in examples])
    target = np.array([len(example.target) for example in examples])
    # By the longer side first, since both sides pay for it; equals in random order.
    order = np.lexsort((rng.random(len(examples)), source, target, np.maximum(source, target) // 4))
    batches: list[list[Example]] = []
    begin = width_s = width_t = 0
    for end, row in enumerate(order):
        wide_s, wide_t = max(width_s, source[row]), max(width_t, target[row])
        if (end - begin + 1) * (wide_s + wide_t) > batch_tokens and end > begin:
            batches.append([examples[i] for i in order[begin:end]])
            begin, wide_s, wide_t = end, source[row], target[row]
        width_s, width_t = wide_s, wide_t
    if len(order) > begin:
        batches.append([examples[i] for i in order[begin:]])
    return batches


def assemble(examples: Sequence[Example]) -> Batch:
    """One padded batch."""
    return Batch(padded([e.source for e in examples]), padded([e.target for e in examples]))


def padded(rows: Sequence[Sequence[int]], pad: int = PAD) -> Tensor:
    """[rows, longest], padded on the right."""
    out = np.full((len(rows), max(map(len, rows))), pad, np.int64)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return torch.from_numpy(out)
