"""What decoders learn from: text in blocks, prompts with their answers, preferences."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dragoman.languages import of_code
from dragoman.text.prompt_style import Style
from dragoman.text.prompts import encode, translation_prompt
from dragoman.text.tokenizers.llama import LlamaTokenizer
from dragoman.training.data import padded
from dragoman.training.mixture import Draw, Mixture, part_weights
from dragoman.training.objectives.causal import Pairs, Rows
from dragoman.training.parts import Part
from dragoman.training.texts import PreferencePart, TextPart


@dataclass(frozen=True)
class Reading:
    """How feeds make batches."""

    batch_tokens: int
    """Padded tokens of a batch, at the most."""
    max_tokens: int
    """The most of a row; of causal text, those of a block."""
    balance: float = 1.0
    ratios: Mapping[str, float] | None = None
    """NLLB code -> how often a language is drawn, instead of by `balance`."""
    seed: int = 1
    round_examples: int = 16384
    group: int = 0
    """X-ALMA's language group, whose module all rows go through; 0 for none."""
    style: Style = "plain"
    """Of prompts."""


@dataclass(frozen=True)
class Row:
    """Token ids, of which those from `start` on are learned."""

    ids: list[int]
    start: int


class _Feed:
    """What all of them share: a mixture, and rows of like length in a batch."""

    def __init__(self, parts: Sequence[Any], tokenizer: LlamaTokenizer, reading: Reading) -> None:
        self.parts, self.tokenizer, self.reading = list(parts), tokenizer, reading
        weights = part_weights(self.parts, reading.balance, reading.ratios)
        self.mixture = Mixture(self.parts, weights, reading.seed, reading.round_examples)

    def fingerprint(self) -> str:
        """Differs where the batches would."""
        text = repr((type(self).__name__, self.mixture.facts(), self.reading))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _rng(self, number: int) -> np.random.Generator:
        return np.random.default_rng((self.reading.seed, number))

    def _assemble(self, rows: Sequence[Row]) -> Rows:
        groups = [self.reading.group] * len(rows) if self.reading.group else None
        # Padding is looked at by nothing and learned from nowhere, so any id will do.
        tokens = padded([row.ids for row in rows], self.tokenizer.eos_id)
        learned = padded([[0] * row.start + [1] * (len(row.ids) - row.start) for row in rows], 0).bool()
        return Rows(tokens, learned, groups)

    def _answer(self, text: str) -> list[int]:
        """The ids of an answer as a model writes them: behind a space, with the end."""
        return [*self.tokenizer.encode_pieces([text])[0], self.tokenizer.eos_id]

    def _prompt(self, text: str, source: str, target: str) -> list[int]:
        languages = of_code(source), of_code(target)
        prompt = translation_prompt(text, *languages, style=self.reading.style)
        return encode(prompt, self.tokenizer)


class BlockFeed(_Feed):
    """Running text in blocks of equal length, each of one language.

    Texts follow each other as `<s> text </s>`, all of which is learned but the first token of a block. A pair
    is a text, too: both sides with a space between, either one first (X-ALMA's pseudo-monolingual text).
    """

    parts: list[TextPart | Part]

    def round(self, number: int) -> list[Rows]:
        """The batches of a round. The last block of a language may be shorter."""
        rng = self._rng(number)
        by_language: dict[str, list[list[int]]] = {}
        draws = list(self.mixture.round(number))
        ids = self.tokenizer.encode_pieces([self._text(draw) for draw in draws])
        for draw, pieces in zip(draws, ids, strict=True):
            whole = [self.tokenizer.bos_id, *pieces, self.tokenizer.eos_id]
            by_language.setdefault(self.parts[draw.part].code, []).append(whole)
        rows = [row for texts in by_language.values() for row in self._blocks(texts, rng)]
        rng.shuffle(rows)
        size = max(1, self.reading.batch_tokens // self.reading.max_tokens)
        return [self._assemble(rows[start : start + size]) for start in range(0, len(rows), size)]

    def _text(self, draw: Draw) -> str:
        part = self.parts[draw.part]
        if not isinstance(part, Part):
            return str(part.rows[self.mixture.row(draw)][0])
        pair = part.pairs[self.mixture.row(draw)]
        return " ".join(pair if draw.rng.random() < 0.5 else reversed(pair))

    def _blocks(self, texts: list[list[int]], rng: np.random.Generator) -> list[Row]:
        rng.shuffle(texts)
        ids = [i for text in texts for i in text]
        width = self.reading.max_tokens
        blocks = (ids[start : start + width] for start in range(0, len(ids), width))
        return [Row(block, 1) for block in blocks if len(block) > 1]


class PromptFeed(_Feed):
    """Prompts that ask for a translation, of which only the translation and its end are learned."""

    parts: list[Part]

    def round(self, number: int) -> list[Rows]:
        """The batches of a round, of rows of like length. Overlong rows are left out."""
        rows = [self._row(draw) for draw in self.mixture.round(number)]
        rows = [row for row in rows if len(row.ids) <= self.reading.max_tokens]
        rng = self._rng(number)
        batches = by_length(rows, [len(row.ids) for row in rows], self.reading.batch_tokens, rng)
        return [self._assemble(batch) for batch in batches]

    def _row(self, draw: Draw) -> Row:
        part = self.parts[draw.part]
        codes, source = (part.code, part.other), draw.rng.randrange(2)
        pair = part.pairs[self.mixture.row(draw)]
        prompt = self._prompt(pair[source], codes[source], codes[1 - source])
        return Row([*prompt, *self._answer(pair[1 - source])], len(prompt))


class PreferenceFeed(_Feed):
    """The same prompt with a chosen and with a rejected translation."""

    parts: list[PreferencePart]

    def round(self, number: int) -> list[Pairs]:
        """The batches of a round. Pairs with an overlong side are left out."""
        found = [self._pair(draw) for draw in self.mixture.round(number)]
        pairs = [pair for pair in found if max(len(row.ids) for row in pair) <= self.reading.max_tokens]
        sizes = [max(len(row.ids) for row in pair) for pair in pairs]
        rng = self._rng(number)
        batches = by_length(pairs, sizes, self.reading.batch_tokens // 2, rng)
        return [Pairs(self._assemble([row for side in (0, 1) for row in _side(b, side)])) for b in batches]

    def _pair(self, draw: Draw) -> tuple[Row, Row]:
        part = self.parts[draw.part]
        text, chosen, rejected, source, target = part.rows[self.mixture.row(draw)]
        prompt = self._prompt(text, source, target)
        first, second = (Row([*prompt, *self._answer(side)], len(prompt)) for side in (chosen, rejected))
        return first, second


def _side(batch: Sequence[tuple[Row, Row]], side: int) -> list[Row]:
    return [pair[side] for pair in batch]


def by_length(
    rows: Sequence[Any], sizes: Sequence[int], batch_tokens: int, rng: np.random.Generator
) -> list[list[Any]]:
    """Rows of like size together, as many as `batch_tokens` padded tokens take; batches in random order."""
    order = np.lexsort((rng.random(len(rows)), np.array(sizes, np.int64)))
    batches: list[list[Any]] = []
    for place in order:
        row, size = rows[place], sizes[place]
        if not batches or (len(batches[-1]) + 1) * size > batch_tokens:
            batches.append([])
        batches[-1].append(row)
    rng.shuffle(batches)
    return batches
