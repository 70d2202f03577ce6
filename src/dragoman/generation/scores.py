"""Changes to next-token scores before a search chooses, in the order transformers applies them."""

import torch
from torch import Tensor

from dragoman.generation.options import GenerationOptions


def adjust(scores: Tensor, history: Tensor, options: GenerationOptions) -> Tensor:
    """Apply penalties and bans to `scores` [rows, vocabulary], given the tokens so far [rows, length]."""
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
    used = scores.gather(1, history)
    used = torch.where(used < 0, used * penalty, used / penalty)
    return scores.scatter(1, history, used)


def ban_repeated_ngrams(scores: Tensor, history: Tensor, size: int) -> Tensor:
    """Forbid each token that would complete an n-gram which `history` already holds."""
    length = history.shape[1]
    if length < size:
        return scores
    windows = history.unfold(1, size, 1)  # [rows, length - size + 1, size]
    ending = history[:, length - size + 1 :]
    repeats = (windows[:, :, :-1] == ending[:, None]).all(-1)
    banned = torch.zeros_like(scores, dtype=torch.int32)
    banned.scatter_add_(1, windows[:, :, -1], repeats.int())
    return scores.masked_fill(banned > 0, float("-inf"))


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
