"""Beam search, with the results of transformers' `generate` (4.57 and later) sentence by sentence."""

import torch
from torch import Tensor

from dragoman.generation.options import GenerationOptions
from dragoman.generation.scores import adjust

# Worse than any real score: those of long sentences under negative length penalties are astronomic.
WORST = -torch.inf


class BeamSearch:
    """Keeps the best `beams` unfinished hypotheses of each sentence, and its best finished ones.

    Tensors are [sentences, beams, ...]; a sentence leaves as soon as nothing can change
    its result. The first step looks at one row per sentence: its beams would all be alike.
    """

    def __init__(self, prompt: Tensor, options: GenerationOptions, forced: int, eos: int) -> None:
        self.options, self.eos = options, eos
        self.width = 1
        self.start = prompt.shape[1] - forced
        self.limit = self.start + options.max_new_tokens
        sentences, beams, device = len(prompt), options.beams, prompt.device
        self.history = prompt[:, None]  # [sentences, width, length]
        self.scores = torch.zeros(sentences, 1, device=device)
        # Finished hypotheses, eos included, padded with eos to the length of the longest.
        self.best = prompt.new_full((sentences, beams, prompt.shape[1]), eos)
        self.best_scores = torch.full((sentences, beams), WORST, device=device)
        self.best_lengths = torch.zeros(sentences, beams, dtype=torch.long, device=device)
        self.full = torch.zeros(sentences, beams, dtype=torch.bool, device=device)
        self.alive = list(range(sentences))
        self.done: dict[int, list[tuple[list[int], float]]] = {}

    def advance(self, logits: Tensor) -> tuple[Tensor | None, Tensor] | None:
        """Extend every beam; returns (rows of the old beams, tokens [rows, 1]), None at the end."""
        beams, (sentences, width, length) = self.options.beams, self.history.shape
        log_p = adjust(logits.float().log_softmax(-1), self.history.flatten(0, 1), self.options)
        vocabulary = log_p.shape[-1]
        totals = (log_p.view(sentences, width, vocabulary) + self.scores[:, :, None]).flatten(1)
        # Twice as many as needed: were all `beams` best ones to end, as many would go on.
        top, index = totals.topk(min(2 * beams, totals.shape[1]))
        origin, token = index // vocabulary, index % vocabulary
        histories = torch.cat(
            [self.history.gather(1, origin[..., None].expand(-1, -1, length)), token[..., None]], 2
        )
        length += 1
        ends = token == self.eos
        if length >= self.limit:
            ends = torch.ones_like(ends)
        self._finish(top, histories, ends, length - self.start)

        running, picks = top.masked_fill(ends, WORST).topk(min(beams, top.shape[1]))
        self.scores = running
        self.history = histories.gather(1, picks[..., None].expand(-1, -1, length))
        origin = origin.gather(1, picks)
        settled = self._settled(length - self.start) | (length >= self.limit)
        return self._continue(origin, width, settled)

    def _finish(self, top: Tensor, histories: Tensor, ends: Tensor, generated: int) -> None:
        """Merge hypotheses that ended now into the finished ones, the best `beams` stay."""
        beams = self.options.beams
        fresh = ends & ~top.isneginf()
        fresh[:, beams:] = False  # one that ends outside the best `beams` is not good enough
        scores = (top / generated**self.options.length_penalty).masked_fill(~fresh, WORST)
        extra = histories.shape[2] - self.best.shape[2]
        best = torch.nn.functional.pad(self.best, (0, extra), value=self.eos)
        lengths = torch.full_like(ends, histories.shape[2], dtype=torch.long)
        merged, picks = torch.cat([self.best_scores, scores], 1).topk(beams)
        self.best_scores = merged
        wide = picks[..., None].expand(-1, -1, best.shape[2])
        self.best = torch.cat([best, histories], 1).gather(1, wide)
        self.best_lengths = torch.cat([self.best_lengths, lengths], 1).gather(1, picks)
        self.full = torch.cat([self.full, fresh], 1).gather(1, picks)

    def _settled(self, generated: int) -> Tensor:
        """Boolean [sentences]: no running hypothesis can still enter the finished ones."""
        options = self.options
        all_full = self.full.all(1)
        impossible = self.scores[:, 0].isneginf()
        if options.early_stopping is True:
            return all_full | impossible
        length = generated
        if options.early_stopping == "never" and options.length_penalty > 0:
            length = options.max_new_tokens
        possible = self.scores[:, 0] / length**options.length_penalty
        return impossible | (all_full & (possible <= self.best_scores.min(1).values))

    def _continue(self, origin: Tensor, width: int, settled: Tensor) -> tuple[Tensor, Tensor] | None:
        for sentence in settled.nonzero().flatten().tolist():
            self.done[self.alive[sentence]] = self._ranked(sentence)
        kept = (~settled).nonzero().flatten()
        if not len(kept):
            return None
        if len(kept) < len(settled):
            self.alive = [self.alive[sentence] for sentence in kept.tolist()]
            for name in ("history", "scores", "best", "best_scores", "best_lengths", "full"):
                setattr(self, name, getattr(self, name)[kept])
        rows = (origin[kept] + kept[:, None] * width).flatten()
        self.width = self.history.shape[1]
        return rows, self.history[:, :, -1].reshape(-1, 1)

    def _ranked(self, sentence: int) -> list[tuple[list[int], float]]:
        hypotheses, scores, lengths, full = (
            t[sentence, : self.options.n_best].tolist()
            for t in (self.best, self.best_scores, self.best_lengths, self.full)
        )
        return [
            (tokens[self.start : length], score)
            for tokens, score, length, real in zip(hypotheses, scores, lengths, full, strict=True)
            if real
        ]

    def results(self) -> list[list[tuple[list[int], float]]]:
        """(tokens, score) for each sentence, best first."""
        return [self.done[i] for i in range(len(self.done))]
