"""Next-token scores, and changes to them before a search chooses, in the order transformers applies them."""

from typing import Protocol

import torch
from torch import Tensor

from dragoman.errors import NoNumbers
from dragoman.generation.options import GenerationOptions


class Scores(Protocol):
    """What a step says about the next token of each row."""

    @property
    def rows(self) -> int:
        """How many rows there are."""

    def top(self, count: int, banned: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
        """The `count` best log-probabilities [rows, count], float32, and their tokens, best first.

        The probabilities are those among all tokens; `banned` ones are only left out of the
        candidates. Where fewer than `count` are left, there are fewer columns, or some of -inf.
        """

    def logits(self, rows: Tensor | None = None) -> Tensor:
        """The scores of all tokens [rows, vocabulary], float32; rows: of which, repeats allowed.

        Both raise NoNumbers for a row whose best score is NaN or infinite.
        """


ROWS = 32
"""Whoever looks at all tokens does so for this many rows at a time: a row of 256,000 scores takes a
megabyte, penalties and sampling make several copies of it, and thousands of rows may be under way."""


def row_parts(rows: int) -> list[Tensor]:
    """The numbers of so many rows in parts of ROWS."""
    return list(torch.arange(rows, device="cpu").split(ROWS))


class DenseScores:
    """Scores of which the full matrix [rows, vocabulary] is there."""

    def __init__(self, logits: Tensor) -> None:
        self._logits = logits

    @property
    def rows(self) -> int:
        return len(self._logits)

    def top(self, count: int, banned: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
        found = [self._top(part, count, banned) for part in row_parts(self.rows)]
        values, tokens = (torch.cat(side) for side in zip(*found, strict=True))
        return values, tokens

    def _top(self, rows: Tensor, count: int, banned: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        log_p = self.logits(rows).log_softmax(-1)
        if banned:
            log_p[:, list(banned)] = -torch.inf
        values, tokens = log_p.topk(min(count, log_p.shape[-1]))
        return values, tokens

    def logits(self, rows: Tensor | None = None) -> Tensor:
        found = self._logits if rows is None else self._logits[rows.to(self._logits.device)]
        if not bool(found.amax(-1).isfinite().all()):
            raise NoNumbers()
        return found.float()


def as_scores(found: Tensor | Scores) -> Scores:
    """What `step` gave, as scores."""
    return DenseScores(found) if isinstance(found, Tensor) else found


def needs_all_scores(options: GenerationOptions) -> bool:
    """Whether a search with these options has to look at more than the best tokens."""
    return options.sample or options.repetition_penalty != 1.0 or options.no_repeat_ngram > 0


def adjust(scores: Tensor, history: Tensor, options: GenerationOptions) -> Tensor:
    """Apply penalties and bans to `scores` [rows, vocabulary], given the tokens so far [rows, length].

    Rows with fewer tokens than others have -1 before their first.
    """
    if options.repetition_penalty != 1.0:
        scores = penalize_repetition(scores, history, options.repetition_penalty)
    if options.no_repeat_ngram:
        scores = ban_repeated_ngrams(scores, history, options.no_repeat_ngram)
    if options.suppress:
        scores = scores.clone()
        scores[:, list(options.suppress)] = float("-inf")
    return scores


def penalize_repetition(scores: Tensor, history: Tensor, penalty: float) -> Tensor:
    """CTRL's penalty (arXiv 1909.05858, section 4.1): used tokens lose, whatever the sign of their score."""
    # What stands in for padding is a token that is there anyway.
    history = torch.where(history < 0, history[:, -1:], history)
    used = scores.gather(1, history)
    used = torch.where(used < 0, used * penalty, used / penalty)
    return scores.scatter(1, history, used)


def repeated_tokens(history: Tensor, size: int) -> Tensor:
    """The tokens that would complete an n-gram `history` already holds: [rows, most], -1 for none."""
    if history.shape[1] < size:
        return history[:, :0]
    last, repeats = _ngrams_of_ending(history, size)
    most = int(repeats.sum(1).max()) if len(repeats) else 0
    found = torch.where(repeats, last, -1)
    return found.topk(most, dim=1).values


def ban_repeated_ngrams(scores: Tensor, history: Tensor, size: int) -> Tensor:
    """Forbid each token that would complete an n-gram which `history` already holds."""
    if history.shape[1] < size:
        return scores
    last, repeats = _ngrams_of_ending(history, size)
    banned = torch.zeros_like(scores, dtype=torch.int32)
    banned.scatter_add_(1, last.clamp(min=0), repeats.int())
    return scores.masked_fill(banned > 0, float("-inf"))


def _ngrams_of_ending(history: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The last token of each n-gram of a row, and whether it begins as the row ends: [rows, n-grams]."""
    windows = history.unfold(1, size, 1)
    ending = history[:, history.shape[1] - size + 1 :]
    last = windows[:, :, -1]
    return last, (windows[:, :, :-1] == ending[:, None]).all(-1) & (last >= 0)


def restrict(scores: Tensor, options: GenerationOptions) -> Tensor:
    """Temperature, then top-k, then top-p (arXiv 1904.09751) on `scores` [rows, vocabulary]."""
    if options.temperature != 1.0:
        scores = scores / options.temperature
    if options.top_k:
        least = scores.topk(min(options.top_k, scores.shape[-1])).values[:, -1:]
        scores = scores.masked_fill(scores < least, float("-inf"))
    if options.top_p < 1.0:
        ordered, index = scores.sort(descending=False)
        # From the unlikely end: drop what lies wholly within the tail of mass 1 - p, never the likeliest.
        tail = ordered.softmax(-1).cumsum(-1) <= 1 - options.top_p
        tail[:, -1] = False
        scores = scores.masked_fill(torch.zeros_like(tail).scatter(1, index, tail), float("-inf"))
    return scores
