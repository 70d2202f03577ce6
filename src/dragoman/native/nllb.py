"""NLLB by the native kernels: `begin` encodes without padding, `step` runs the decoder in one call."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dragoman.kernels.arrays import Array, empty
from dragoman.kernels.library import needed
from dragoman.layers.angles import OFFSET, sinusoids
from dragoman.models.config import NllbConfig
from dragoman.models.prompt import Prompt
from dragoman.native.encoder import AHEAD, TOKENS, Encoder, groups
from dragoman.native.kv_cache import Fixed, KeyValueCache, Sentence, fixed_spans
from dragoman.native.passes import Passes
from dragoman.native.scores import Choice, NativeScores
from dragoman.native.stack import Builder, nllb_stack
from dragoman.native.vocabulary import Heads, Vocabulary
from dragoman.native.weights import Weights

if TYPE_CHECKING:
    from dragoman.models.nllb import Nllb


class NativeNllb:
    """NLLB on packed weights that decodes through the kernels."""

    def __init__(self, config: NllbConfig, weights: Weights) -> None:
        """weights: under the names of `models.nllb.Nllb`; InvalidOption where there are no kernels."""
        needed()
        builder = Builder(weights)
        self.config, self.weights = config, weights
        reading, self.decoder = (
            Passes(nllb_stack(builder, config, side), weights.experts(side))
            for side in ("encoder", "decoder")
        )
        # Keys and values of the source, by layer: two products on the same rows.
        self.source = [
            builder.linears(f"decoder.layers.{layer}.cross_attention.{side}_proj" for side in "kv")
            for layer in range(config.decoder_layers)
        ]
        self.heads = Heads(weights.head("lm_head"))
        self.embed = weights.embedding("shared")
        self._positions = sinusoids(np.arange(256), config.d_model)
        self._builder = builder
        self.encoder = Encoder(reading, self._embed, config.d_model, AHEAD if reading.waits else 0)

    @classmethod
    def of(cls, model: "Nllb") -> "NativeNllb":
        """For a packed PyTorch model (`surgery.packing.pack_`), in the same memory."""
        from dragoman.layers.packed_weights import ModuleWeights

        return cls(model.config, ModuleWeights(model))

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied or pickled it is made again from its weights: what the kernels know are addresses."""
        return _again, (self.config, self.weights, self.heads.vocabulary)

    @staticmethod
    def supports(model: "Nllb") -> bool:
        """Whether there are kernels for this PyTorch model, packed as it is."""
        from dragoman.layers.packed_weights import fit_for_kernels

        return fit_for_kernels(model) and routes_simply(model.config)

    def begin(self, prompt: Prompt) -> "NativeNllbState":
        """Encode the sources; the state has one row for each."""
        input_ids, keep = prompt.read()
        sources = [tuple(line[real].tolist()) for line, real in zip(input_ids, keep, strict=True)]
        sentences: list[Sentence] = []
        for group in groups(sources, TOKENS):
            sentences += self._sentences(group, np.concatenate(self.encoder(group)))
        return NativeNllbState(KeyValueCache(len(self.source), self.config.d_model, sentences))

    @property
    def ahead(self) -> int:
        """How many tokens are worth reading together before they begin; `generation.search.ReadsAhead`."""
        return self.encoder.ahead

    def read_ahead(self, sources: Sequence[Sequence[int]]) -> None:
        self.encoder.read_ahead([tuple(source) for source in sources])

    def has_read(self, source: Sequence[int]) -> bool:
        return self.encoder.has_read(tuple(source))

    def _sentences(self, sources: Sequence[tuple[int, ...]], x: Array) -> list[Sentence]:
        """x: the vectors of all their tokens, [tokens, hidden]."""
        total, width = x.shape
        source = empty(len(self.source), 2, total, width)
        native = needed()
        for pair, out in zip(self.source, source, strict=True):
            native.linear(pair, x, out)
        sentences, start = [], 0
        for ids in sources:
            # Memory of its own, which goes when the sentence does.
            keys = empty(len(self.source), 2, len(ids), width)
            keys[:] = source[:, :, start : start + len(ids)]
            sentences.append(Sentence((Fixed(keys, len(ids)),), source=ids))
            start += len(ids)
        return sentences

    def step(self, tokens: Array, state: "NativeNllbState") -> NativeScores:
        """Feed the newest tokens of each row [rows, new]; scores of the next one."""
        rows, new = tokens.shape
        cache = state.cache
        if self.heads.vocabulary is not None and not cache.sentences[0].language:
            state.choose(self.heads, tokens)
        places = cache.lengths()[:, None] + np.arange(new)
        x = self._embed(tokens.reshape(-1), places.reshape(-1))
        spans, write = cache.extend(new)
        cross = state.cross()
        if new > 1:
            cross = np.repeat(cross, new)
        self.decoder(x, spans, 1, write, cross)
        if new > 1:
            x = np.ascontiguousarray(x.reshape(rows, new, -1)[:, -1])
        return NativeScores(x, state.choices(self.heads))

    def state_bytes(self, source_tokens: int, new_tokens: int, beams: int) -> int:
        """Memory that decoding one sentence takes."""
        return 8 * len(self.source) * self.config.d_model * (source_tokens + beams * (new_tokens + 32))

    def _embed(self, tokens: Array, places: Array) -> Array:
        return self.embed(tokens) + self._table(int(places.max(initial=0)))[places + OFFSET]

    def _table(self, last: int) -> Array:
        """The vectors of positions, as far as the last one that is needed."""
        table = self._positions
        if len(table) <= last + OFFSET:
            # With room to spare: a decoder comes back for one more row at every step.
            table = self._positions = sinusoids(np.arange(2 * (last + OFFSET)), self.config.d_model)
        return table


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

    def choose(self, heads: Heads, prompts: Array) -> None:
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

    def select(self, rows: Array, beams: int) -> None:
        """Keep `rows` (numbers of the present rows, repeats allowed) in the given order.

        Each run of `beams` rows must come from one sentence.
        """
        before = self.cache.sentences
        self.cache.select(rows, beams)
        if self.cache.sentences is not before:
            self._cross = self._choices = None

    def join(self, other: "NativeNllbState") -> None:
        """Put the other's rows behind these."""
        self.cache.join(other.cache)
        self._cross = self._choices = None


def routes_simply(config: NllbConfig) -> bool:
    """Whether routing is a row's own affair, without chance and dropped tokens, as the kernels have it."""
    options = config.moe_options()
    return not config.is_sparse or (
        options.second_expert_policy == "all"
        and options.eval_capacity_fraction >= 1
        and options.router_dtype == "float32"
    )


def _again(config: NllbConfig, weights: Weights, vocabulary: Vocabulary | None) -> NativeNllb:
    native = NativeNllb(config, weights)
    native.heads.restrict(vocabulary)
    return native
