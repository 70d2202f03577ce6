"""Decoding under way with an NLLB model."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dragoman.layers.cache import DecoderCache


class NllbState:
    """One row for each hypothesis, `beams` rows side by side for each sentence."""

    def __init__(self, layers: int, encoded: Tensor, keep: Tensor) -> None:
        """encoded: [sentences, time, hidden]; keep: boolean [sentences, time], False on padding."""
        self.cache = DecoderCache(layers, len(encoded))
        self.encoded: Tensor | None = encoded
        """None once the cache has its keys and values."""
        places = torch.arange(1, keep.shape[1] + 1, device=keep.device)
        self._device = encoded.device
        # Where each source ends: known here, so that padding can go when the longest ones leave.
        self._extents: list[int] = (keep * places).amax(1).tolist() if keep.numel() else [0] * len(keep)
        self._keep: Tensor | None = None
        self._hide_padding(keep)

    @property
    def source_mask(self) -> Tensor | None:
        """Boolean [sentences, 1, 1, time], False on padding; None if there is none."""
        return None if self._keep is None else self._keep[:, None, None, :]

    def own_mask(self, new: int) -> Tensor | None:
        """Boolean [rows, 1, 1, time so far + new], False before a row's first; None if all are real."""
        return self.cache.own.visible(new, self.cache.beams, self._device)

    def empty(self) -> Tensor | None:
        """How many positions before each row's first are empty, [rows, 1]; None if it is none."""
        return self.cache.own.empty(self.cache.beams, self._device)

    @torch.inference_mode()
    def select(self, rows: np.ndarray, beams: int) -> None:
        """Keep `rows` (indices into the present rows, repeats allowed) in the given order.

        Each run of `beams` rows must come from one sentence. This one verb widens a
        batch to its beams, reorders beams and drops finished sentences.
        """
        sentences = (rows[::beams] // self.cache.beams).tolist()
        inner = torch.from_numpy(rows).to(self._device)
        if sentences == list(range(len(self._extents))):
            self.cache.select(inner, None, beams)
            return
        self._extents = [self._extents[sentence] for sentence in sentences]
        longest = max(self._extents, default=0)
        self.cache.select(inner, sentences, beams, longest)
        kept = torch.tensor(sentences, device=self._device)
        if self.encoded is not None:
            self.encoded = self.encoded[:, :longest].index_select(0, kept)
        if self._keep is not None:
            self._hide_padding(self._keep[:, :longest].index_select(0, kept))

    @torch.inference_mode()
    def join(self, other: "NllbState") -> None:
        """Put the rows of `other`, with as many beams for a sentence, behind these.

        Both have made a step; their lengths so far and their sources' may differ. `other` must
        not be used any more.
        """
        assert self.encoded is other.encoded is None, "a state can join once it has made a step"
        keeps = [state._real() for state in (self, other)]
        longest = max(keep.shape[1] for keep in keeps)
        self.cache.join(other.cache)
        self._extents += other._extents
        self._hide_padding(torch.cat([F.pad(keep, (0, longest - keep.shape[1])) for keep in keeps]))

    def _real(self) -> Tensor:
        if self._keep is not None:
            return self._keep
        time = self.cache.sources[0][0].shape[2] if self.cache.sources[0] is not None else 0
        return torch.ones(len(self._extents), time, dtype=torch.bool, device=self._device)

    def _hide_padding(self, keep: Tensor) -> None:
        # All real tokens: no mask, and so the fastest attention kernel.
        self._keep = None if bool(keep.all()) else keep
