"""Next-token scores, and changes to them before a search chooses, in the order transformers applies them."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from dragoman.errors import NoNumbers
from dragoman.generation.hypotheses import Array
from dragoman.generation.options import GenerationOptions


class Scores(Protocol):
    """What a step says about the next token of each row."""

    @property
    def rows(self) -> int:
        """How many rows there are."""

    def top(self, count: int, banned: tuple[int, ...] = ()) -> tuple[Array, Array]:
        """The `count` best log-probabilities [rows, count], float32, and their tokens, int64, best first.

        The probabilities are those among all tokens; `banned` ones are only left out of the
        candidates. Where fewer than `count` are left, there are fewer columns, or some of -inf.
        """

    def logits(self, rows: Array | None = None) -> Array:
        """The scores of all tokens [rows, vocabulary], float32, which the caller may change.

        rows: of which, repeats allowed. Both raise NoNumbers for a row whose best score is NaN or infinite.
        """


ROWS = 32
"""Whoever looks at all tokens does so for this many rows at a time: a row of 256,000 scores takes a
megabyte, penalties and sampling make copies of it, and thousands of rows may be under way."""


def row_parts(rows: Array) -> Iterator[Array]:
    """The numbers of rows in parts of ROWS; an empty one if there are none."""
    for first in range(0, max(len(rows), 1), ROWS):
        yield rows[first : first + ROWS]


class DenseScores:
    """Scores of which the full matrix [rows, vocabulary] is there."""

    def __init__(self, logits: Array) -> None:
        self._logits = logits

    @property
    def rows(self) -> int:
        return len(self._logits)

    def top(self, count: int, banned: tuple[int, ...] = ()) -> tuple[Array, Array]:
        found = [self._top(part, count, banned) for part in row_parts(np.arange(self.rows))]
        values, tokens = (np.concatenate(side) for side in zip(*found, strict=True))
        return values, tokens

    def _top(self, rows: Array, count: int, banned: tuple[int, ...]) -> tuple[Array, Array]:
        log_p = log_softmax(self.logits(rows))
        log_p[:, list(banned)] = -np.inf
        return topk(log_p, count)

    def logits(self, rows: Array | None = None) -> Array:
        found = np.array(self._logits if rows is None else self._logits[rows], np.float32)
        if not np.isfinite(found.max(-1)).all():
            raise NoNumbers()
        return found


def log_softmax(scores: Array) -> Array:
    """Log-probabilities in place of `scores` [rows, vocabulary], whose best ones are finite."""
    for row in scores:  # one after the other: it stays near the processor
        row -= row.max()
        row -= np.log(np.exp(row).sum())
    return scores


def topk(scores: Array, count: int) -> tuple[Array, Array]:
    """The `count` best of each row, or all there are, and their tokens: best first, of equals the lowest."""
    vocabulary = scores.shape[1]
    count = min(count, vocabulary)
    if count == 1:
        tokens = scores.argmax(-1)[:, None]
    elif not len(scores):
        tokens = np.zeros((0, count), np.int64)
    else:
        tokens = np.stack([_topk_of(row, vocabulary - count) for row in scores])
    return np.take_along_axis(scores, tokens, 1), tokens


def _topk_of(row: Array, others: int) -> Array:
    """All tokens of a row but `others`, best first, lower tokens before their equals."""
    found = np.flatnonzero(row >= np.partition(row, others)[others])
    return found[np.argsort(-row[found], kind="stable")][: len(row) - others]


def needs_all_scores(options: GenerationOptions) -> bool:
    """Whether a search with these options has to look at more than the best tokens."""
    return options.sample or options.repetition_penalty != 1.0 or options.no_repeat_ngram > 0


def adjust(scores: Array, history: Array, options: GenerationOptions) -> Array:
    """Apply penalties and bans to `scores` [rows, vocabulary] in place by the tokens so far [rows, length].

    Rows with fewer tokens than others have -1 before their first.
    """
    if options.repetition_penalty != 1.0:
        penalize_repetition(scores, history, options.repetition_penalty)
    if options.no_repeat_ngram:
        ban_repeated_ngrams(scores, history, options.no_repeat_ngram)
    scores[:, list(options.suppress)] = -np.inf
    return scores


def penalize_repetition(scores: Array, history: Array, penalty: float) -> None:
    """CTRL's penalty (arXiv 1909.05858, section 4.1): used tokens lose, whatever the sign of their score."""
    # What stands in for padding is a token that is there anyway.
    history = np.where(history < 0, history[:, -1:], history)
    used = np.take_along_axis(scores, history, 1)
    np.put_along_axis(scores, history, np.where(used < 0, used * penalty, used / penalty), 1)


def repeated_tokens(history: Array, size: int) -> Array:
    """The tokens that would complete an n-gram `history` already holds: [rows, most], -1 for none."""
    if history.shape[1] < size:
        return history[:, :0]
    last, repeats = _ngrams_of_ending(history, size)
    found = -np.sort(-np.where(repeats, last, -1), axis=1)
    return found[:, : repeats.sum(1).max(initial=0)]


def ban_repeated_ngrams(scores: Array, history: Array, size: int) -> None:
    """Forbid each token that would complete an n-gram which `history` already holds."""
    if history.shape[1] < size:
        return
    last, repeats = _ngrams_of_ending(history, size)
    scores[repeats.nonzero()[0], last[repeats]] = -np.inf


def _ngrams_of_ending(history: Array, size: int) -> tuple[Array, Array]:
    """The last token of each n-gram of a row, and whether it begins as the row ends: [rows, n-grams]."""
    windows = sliding_window_view(history, size, axis=1)
    ending = history[:, history.shape[1] - size + 1 :]
    last = windows[:, :, -1]
    return last, (windows[:, :, :-1] == ending[:, None]).all(-1) & (last >= 0)


NUCLEUS = 256
"""So many of the likeliest tokens are sorted first; they nearly always hold the mass that is asked for."""


def restrict(scores: Array, options: GenerationOptions) -> Array:
    """Temperature, then top-k, then top-p (arXiv 1904.09751) on `scores` [rows, vocabulary], in place."""
    if options.temperature != 1.0:
        scores /= options.temperature
    others = scores.shape[1] - options.top_k
    for row in scores:
        if options.top_k and others > 0:
            row[row < np.partition(row, others)[others]] = -np.inf
        if options.top_p < 1.0:
            kept = _nucleus(row, options.top_p)
            values = row[kept]
            row[:] = -np.inf
            row[kept] = values
    return scores


def _nucleus(row: Array, mass: float) -> Array:
    """The fewest tokens whose probabilities sum to `mass`, at least one."""
    shares = np.exp(row - row.max())
    wanted = mass * float(shares.sum(dtype=np.float64))
    count = NUCLEUS
    while True:
        found = _topk_of(row, max(len(row) - count, 0))
        sums = shares[found].cumsum(dtype=np.float64)
        # A token goes if those before it are enough, and the likeliest never.
        number = 1 + int(np.searchsorted(sums, wanted))
        if number <= len(found) or len(found) == len(row):
            return found[:number]
        count *= 8


def draw(scores: Array, chance: float) -> int:
    """A token by the probabilities that `scores` [vocabulary] stand for; chance: a number in [0, 1)."""
    allowed = np.flatnonzero(scores > -np.inf)
    if not len(allowed):
        return 0  # as greedy search has it where the bans leave nothing
    sums = np.exp(scores[allowed] - scores.max()).cumsum(dtype=np.float64)
    place = np.searchsorted(sums, chance * sums[-1], side="right")
    return int(allowed[min(int(place), len(allowed) - 1)])
