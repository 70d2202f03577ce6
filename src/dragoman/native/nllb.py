"""NLLB by the native kernels: `begin` encodes without padding, `step` runs the decoder in one call."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dragoman.kernels.arrays import Array, address, empty
from dragoman.kernels.library import kernels, needed
from dragoman.kernels.structs import SPAN
from dragoman.layers.angles import OFFSET
from dragoman.layers.options import MoeOptions
from dragoman.layers.packed import PackedHead
from dragoman.models.config import NllbConfig
from dragoman.models.nllb import Nllb
from dragoman.models.prompt import Prompt
from dragoman.native.kv_cache import Fixed, KeyValueCache, Sentence, fixed_spans
from dragoman.native.scores import Choice, NativeScores
from dragoman.native.stack import Builder, forward, nllb_stack
from dragoman.native.vocabulary import Heads, Vocabulary

TOKENS = 2048  # encoded together: their vectors stay near the processor


class NativeNllb:
    """A packed NLLB (`surgery.packing.pack_`) that decodes through the kernels."""

    def __init__(self, model: Nllb) -> None:
        builder = Builder()
        self.model, self.config = model, model.config
        self.encoder = nllb_stack(builder, model.encoder)
        self.decoder = nllb_stack(builder, model.decoder)
        # Keys and values of the source, by layer: two products on the same rows.
        self.source = [
            builder.linears((layer.cross_attention.k_proj, layer.cross_attention.v_proj))  # type: ignore[union-attr,arg-type]
            for layer in model.decoder.layers
        ]
        self.heads = Heads(model.lm_head.kernel())  # type: ignore[operator]
        self.embed = model.shared.kernel()  # type: ignore[operator]
        self.positions = model.decoder.positions
        self._builder = builder

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied or pickled it is made again from the model: what the kernels know are addresses."""
        return _again, (self.model, self.heads.vocabulary)

    @staticmethod
    def supports(model: Nllb) -> bool:
        """Whether there are kernels for this model, packed as it is."""
        return (
            kernels() is not None
            and isinstance(model.lm_head, PackedHead)
            and model.lm_head.linear.data.device.type == "cpu"
            and _routes_simply(model.config)
        )

    @torch.inference_mode()
    def begin(self, prompt: Prompt) -> "NativeNllbState":
        """Encode the sources; the state has one row for each."""
        input_ids, keep = prompt.read()
        counts = keep.sum(1).tolist()
        sentences: list[Sentence] = []
        first = 0
        while first < len(counts):
            last, tokens = first, 0
            while last < len(counts) and (last == first or tokens + counts[last] <= TOKENS):
                tokens += counts[last]
                last += 1
            rows = slice(first, last)
            sentences += self._encode(input_ids[rows][keep[rows]], counts[first:last])
            first = last
        width = self.config.d_model
        return NativeNllbState(KeyValueCache(len(self.source), width, sentences))

    def _encode(self, tokens: Tensor, counts: list[int]) -> list[Sentence]:
        """tokens: those of all sentences one after the other; counts: how many each has."""
        total, width = len(tokens), self.config.d_model
        starts = np.cumsum([0, *counts[:-1]])
        places = np.arange(total) - np.repeat(starts, counts)
        x = self._embed(tokens.numpy(), places)
        room = empty(2, total, width)
        first = address("keys", room, np.float32, 2, total, width)
        spans = np.zeros(total, SPAN)
        spans["key"] = np.repeat(starts, counts) * (4 * width) + first
        spans["value_offset"] = total * width
        spans["count"] = np.repeat(counts, counts)
        spans["step"] = 1
        write = (np.arange(total) * (4 * width) + first).astype(np.uint64)
        zeros = np.zeros(total, np.int64)
        forward(self.encoder, x, spans, 1, (write, zeros, zeros + total * width))
        source = empty(len(self.source), 2, total, width)
        native = needed()
        for pair, out in zip(self.source, source, strict=True):
            native.linear(pair, x, out)
        sentences = []
        for start, count, ids in zip(starts, counts, tokens.split(counts), strict=True):
            # Memory of its own, which goes when the sentence does.
            keys = empty(len(self.source), 2, count, width)
            keys[:] = source[:, :, start : start + count]
            sentences.append(Sentence((Fixed(keys, count),), source=tuple(ids.tolist())))
        return sentences

    @torch.inference_mode()
    def step(self, tokens: Tensor, state: "NativeNllbState") -> NativeScores:
        """Feed the newest tokens of each row [rows, new]; scores of the next one."""
        rows, new = tokens.shape
        cache = state.cache
        if self.heads.vocabulary is not None and not cache.sentences[0].language:
            state.choose(self.heads, tokens)
        places = cache.lengths()[:, None] + np.arange(new)
        x = self._embed(tokens.numpy().reshape(-1), places.reshape(-1))
        spans, write = cache.extend(new)
        cross = state.cross()
        if new > 1:
            cross = np.repeat(cross, new)
        forward(self.decoder, x, spans, 1, write, cross)
        if new > 1:
            x = np.ascontiguousarray(x.reshape(rows, new, -1)[:, -1])
        return NativeScores(x, state.choices(self.heads))

    def state_bytes(self, source_tokens: int, new_tokens: int, beams: int) -> int:
        """Memory that decoding one sentence takes."""
        return 8 * len(self.source) * self.config.d_model * (source_tokens + beams * (new_tokens + 32))

    def _embed(self, tokens: Array, places: Array) -> Array:
        table = self.positions.table(int(places.max(initial=0)) + 1, torch.device("cpu")).numpy()
        return self.embed(tokens) + table[places + OFFSET]


class NativeNllbState:
    """Decoding under way; rows are hypotheses, `beams` of them side by side for each sentence."""

    def __init__(self, cache: KeyValueCache) -> None:
        self.cache = cache
        self._cross: Any = None
        self._choices: list[Choice] | None = None

    def cross(self) -> Any:
        """Where each row finds its source's keys."""
        if self._cross is None:
            self._cross = fixed_spans(self.cache.sentences, 0, self.cache.beams)
        return self._cross

    def choose(self, heads: Heads, prompts: Tensor) -> None:
        """Note what the sentences may choose from; the last token of a prompt is the target language."""
        for sentence, prompt in zip(self.cache.sentences, prompts.tolist(), strict=True):
            sentence.language = prompt[-1]
            sentence.source = heads.extra(sentence.language, sentence.source)

    def choices(self, heads: Heads) -> list[Choice]:
        """What the rows choose from."""
        if self._choices is None:
            sentences = [s for s in self.cache.sentences for _ in range(self.cache.beams)]
            self._choices = heads.choices([s.language for s in sentences], [s.source for s in sentences])
        return self._choices

    def select(self, rows: Tensor, beams: int) -> None:
        """Keep `rows` (numbers of the present rows, repeats allowed) in the given order.

        Each run of `beams` rows must come from one sentence.
        """
        before = self.cache.sentences
        self.cache.select(rows.numpy(), beams)
        if self.cache.sentences is not before:
            self._cross = self._choices = None

    def join(self, other: "NativeNllbState") -> None:
        """Put the other's rows behind these."""
        self.cache.join(other.cache)
        self._cross = self._choices = None


def _routes_simply(config: NllbConfig) -> bool:
    """Whether routing is a row's own affair, without chance and without dropped tokens."""
    options: MoeOptions = config.moe_options()
    return not config.is_sparse or (
        options.second_expert_policy == "all"
        and options.eval_capacity_fraction >= 1
        and options.router_dtype == "float32"
    )


def _again(model: Nllb, vocabulary: Vocabulary | None) -> NativeNllb:
    native = NativeNllb(model)
    native.heads.restrict(vocabulary)
    return native
