"""Sentences spread over the ranks: each decodes some, keeps their keys, and lends its experts to all.

Every rank makes the same calls with all rows, and computes its own; so what travels are tokens on their way
to an expert and back, and the best few scores. Where routing looks at the whole batch (a capacity that drops
tokens) or at chance, rank 0 decodes all rows, as one process would.
"""

from itertools import count

import numpy as np

from dragoman.errors import NoNumbers
from dragoman.models.config import NllbConfig
from dragoman.models.nllb import Nllb
from dragoman.models.nllb_state import NllbState
from dragoman.models.prompt import Prompt
from dragoman.models.scores import TorchScores
from dragoman.parallel.experts import lend_experts
from dragoman.parallel.ranks import Ranks


class SpreadNllb:
    """A rank's part of an NLLB model with experts."""

    def __init__(self, model: Nllb, ranks: Ranks) -> None:
        """model: with the experts of this rank."""
        self.model, self.ranks, self.config = model, ranks, model.config
        self._dealt = count()

    def begin(self, prompt: Prompt) -> "SpreadState":
        """Encode this rank's sentences; the state has a row for each of all."""
        source, keep = prompt.read()
        homes = self._homes(len(source))
        own = homes == self.ranks.rank
        if own.all():
            return SpreadState(self.ranks.rank, homes, self.model.begin(prompt))
        if not own.any():
            lend_experts(self.model.encoder)
            return SpreadState(self.ranks.rank, homes, None)
        source, keep = source[own], keep[own]
        longest = int(np.flatnonzero(keep.any(0)).max(initial=0)) + 1
        part = Prompt(source[:, :longest], keep[:, :longest])
        return SpreadState(self.ranks.rank, homes, self.model.begin(part))

    def step(self, tokens: np.ndarray, state: "SpreadState") -> "SpreadScores":
        """Feed the newest tokens of each row [rows, new], of all ranks' rows; scores of the next ones."""
        scores = None
        if state.inner is None:
            lend_experts(self.model.decoder)
        else:
            scores = self.model.step(tokens[state.own], state.inner)
        return SpreadScores(self.ranks, state.row_homes, scores, self.config.vocab_size)

    def state_bytes(self, source_tokens: int, new_tokens: int, beams: int) -> int:
        """The memory of a sentence's decoding on each rank, if many are spread evenly."""
        whole = self.model.state_bytes(source_tokens, new_tokens, beams)
        return -(-whole // self.ranks.count) if routes_alone(self.config) else whole

    def _homes(self, sentences: int) -> np.ndarray:
        """The rank of each sentence: dealt out one by one, as they come sorted by length."""
        if not routes_alone(self.config):
            return np.zeros(sentences, np.int64)
        return np.array([next(self._dealt) % self.ranks.count for _ in range(sentences)], np.int64)


class SpreadState:
    """What a rank knows of a batch: where each sentence is decoded, and the state of its own."""

    def __init__(self, rank: int, homes: np.ndarray, inner: NllbState | None) -> None:
        """homes: [sentences], the rank of each; inner: of those of this rank, None if there are none."""
        self.rank, self.homes, self.inner = rank, homes, inner
        self.beams = 1

    @property
    def row_homes(self) -> np.ndarray:
        """The rank of each row, [rows]."""
        return np.repeat(self.homes, self.beams)

    @property
    def own(self) -> np.ndarray:
        """Boolean [rows], True for rows of this rank."""
        return self.row_homes == self.rank

    def select(self, rows: np.ndarray, beams: int) -> None:
        """Keep `rows` in the given order; each run of `beams` rows belongs to one sentence."""
        own = self.own
        if self.inner is not None:
            places = np.cumsum(own) - 1
            kept = places[rows[own[rows]]]
            if len(kept):
                self.inner.select(kept, beams)
            else:
                self.inner = None
        self.homes = self.homes[rows[::beams] // self.beams]
        self.beams = beams

    def join(self, other: "SpreadState") -> None:
        """Put the rows of `other`, with as many beams for a sentence, behind these; it is used up."""
        if self.inner is not None and other.inner is not None:
            self.inner.join(other.inner)
        self.inner = self.inner or other.inner
        self.homes = np.concatenate([self.homes, other.homes])


class SpreadScores:
    """Scores of all rows, each on the rank that decodes it. All ranks ask together, for rank 0."""

    def __init__(self, ranks: Ranks, homes: np.ndarray, own: TorchScores | None, vocabulary: int) -> None:
        """homes: the rank of each row; own: the scores of this rank's rows."""
        self._ranks, self._homes, self._own, self._vocabulary = ranks, homes, own, vocabulary

    @property
    def rows(self) -> int:
        return len(self._homes)

    def top(self, count: int, banned: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray] | None:
        """On rank 0 as `TorchScores.top`, None on others."""
        width = min(count, self._vocabulary)
        # As one message: doubles hold both numbers exactly.
        part = np.empty((0, 2 * width))
        if self._own is not None:
            try:
                part = np.concatenate(self._own.top(count, banned), 1, dtype=np.float64)
            except NoNumbers:  # which is rank 0's to say
                part = np.full((self._own.rows, 2 * width), np.nan)
        found = self._ranks.collected(part, self._homes)
        if found is None:
            return None
        _check(found)
        return found[:, :width].astype(np.float32), found[:, width:].astype(np.int64)

    def logits(self, rows: np.ndarray | None = None) -> np.ndarray | None:
        """On rank 0 as `TorchScores.logits`, None on others."""
        homes = self._homes if rows is None else self._homes[rows]
        part = np.empty((0, self._vocabulary), np.float32)
        if self._own is not None:
            places = np.cumsum(self._homes == self._ranks.rank) - 1
            own = np.arange(self._own.rows) if rows is None else places[rows[homes == self._ranks.rank]]
            try:
                part = self._own.logits(own) if len(own) else part
            except NoNumbers:
                part = np.full((len(own), self._vocabulary), np.nan, np.float32)
        found = self._ranks.collected(part, homes)
        if found is not None:
            _check(found)
        return found


def routes_alone(config: NllbConfig) -> bool:
    """Whether a token's experts depend on the token alone, and not on its batch or on chance."""
    options = config.moe_options()
    return options.second_expert_policy == "all" and options.eval_capacity_fraction >= 1


def _check(found: np.ndarray) -> None:
    if np.isnan(found).any():
        raise NoNumbers()
