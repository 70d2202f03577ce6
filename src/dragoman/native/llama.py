"""Llama and X-ALMA by the native kernels: prompts are read without padding, and kept once per sentence."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dragoman.kernels.arrays import Array, empty
from dragoman.kernels.library import needed
from dragoman.kernels.structs import SPAN
from dragoman.layers.angles import attention_factor, frequencies
from dragoman.models.language_modules import LanguageModules
from dragoman.models.llama_config import LlamaConfig
from dragoman.models.prompt import Prompt
from dragoman.native.kv_cache import Fixed, KeyValueCache, Sentence, fixed_spans
from dragoman.native.passes import Passes
from dragoman.native.prefix_cache import LEAST, PrefixCache, common_prefix
from dragoman.native.scores import Choice, NativeScores
from dragoman.native.stack import Builder, llama_stack
from dragoman.native.weights import Weights

if TYPE_CHECKING:
    from dragoman.models.llama import Llama

Routing = tuple[Any, Any, Any, Any]
"""Row ranges that share a language module: starts, stops, module numbers and scales."""
TOKENS = 2048
"""Read together: their vectors stay near the processor."""


class NativeLlama:
    """A Llama on packed weights, with its language modules, that decodes through the kernels."""

    def __init__(
        self, config: LlamaConfig, weights: Weights, language: LanguageModules | None = None
    ) -> None:
        """weights: under the names of `models.llama.Llama`; language: the modules that they have.

        InvalidOption where there are no kernels.
        """
        needed()
        self.config, self.weights = config, weights
        self.language = LanguageModules() if language is None else language
        self.choices = (Choice(weights.head("lm_head"), None),)
        self.embed = weights.embedding("model.embed_tokens")
        self.width = config.num_key_value_heads * config.head_dim
        self.prefixes = PrefixCache()
        self._frequencies = frequencies(config.head_dim, config.rope, config.max_position_embeddings)
        self._stretch = np.float32(attention_factor(config.rope))
        self._build()

    @classmethod
    def of(cls, model: "Llama") -> "NativeLlama":
        """For a packed PyTorch model (`surgery.packing.pack_`), in the same memory.

        Modules that are attached to it later, or go, come and go here too.
        """
        from dragoman.layers.packed_weights import ModuleWeights

        return cls(model.config, ModuleWeights(model), model.model.language)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied or pickled it is made again from its weights: what the kernels know are addresses."""
        return NativeLlama, (self.config, self.weights, self.language)

    def _build(self) -> None:
        self.prefixes.clear()
        self._version = self.language.version
        self._builder = Builder(self.weights)
        self.modules = {group: number for number, group in enumerate(sorted(self.language.scales))}
        self._layers = Passes(llama_stack(self._builder, self.config, self.modules))

    @staticmethod
    def supports(model: "Llama") -> bool:
        """Whether there are kernels for this PyTorch model, packed as it is."""
        from dragoman.layers.packed_weights import fit_for_kernels

        return fit_for_kernels(model) and turns_alone(model.config)

    def begin(self, prompt: Prompt) -> "NativeLlamaState":
        """Prepare to continue prompts; the first `step` is given all their tokens.

        Raises LanguageModuleError for a group that isn't there.
        """
        keep = prompt.continued()
        self.language.check(prompt.groups)
        return NativeLlamaState(keep, prompt.groups, self.language.version)

    def step(self, tokens: Array, state: "NativeLlamaState") -> NativeScores:
        """Feed the newest tokens of each row [rows, new]; scores of the next one."""
        if self._version != self.language.version:
            self._build()  # modules came or went meanwhile
        if state.version != self._version:
            self.language.check(state.sentence_groups())  # one may have gone that is needed
            state.version = self._version
        if state.cache is None:
            return NativeScores(self._read(tokens, state), self.choices)
        rows, new = tokens.shape
        cache = state.cache
        places = np.repeat([s.position for s in cache.sentences], cache.beams)[:, None] + np.arange(new)
        own, write = cache.extend(new)
        parts = [*(np.repeat(spans, new) for spans in state.fixed()), own]
        x = self._forward(tokens.reshape(-1), places.reshape(-1), parts, write, state.row_groups(new))
        if new > 1:
            x = np.ascontiguousarray(x.reshape(rows, new, -1)[:, -1])
        return NativeScores(x, self.choices)

    def state_bytes(self, source_tokens: int, new_tokens: int, beams: int) -> int:
        """Memory that continuing one prompt takes."""
        layers = self.config.num_hidden_layers
        return 8 * layers * self.width * (source_tokens + beams * (new_tokens + 32))

    def _read(self, tokens: Array, state: "NativeLlamaState") -> Array:
        """Read the prompts [rows, time]; hidden states of their last tokens."""
        prompts = [row[real].tolist() for row, real in zip(tokens, state.keep, strict=True)]
        groups = state.groups or [0] * len(prompts)
        shared = self._shared(prompts, groups)
        lengths = [0 if begun is None else begun.count for begun in shared]
        rest = [prompt[length:] for prompt, length in zip(prompts, lengths, strict=True)]
        fixed, hidden = self._prefill(rest, lengths, shared, groups)
        sentences = [
            Sentence((part,) if begun is None else (begun, part), position=len(prompt), group=group)
            for prompt, begun, part, group in zip(prompts, shared, fixed, groups, strict=True)
        ]
        state.cache = KeyValueCache(self.config.num_hidden_layers, self.width, sentences)
        return hidden

    def _shared(self, prompts: list[list[int]], groups: Sequence[int]) -> list[Fixed | None]:
        """For each prompt the keys of its prefix, if they are known or worth computing for many."""
        shared: list[Fixed | None] = [None] * len(prompts)
        for group in sorted(set(groups)):
            rows = [row for row, its in enumerate(groups) if its == group]
            mine = [prompts[row] for row in rows]
            found = self.prefixes.find(group, mine)
            common = common_prefix(mine) if len(mine) > 1 else 0
            if common >= LEAST + (0 if found is None else found.count):
                found = self._prefill([mine[0][:common]], [0], [None], [group])[0][0]
                self.prefixes.keep(group, mine[0][:common], found)
            for row in rows:
                shared[row] = found
        return shared

    def _prefill(
        self,
        prompts: list[list[int]],
        past: list[int],
        shared: list[Fixed | None],
        groups: Sequence[int],
    ) -> tuple[list[Fixed], Array]:
        """Read tokens of each sentence, behind `past` ones whose keys are `shared`.

        Returns what stays of each, and the hidden states of the last tokens.
        """
        tokens = np.concatenate([np.asarray(prompt, np.int64) for prompt in prompts])
        counts = np.array([len(prompt) for prompt in prompts])
        total, layers = len(tokens), self.config.num_hidden_layers
        starts, ends = np.cumsum(counts) - counts, np.cumsum(counts) - 1
        places = np.arange(total) - np.repeat(starts, counts)
        fixed = [Fixed(empty(layers, 2, int(c), self.width), int(c)) for c in counts]
        spans = np.repeat(np.array([part.span() for part in fixed], SPAN), counts)
        spans["count"] = places + 1
        parts = []
        if any(begun is not None for begun in shared):
            given = [
                _nothing(part) if begun is None else begun for begun, part in zip(shared, fixed, strict=True)
            ]
            parts.append(np.repeat(np.array([begun.span() for begun in given], SPAN), counts))
        write = spans["key"] + (places * (4 * self.width)).astype(np.uint64)
        where = (write, spans["layer_stride"].copy(), spans["value_offset"].copy())
        row_groups = np.repeat(groups, counts)
        places = places + np.repeat(past, counts)
        hidden = []
        # In pieces: keys are kept, so a later piece sees what an earlier one left.
        for first in range(0, total, TOKENS):
            these = slice(first, first + TOKENS)
            hidden.append(
                self._forward(
                    tokens[these],
                    places[these],
                    [part[these] for part in (*parts, spans)],
                    tuple(part[these] for part in where),  # type: ignore[arg-type]
                    row_groups[these],
                )[ends[(ends >= first) & (ends < first + TOKENS)] - first]
            )
        return fixed, np.concatenate(hidden)

    def _forward(
        self, tokens: Array, places: Any, spans: list[Any], write: tuple[Any, Any, Any], groups: Any
    ) -> Array:
        """Vectors of `tokens` [rows] at `places` through all layers, rows sorted by language group."""
        order = None
        routes = None
        if groups is not None and self.modules:
            if (groups[1:] < groups[:-1]).any():
                order = np.argsort(groups, kind="stable")
                spans = [part[order] for part in spans]
                write = (write[0][order], write[1][order], write[2][order])
                tokens, places, groups = tokens[order], places[order], groups[order]
            routes = self._routes(groups)
        x = self.embed(tokens)
        angles = places[:, None].astype(np.float32) * self._frequencies
        rotation = (np.cos(angles) * self._stretch, np.sin(angles) * self._stretch)
        both = spans[0] if len(spans) == 1 else np.stack(spans, 1).reshape(-1)
        self._layers(x, both, len(spans), write, None, rotation, routes)
        if order is None:
            return x
        back = np.empty_like(x)
        back[order] = x
        return back

    def _routes(self, groups: Any) -> Routing | None:
        """Ranges of rows of one group; groups: sorted, [rows]."""
        language = self.language
        if language.merged is not None:
            return None
        edges = np.flatnonzero(np.diff(groups)) + 1
        starts = np.concatenate([[0], edges]).astype(np.int32)
        stops = np.concatenate([edges, [len(groups)]]).astype(np.int32)
        known = groups[starts] != 0
        starts, stops = starts[known], stops[known]
        if not len(starts):
            return None
        numbers = np.array([self.modules[int(group)] for group in groups[starts]], np.int32)
        scales = np.array([language.scales[int(group)] for group in groups[starts]], np.float32)
        return starts, stops, numbers, scales


class NativeLlamaState:
    """Decoding under way; rows are hypotheses, `beams` of them side by side for each sentence."""

    def __init__(self, keep: Array, groups: Sequence[int] | None, version: int) -> None:
        self.keep, self.groups, self.version = keep, groups, version
        self.cache: KeyValueCache | None = None
        self._fixed: list[Any] | None = None
        self._groups: Any = None

    def fixed(self) -> list[Any]:
        """Where each row finds its prompt's keys: one array of spans or, with a common prefix, two."""
        if self._fixed is None:
            assert self.cache is not None
            most = max(len(s.fixed) for s in self.cache.sentences)
            for sentence in self.cache.sentences:
                missing = (_nothing(sentence.fixed[0]),) * (most - len(sentence.fixed))
                sentence.fixed = (*missing, *sentence.fixed)
            self._fixed = [fixed_spans(self.cache.sentences, i, self.cache.beams) for i in range(most)]
        return self._fixed

    def sentence_groups(self) -> list[int] | None:
        """The language group of each sentence, or None."""
        if self.groups is None or self.cache is None:
            return None if self.groups is None else list(self.groups)
        return [sentence.group for sentence in self.cache.sentences]

    def row_groups(self, new: int) -> Any:
        """The language group of each token fed, or None."""
        if self.groups is None:
            return None
        assert self.cache is not None
        return np.repeat([s.group for s in self.cache.sentences], self.cache.beams * new)

    def select(self, rows: Array, beams: int) -> None:
        """Keep `rows` (numbers of the present rows, repeats allowed) in the given order.

        Each run of `beams` rows must come from one sentence.
        """
        assert self.cache is not None, "the first step reads the prompts"
        before = self.cache.sentences
        self.cache.select(rows, beams)
        if self.cache.sentences is not before:
            self._fixed = None

    def join(self, other: "NativeLlamaState") -> None:
        """Put the other's rows behind these."""
        assert self.cache is not None, "the first step reads the prompts"
        assert other.cache is not None, "the first step reads the prompts"
        assert (self.groups is None) == (other.groups is None), "rows with and without languages can't join"
        self.cache.join(other.cache)
        self._fixed = None


def _nothing(like: Fixed) -> Fixed:
    """No keys at all, where other sentences have some."""
    return Fixed(like.keys, 0)


def turns_alone(config: LlamaConfig) -> bool:
    """Whether a position's angles don't depend on how long the text is, as the kernels have them."""
    return config.rope.rope_type != "dynamic"
