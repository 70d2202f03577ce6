"""Decoding under way with a Llama."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dragoman.layers.cache import PromptCache, causal_mask
from dragoman.layers.llama import Pass, count_positions, self_mask
from dragoman.layers.lora import Routes
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
        self._languages = languages
        self._groups = None if groups is None else list(groups)  # of the sentences, in the callers' order
        self._device = keep.device
        self._sorted = list(range(len(keep)))  # the sentences as they are inside
        self._route(1)
        keep = self.arrange(keep)
        self._next = keep.sum(1, keepdim=True)  # position of the next token, [rows, 1]
        self._prompt: Tensor | None = keep  # until it is read
        self.cache = PromptCache(layers, self._next[:, 0].tolist())

    def arrange(self, rows: Tensor) -> Tensor:
        """The callers' rows, sorted by group."""
        return rows if self._order is None else rows.index_select(0, self._order)

    def restore(self, rows: Tensor) -> Tensor:
        """Sorted rows, in the callers' order."""
        return rows if self._back is None else rows.index_select(0, self._back)

    def advance(self, x: Tensor, rotary: Rotary) -> Pass:
        """The pass that reads `x` [rows, new, hidden], the prompts first, then what follows."""
        if self._version != self._languages.version:
            self._route(self.cache.beams)  # modules came or went meanwhile
        if self._prompt is not None:
            return self._read_prompt(x, rotary)
        new, own = x.shape[1], self.cache.own
        positions = self._next + torch.arange(new, device=x.device)
        self._next = self._next + new
        step = Pass(rotary(positions, x.dtype), cache=self.cache, routes=self._routes)
        step.mask = own.visible(new, self.cache.beams, x.device)
        if self.cache.shared_length:
            step.shared = self.cache.shared
            step.shared_mask = self.cache.shared_visible(x.device)
        if new > 1:
            causal = causal_mask(new, own.columns, x.device)
            step.mask = causal if step.mask is None else step.mask & causal
        return step

    def _read_prompt(self, x: Tensor, rotary: Rotary) -> Pass:
        keep, self._prompt = self._prompt, None
        assert keep is not None
        keep = None if bool(keep.all()) else keep
        positions = count_positions(keep, 0, x.shape[1], x.device)
        step = Pass(rotary(positions, x.dtype), cache=self.cache, routes=self._routes)
        step.mask, step.causal = self_mask(keep, 0, x.shape[1], x.dtype, x.device)
        return step

    @torch.inference_mode()
    def select(self, rows: np.ndarray, beams: int) -> None:
        """Keep `rows` (indices into the present rows, repeats allowed) in the given order.

        Each run of `beams` rows must come from one sentence. This one verb widens a
        batch to its beams, reorders beams and drops finished sentences.
        """
        before = self.cache.beams
        sentences = (rows[::beams] // before).tolist()
        inner = torch.from_numpy(rows).to(self._device)
        inner = inner if self._back is None else self._back[inner]
        same = sentences == list(range(len(self._sorted)))
        if not same:
            was = {sentence: place for place, sentence in enumerate(self._sorted)}
            if self._groups is not None:
                self._groups = [self._groups[sentence] for sentence in sentences]
            self._sorted = list(range(len(sentences)))
        if not same or beams != before:
            self._route(beams)
        inner = self.arrange(inner)
        chosen = None if same else [was[sentences[place]] for place in self._sorted]
        self._pick(inner, chosen, beams)

    def _pick(self, rows: Tensor, sentences: list[int] | None, beams: int) -> None:
        """As `select`, by the order inside; sentences: None if all stay."""
        self.cache.select(rows, sentences, beams)
        if sentences is not None or len(self._next) != len(rows):
            self._next = self._next.index_select(0, rows)
        if self._prompt is not None:
            self._prompt = self._prompt.index_select(0, rows)

    @torch.inference_mode()
    def join(self, other: "LlamaState") -> None:
        """Put the rows of `other`, with as many beams for a sentence, behind these.

        Both have read their prompts; their lengths so far may differ. `other` must not be used any more.
        """
        assert self._prompt is other._prompt is None, "a state can join once it has read its prompts"
        assert (self._groups is None) == (other._groups is None), "either all rows have groups or none"
        beams, count = self.cache.beams, len(self._sorted)
        self.cache.join(other.cache)
        self._next = torch.cat([self._next, other._next])
        if self._groups is not None and other._groups is not None:
            self._groups = self._groups + other._groups
        present = self._sorted + [count + sentence for sentence in other._sorted]
        self._sorted = list(range(len(present)))
        self._route(beams)
        if self._sorted == present:
            return
        was = {sentence: place for place, sentence in enumerate(present)}
        chosen = [was[sentence] for sentence in self._sorted]
        first = torch.tensor(chosen, device=self._device) * beams
        rows = (first[:, None] + torch.arange(beams, device=self._device)).flatten()
        self._pick(rows, chosen, beams)

    def _route(self, beams: int) -> None:
        """Sort the sentences by group, and work out which rows use which module."""
        self._version = self._languages.version
        self._order = self._back = self._routes = None
        if self._groups is None:
            return
        groups, count = self._groups, len(self._sorted)
        self._sorted = sorted(range(count), key=lambda sentence: groups[sentence])
        self._routes = self._languages.routes(
            [groups[sentence] for sentence in self._sorted for _ in range(beams)], self._device
        )
        if self._sorted != list(range(count)):
            first = torch.tensor(self._sorted, device=self._device) * beams
            self._order = (first[:, None] + torch.arange(beams, device=self._device)).flatten()
            self._back = self._order.argsort()
