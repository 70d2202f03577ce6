"""Decoding under way with a Llama."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from dragoman.layers.cache import PromptCache, causal_mask
from dragoman.layers.llama import Pass, count_positions, self_mask
from dragoman.layers.low_rank import Routes
from dragoman.layers.rotary import Rotary


class Languages(Protocol):
    """Who says which rows use which language module."""

    version: int

    def routes(self, groups: Sequence[int] | None, device: torch.device) -> Routes | None:
        """The routes of rows of these groups."""


class LlamaState:
    """One row for each hypothesis, `beams` rows side by side for each sentence.

    Inside, sentences are sorted by language group, so that no layer has to gather the rows
    of a group. Callers see the order they gave.
    """

    def __init__(
        self, languages: Languages, layers: int, keep: Tensor, groups: Sequence[int] | None = None
    ) -> None:
        """keep: boolean [rows, prompt], False on padding; groups: one per row."""
        self.cache = PromptCache(layers)
        self._languages = languages
        self._groups = None if groups is None else list(groups)  # of the sentences, in the callers' order
        self._sentences = len(keep)
        self._route(keep.device)
        keep = self.arrange(keep)
        self._next = keep.sum(1, keepdim=True)  # position of the next token, [rows, 1]
        # Boolean [rows, time so far], or [sentences, prompt] once rows share it; None without padding.
        self._keep = None if bool(keep.all()) else keep

    def arrange(self, rows: Tensor) -> Tensor:
        """The callers' rows, sorted by group."""
        return rows if self._order is None else rows.index_select(0, self._order)

    def restore(self, rows: Tensor) -> Tensor:
        """Sorted rows, in the callers' order."""
        return rows if self._back is None else rows.index_select(0, self._back)

    def advance(self, x: Tensor, rotary: Rotary) -> Pass:
        """The pass that reads `x` [rows, new, hidden], the prompts first, then what follows."""
        if self._version != self._languages.version:
            self._route(x.device)  # modules came or went meanwhile
        new, past = x.shape[1], self.cache.length
        if past == 0:
            positions = count_positions(self._keep, 0, new, x.device)
        else:
            positions = self._next + torch.arange(new, device=x.device)
            self._next = self._next + new
        step = Pass(rotary(positions, x.dtype), cache=self.cache, routes=self._routes)
        if past == 0:
            step.mask, step.causal = self_mask(self._keep, 0, new, x.dtype, x.device)
        else:
            self._mask_later(step, new, past, x.device)
        return step

    def _mask_later(self, step: Pass, new: int, past: int, device: torch.device) -> None:
        """Let new tokens see all that is real before them."""
        if self.cache.shared_length:
            step.shared = self.cache.shared
            step.shared_mask = None if self._keep is None else self._keep[:, None, None, :]
            past -= self.cache.shared_length
        elif self._keep is not None:
            self._keep = F.pad(self._keep, (0, new), value=True)
            step.mask = self._keep[:, None, None, :]
        if new > 1:
            causal = causal_mask(new, past, device)
            step.mask = causal if step.mask is None else step.mask & causal

    def select(self, rows: Tensor, beams: int) -> None:
        """Keep `rows` (indices into the present rows, repeats allowed) in the given order.

        Each run of `beams` rows must come from one sentence. This one verb widens a
        batch to its beams, reorders beams and drops finished sentences.
        """
        before = self.cache.beams
        sentences = rows[::beams].div(before, rounding_mode="floor")
        everyone = torch.arange(self._sentences, device=rows.device)
        same = len(sentences) == self._sentences and bool((sentences == everyone).all())
        inner = rows if self._back is None else self._back[rows]
        if not same:
            self._sentences = len(sentences)
            if self._groups is not None:
                self._groups = [self._groups[sentence] for sentence in sentences.tolist()]
        if not same or beams != before:
            self._route(rows.device, beams)
        inner = self.arrange(inner)
        chosen = None if same else inner[::beams].div(before, rounding_mode="floor")
        self.cache.select(inner, chosen, beams)
        self._next = self._next.index_select(0, inner)
        if self._keep is None:
            return
        if not self.cache.shared_length:
            self._keep = self._keep.index_select(0, inner)
        elif chosen is not None:
            self._keep = self._keep.index_select(0, chosen)

    def _route(self, device: torch.device, beams: int | None = None) -> None:
        """Sort the sentences by group, and work out which rows use which module."""
        beams = self.cache.beams if beams is None else beams
        self._version = self._languages.version
        self._order = self._back = self._routes = None
        if self._groups is None:
            return
        groups = self._groups
        order = sorted(range(len(groups)), key=lambda sentence: groups[sentence])
        self._routes = self._languages.routes(
            [groups[sentence] for sentence in order for _ in range(beams)], device
        )
        if order != list(range(len(order))):
            first = torch.tensor(order, device=device) * beams
            self._order = (first[:, None] + torch.arange(beams, device=device)).flatten()
            self._back = self._order.argsort()
