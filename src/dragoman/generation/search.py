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


class Model(Protocol):
    """The seam between models and generation."""

    def begin(self, input_ids: Tensor, keep: Tensor) -> Any:
        """Read the sources [sentences, time]; the state has one row for each."""

    def step(self, tokens: Tensor, state: Any) -> Tensor:
        """Feed tokens [rows, new] and get the next token's logits [rows, vocabulary]."""


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
    model: Model,
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
    state: State = model.begin(input_ids, keep)
    if options.sample or options.beams == 1:
        search: SampleSearch | BeamSearch = SampleSearch(input_ids, prompt, options, forced, eos)
    else:
        search = BeamSearch(prompt, options, forced, eos)
    tokens = prompt
    while True:
        chosen = search.advance(model.step(tokens, state))
        if chosen is None:
            return [
                [Hypothesis(tuple(tokens), score) for tokens, score in ranked] for ranked in search.results()
            ]
        rows, tokens = chosen
        if rows is not None:
            state.select(rows, search.width)
