"""Greedy search and sampling: every row goes its own way until it ends."""

import zlib
from collections.abc import Sequence

import numpy as np

from dragoman.generation.hypotheses import Array, History, Hypothesis, common_prefix
from dragoman.generation.options import GenerationOptions
from dragoman.generation.scores import (
    Scores,
    adjust,
    draw,
    log_softmax,
    needs_all_scores,
    restrict,
    row_parts,
)


class SampleSearch:
    """One token per row and step, the likeliest or a drawn one; ended rows leave at once.

    The first step looks at one row per sentence, which then becomes as many as there are samples.
    """

    width = 1

    def __init__(
        self,
        sources: Sequence[Sequence[int]],
        prompts: Sequence[Sequence[int]],
        options: GenerationOptions,
        forced: int,
        eos: int,
        limits: Sequence[int] | None = None,
        keys: Sequence[int] | None = None,
    ) -> None:
        """sources: of each sentence, what its samples are seeded by.

        prompts: of each, of which the last `forced` tokens count as generated; limits: the most
        tokens of each, if they differ; keys: what each is called in `done`.
        """
        sentences = len(prompts)
        self.options, self.eos = options, eos
        self.done: dict[int, list[Hypothesis]] = {}
        self._copies = options.n_best if options.sample else 1
        self._is_wide = self._copies == 1
        self._ended: dict[int, list[Hypothesis]] = {}
        self._whole = needs_all_scores(options)
        self._history = History(prompts, forced, self._whole)
        self._scores: Array = np.zeros(sentences, np.float32)
        self._limits: Array = np.array([options.max_new_tokens] * sentences if limits is None else limits)
        self._owners = list(range(sentences)) if keys is None else list(keys)  # each row's sentence
        # A generator per result, seeded by the sentence: a sample ignores its batch mates.
        self._random: list[np.random.Generator] = []
        if options.sample:
            self._random = [
                _generator(source, options.seed, copy) for source in sources for copy in range(self._copies)
            ]

    @property
    def keys(self) -> list[int]:
        """The sentences under way."""
        return list(dict.fromkeys(self._owners))

    def advance(self, scores: Scores) -> tuple[Array | None, Array] | None:
        """Choose a token for each row; returns (rows kept, tokens [rows, 1]), None at the end.

        The rows are None where all stay as they are.
        """
        rows = np.arange(scores.rows)
        if not self._is_wide:
            rows = rows.repeat(self._copies)
            self._select(rows, self._random)
            self._is_wide = True
        tokens, gains = self._choose(scores, rows)
        self._scores = self._scores + gains
        self._history.extend(np.arange(len(rows)), tokens)
        ended = (tokens == self.eos) | (self._history.generated >= self._limits)
        if ended.any():
            self._retire(np.flatnonzero(ended))
            kept = np.flatnonzero(~ended)
            self._select(kept, self._generators(kept))
            rows, tokens = rows[kept], tokens[kept]
        if not len(rows):
            return None
        same = len(rows) == scores.rows and not ended.any()
        return None if same else rows, tokens[:, None]

    def _choose(self, scores: Scores, rows: Array) -> tuple[Array, Array]:
        """The next token of each of `rows` of the scores, and its log-probability."""
        if not self._whole:
            values, best = scores.top(1, self.options.suppress)
            return best[:, 0], values[:, 0]
        history = self._history.aligned()
        found = [
            self._pick(scores.logits(rows[part]), history[part], part)
            for part in row_parts(np.arange(len(rows)))
        ]
        tokens, gains = (np.concatenate(side) for side in zip(*found, strict=True))
        return tokens, gains

    def _pick(self, logits: Array, history: Array, part: Array) -> tuple[Array, Array]:
        """The next tokens of some rows, and their log-probabilities."""
        adjusted = adjust(logits.copy(), history, self.options)
        tokens = self._draw(adjusted, part) if self.options.sample else adjusted.argmax(-1)
        return tokens, np.take_along_axis(log_softmax(logits), tokens[:, None], 1)[:, 0]

    def _draw(self, scores: Array, part: Array) -> Array:
        pairs = zip(restrict(scores, self.options), self._generators(part), strict=True)
        return np.array([draw(row, generator.random()) for row, generator in pairs], np.int64)

    def _generators(self, rows: Array) -> list[np.random.Generator]:
        return [self._random[row] for row in rows.tolist()] if self._random else []

    def _retire(self, rows: Array) -> None:
        for row in rows.tolist():
            tokens, key = self._history.of(row), self._owners[row]
            score = float(self._scores[row]) / len(tokens) ** self.options.length_penalty
            ended = self._ended.setdefault(key, [])
            ended.append(Hypothesis(tuple(tokens), score))
            if len(ended) == self._copies:
                self.done[key] = sorted(self._ended.pop(key), key=lambda hypothesis: -hypothesis.score)

    def _select(self, rows: Array, generators: list[np.random.Generator]) -> None:
        self._history.select(rows)
        self._scores, self._limits = self._scores[rows], self._limits[rows]
        self._owners = [self._owners[row] for row in rows.tolist()]
        self._random = generators

    def drop(self, keys: set[int]) -> Array:
        """Give up the sentences of these keys; returns the rows of the others."""
        rows = np.array([row for row, key in enumerate(self._owners) if key not in keys], np.int64)
        self._select(rows, self._generators(rows))
        for key in keys:
            self._ended.pop(key, None)
        return rows

    def join(self, other: "SampleSearch") -> None:
        """Put the rows of `other` behind these; both have made a step, and have the same options."""
        assert self._is_wide == other._is_wide is True, "a search can join once it has made a step"
        self._history.join(other._history)
        self._scores = np.concatenate([self._scores, other._scores])
        self._limits = np.concatenate([self._limits, other._limits])
        self._owners += other._owners
        self._random += other._random
        self._ended |= other._ended

    def certain(self, key: int) -> list[int]:
        """The tokens with which the best hypothesis of a sentence begins, whatever comes."""
        lines = [hypothesis.tokens for hypothesis in self.done.get(key, self._ended.get(key, []))]
        if key in self.done:
            return list(lines[0])
        lines += [tuple(self._history.of(row)) for row, owner in enumerate(self._owners) if owner == key]
        return common_prefix(lines)


def _generator(source: Sequence[int], seed: int, copy: int) -> np.random.Generator:
    key = zlib.crc32(repr(list(source)).encode())
    return np.random.Generator(np.random.PCG64([seed, key, copy]))
