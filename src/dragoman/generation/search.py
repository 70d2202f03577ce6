"""The loop from sources to hypotheses, for any model with `begin` and `step`."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from dragoman.generation.beam import BeamSearch
from dragoman.generation.hypotheses import Array, Hypothesis
from dragoman.generation.options import GenerationOptions
from dragoman.generation.sampling import SampleSearch
from dragoman.generation.scores import Scores
from dragoman.generation.terms import Terms
from dragoman.models.prompt import Prompt

__all__ = ["Hypothesis", "complete", "generate", "new_search"]


class State(Protocol):
    """A model's decoding under way."""

    def select(self, rows: Array, beams: int) -> None:
        """Keep `rows` in the given order; each run of `beams` rows belongs to one sentence."""

    def join(self, other: Any) -> None:
        """Put the rows of `other`, with as many beams for a sentence, behind these; it is used up.

        Both are past their prompts; their sentences may have different lengths, so far and of
        their sources.
        """


class Model(Protocol):
    """The seam between models and generation."""

    def begin(self, prompt: Prompt) -> Any:
        """Read what is to be read; the state has a row for each sentence, and stands before the tokens.

        ValueError if the prompt lacks what the model needs.
        """

    def step(self, tokens: Array, state: Any) -> Scores:
        """Feed tokens [rows, new]; the scores of each row's next one."""

    def state_bytes(self, source_tokens: int, new_tokens: int, beams: int) -> int:
        """The memory that decoding one sentence takes."""


@runtime_checkable
class ReadsAhead(Protocol):
    """A model to which it matters how many sources it reads together, more than can be decoded together."""

    @property
    def ahead(self) -> int:
        """How many tokens it should be given to read at a time; 0 if it doesn't matter now."""

    def read_ahead(self, sources: Sequence[Sequence[int]]) -> None:
        """Read sources that will begin soon."""

    def has_read(self, source: Sequence[int]) -> bool:
        """Whether one was read, and didn't begin yet."""


class Search(Protocol):
    """What chooses the next tokens; `BeamSearch` and `SampleSearch` are such."""

    width: int
    """Rows of each sentence after a step."""
    done: dict[int, list[Hypothesis]]
    """What has been found of the sentences that ended, best first; callers take it away."""

    @property
    def keys(self) -> list[int]:
        """The sentences under way."""

    def advance(self, scores: Scores) -> tuple[Array | None, Array] | None:
        """What to select (None: all as they are) and to feed [rows, 1] next; None once all have ended."""

    def drop(self, keys: set[int]) -> Array:
        """Give up the sentences of these keys; returns the rows of the others."""

    def join(self, other: Any) -> None:
        """Put the sentences of `other` behind these."""

    def certain(self, key: int) -> list[int]:
        """The tokens with which the best hypothesis of a sentence begins, whatever comes."""


def generate(
    model: Model,
    input_ids: Array,
    keep: Array,
    prompt: Array,
    options: GenerationOptions,
    forced: int = 1,
    eos: int = 2,
) -> list[list[Hypothesis]]:
    """The `n_best` hypotheses of each source, best first.

    input_ids: [sentences, time]; keep: boolean, False on padding. prompt: [sentences,
    length], the decoder's first tokens. Its last `forced` tokens count as generated: NLLB's
    prompt is `</s> lang`, of which `lang` is part of the result. A sentence has fewer than
    `n_best` hypotheses only where the vocabulary or the bans leave no more.
    """
    prompts = prompt.tolist()
    if options.max_new_tokens <= forced or not prompts:
        return [[given(tokens, forced, options.max_new_tokens)] for tokens in prompts]
    begun = Prompt(input_ids, keep, prompt)
    return _search(model, begun, _real(input_ids, keep), prompts, options, forced, eos)


def complete(
    model: Model,
    input_ids: Array,
    keep: Array,
    options: GenerationOptions,
    groups: Sequence[int] | None = None,
    eos: int = 2,
) -> list[list[Hypothesis]]:
    """The `n_best` continuations of each prompt, best first, without the prompt itself.

    input_ids: [sentences, time]; keep: boolean, False on padding, which is on the left.
    groups: the language group of each sentence, for a model with language modules. Penalties
    and bans on repetition look at the prompt too, as in transformers.
    """
    if not len(input_ids):
        return []
    prompts = _real(input_ids, keep)
    begun = Prompt(tokens=input_ids, keep=keep, groups=groups)
    return _search(model, begun, prompts, prompts, options, 0, eos)


def _search(
    model: Model,
    prompt: Prompt,
    sources: list[list[int]],
    prompts: list[list[int]],
    options: GenerationOptions,
    forced: int,
    eos: int,
) -> list[list[Hypothesis]]:
    """The loop itself."""
    tokens, state = prompt.tokens, model.begin(prompt)
    assert tokens is not None
    search = new_search(sources, prompts, options, forced, eos)
    while (chosen := search.advance(model.step(tokens, state))) is not None:
        rows, tokens = chosen
        if rows is not None:
            state.select(rows, search.width)
    return [search.done[place] for place in range(len(prompts))]


def new_search(
    sources: Sequence[Sequence[int]],
    prompts: Sequence[Sequence[int]],
    options: GenerationOptions,
    forced: int,
    eos: int,
    limits: Sequence[int] | None = None,
    keys: Sequence[int] | None = None,
    terms: Sequence[Terms | None] = (),
) -> Search:
    """The search that `options` ask for.

    sources: what each sentence is known by, so that its samples are the same in any batch;
    prompts: what is fed first, of which the last `forced` tokens count as generated; limits, keys:
    the most new tokens of each sentence, if they differ, and its name; terms: what its translation is
    to have, which takes beams.
    """
    if options.sample or options.beams == 1:
        return SampleSearch(sources, prompts, options, forced, eos, limits, keys)
    return BeamSearch(prompts, options, forced, eos, limits, keys, terms)


def given(prompt: Sequence[int], forced: int, most: int) -> Hypothesis:
    """What generation comes to where the prompt's forced tokens are all it may be."""
    return Hypothesis(tuple(prompt[len(prompt) - forced :][:most]), 0.0)


def _real(ids: Array, keep: Array) -> list[list[int]]:
    """The tokens of each row without padding."""
    return [
        [token for token, real in zip(row, flags, strict=True) if real]
        for row, flags in zip(ids.tolist(), keep.tolist(), strict=True)
    ]
