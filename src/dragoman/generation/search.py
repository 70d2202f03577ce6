"""The loop from sources to hypotheses, for any model with `begin` and `step`."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from dragoman.generation.beam import BeamSearch
from dragoman.generation.options import GenerationOptions
from dragoman.generation.sampling import SampleSearch


class State(Protocol):
    """A model's decoding under way."""

    def select(self, rows: Tensor, beams: int) -> None:
        """Keep `rows` in the given order; each run of `beams` rows belongs to one sentence."""


class Stepper(Protocol):
    """The seam between models and generation."""

    def step(self, tokens: Tensor, state: Any) -> Tensor:
        """Feed tokens [rows, new] and get the next token's logits [rows, vocabulary]."""


class EncoderDecoder(Stepper, Protocol):
    """A model that reads a source and then writes behind a prompt of its own."""

    def begin(self, input_ids: Tensor, keep: Tensor) -> Any:
        """Read the sources [sentences, time]; the state has one row for each."""


class DecoderOnly(Stepper, Protocol):
    """A model that continues prompts; its first step reads them."""

    def begin(self, keep: Tensor, groups: Any) -> Any:
        """Prepare for prompts whose real tokens are `keep` [sentences, time], in languages `groups`."""


@dataclass(frozen=True)
class Hypothesis:
    """One candidate: the generated tokens, prompt excluded, and its score.

    The score is the log-probability divided by length**length_penalty, as in
    transformers' `sequences_scores`; for a sample or a greedy result the penalty applies too.
    """

    tokens: tuple[int, ...]
    score: float


@torch.inference_mode()
def generate(
    model: EncoderDecoder,
    input_ids: Tensor,
    keep: Tensor,
    prompt: Tensor,
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
    if options.max_new_tokens <= forced or not len(input_ids):
        given = prompt[:, prompt.shape[1] - forced :][:, : options.max_new_tokens]
        return [[Hypothesis(tuple(tokens), 0.0)] for tokens in given.tolist()]
    return search(model, model.begin(input_ids, keep), prompt, options, input_ids, keep, forced, eos)


@torch.inference_mode()
def complete(
    model: DecoderOnly,
    input_ids: Tensor,
    keep: Tensor,
    options: GenerationOptions,
    groups: Any = None,
    eos: int = 2,
) -> list[list[Hypothesis]]:
    """The `n_best` continuations of each prompt, best first, without the prompt itself.

    input_ids: [sentences, time]; keep: boolean, False on padding, which is on the left.
    groups: the language group of each sentence, for a model with language modules. Penalties
    and bans on repetition look at the prompt too, as in transformers.
    """
    if not len(input_ids):
        return []
    # Were padding kept in the history, penalties would depend on how much of it there is.
    first = input_ids.gather(1, keep.long().argmax(1, keepdim=True))
    prompt = torch.where(keep, input_ids, first)
    return search(model, model.begin(keep, groups), prompt, options, input_ids, keep, 0, eos)


def search(
    model: Stepper,
    state: State,
    prompt: Tensor,
    options: GenerationOptions,
    sources: Tensor,
    keep: Tensor,
    forced: int,
    eos: int,
) -> list[list[Hypothesis]]:
    """The loop itself: the state stands before `prompt` [sentences, length], which is fed first.

    The last `forced` tokens of the prompt count as generated. sources, keep: what a sentence is
    known by, so that its samples are the same in any batch.
    """
    if options.sample or options.beams == 1:
        chooser: SampleSearch | BeamSearch = SampleSearch(sources, keep, prompt, options, forced, eos)
    else:
        chooser = BeamSearch(prompt, options, forced, eos)
    tokens = prompt
    while True:
        chosen = chooser.advance(model.step(tokens, state))
        if chosen is None:
            return [
                [Hypothesis(tuple(tokens), score) for tokens, score in ranked] for ranked in chooser.results()
            ]
        rows, tokens = chosen
        if rows is not None:
            state.select(rows, chooser.width)
