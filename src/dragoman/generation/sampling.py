"""Greedy search and sampling: every row goes its own way until it ends."""

import zlib

import torch
from torch import Tensor

from dragoman.generation.options import GenerationOptions
from dragoman.generation.scores import adjust, restrict


class SampleSearch:
    """One token per row and step, the likeliest or a drawn one; ended rows leave at once."""

    width = 1

    def __init__(
        self,
        sources: Tensor,
        keep: Tensor,
        prompt: Tensor,
        options: GenerationOptions,
        forced: int,
        eos: int,
    ) -> None:
        """sources: [sentences, time], what their samples are seeded by; keep: False on padding."""
        self.options, self.eos = options, eos
        self.copies = options.n_best if options.sample else 1
        self.history = prompt
        self.start = prompt.shape[1] - forced
        self.limit = self.start + options.max_new_tokens
        self.scores = torch.zeros(len(prompt), device=prompt.device)
        self.rows = list(range(len(prompt) * self.copies))  # which result a live row will become
        self.done: dict[int, tuple[list[int], float]] = {}
        # A generator per result, seeded by the sentence: a sample ignores its batch mates.
        self.random = []
        if options.sample:
            for source, real in zip(sources.tolist(), keep.tolist(), strict=True):
                tokens = [token for token, is_real in zip(source, real, strict=True) if is_real]
                key = zlib.crc32(repr(tokens).encode())
                for copy in range(self.copies):
                    seed = (options.seed * 1000003 + key + copy * 7919) % 2**63
                    self.random.append(torch.Generator().manual_seed(seed))

    def advance(self, logits: Tensor) -> tuple[Tensor | None, Tensor] | None:
        """Choose a token for each row; returns (rows kept or None for all, tokens [rows, 1])."""
        logits = logits.float()
        widen = None
        if self.copies > 1 and len(logits) < len(self.rows) and not self.done:
            widen = torch.arange(len(logits), device=logits.device).repeat_interleave(self.copies)
            logits, self.history, self.scores = logits[widen], self.history[widen], self.scores[widen]
        adjusted = adjust(logits, self.history, self.options)
        tokens = self._draw(adjusted) if self.options.sample else adjusted.argmax(-1)
        self.scores = self.scores + logits.log_softmax(-1).gather(1, tokens[:, None]).squeeze(1)
        self.history = torch.cat([self.history, tokens[:, None]], 1)
        ended = tokens == self.eos
        if self.history.shape[1] >= self.limit:
            ended = torch.ones_like(ended)
        if not bool(ended.any()):
            return widen, tokens[:, None]
        for row in ended.nonzero().flatten().tolist():
            generated = self.history[row, self.start :].tolist()
            score = float(self.scores[row]) / len(generated) ** self.options.length_penalty
            self.done[self.rows[row]] = (generated, score)
        kept = (~ended).nonzero().flatten()
        if not len(kept):
            return None
        self.rows = [self.rows[row] for row in kept.tolist()]
        self.history, self.scores = self.history[kept], self.scores[kept]
        return (kept if widen is None else widen[kept]), tokens[kept][:, None]

    def _draw(self, scores: Tensor) -> Tensor:
        probabilities = restrict(scores, self.options).softmax(-1).cpu()
        drawn = [
            torch.multinomial(p, 1, generator=self.random[row])
            for p, row in zip(probabilities, self.rows, strict=True)
        ]
        return torch.cat(drawn).to(scores.device)

    def results(self) -> list[list[tuple[list[int], float]]]:
        """(tokens, score) for each sentence, best first."""
        ordered = [self.done[i] for i in range(len(self.done))]
        groups = [ordered[i : i + self.copies] for i in range(0, len(ordered), self.copies)]
        return [sorted(group, key=lambda result: -result[1]) for group in groups]
