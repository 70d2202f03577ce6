"""NLLB-200 and NLLB-MoE: `[source language] sentence </s>` in, `[target language] translation </s>` out."""

from dataclasses import replace
from pathlib import Path

import torch

from dragoman.errors import CheckpointError
from dragoman.generation.options import GenerationOptions
from dragoman.generation.search import Hypothesis, generate
from dragoman.languages import Language
from dragoman.models.catalog import ModelCard
from dragoman.models.checkpoint import load_nllb
from dragoman.models.nllb import Nllb
from dragoman.systems.base import Request
from dragoman.text.tokenizers import NllbTokenizer


class NllbSystem:
    """Dense or sparse NLLB as a `System`."""

    def __init__(self, model: Nllb, tokenizer: NllbTokenizer, card: ModelCard) -> None:
        self.model, self.tokenizer, self.card = model, tokenizer, card

    @classmethod
    def load(cls, folder: Path, device: str) -> "NllbSystem":
        """Load model, tokenizer and card; CheckpointError if the first two don't belong together."""
        model = load_nllb(folder, device=device)
        tokenizer = NllbTokenizer.from_folder(folder)
        rows, embedded = tokenizer.layout.rows, model.config.vocab_size
        if rows > embedded:
            raise CheckpointError(
                f"{folder}: its tokenizer has {rows} rows and the model's embedding only {embedded}; "
                "take both from one release"
            )
        card = ModelCard.from_folder(folder, model.config.max_position_embeddings)
        return cls(model, tokenizer, card)

    @property
    def max_new_tokens(self) -> int:
        return self.model.config.max_position_embeddings - 2

    def room(self, source: Language, target: Language) -> int:
        return self.card.max_source_tokens

    def measure(self, text: str) -> int:
        return len(self.tokenizer.encode_pieces([text])[0])

    def encode(self, requests: list[Request]) -> list[list[int]]:
        texts = [request.text for request in requests]
        return self.tokenizer.encode_batch(texts, [request.source.nllb for request in requests])

    def run(
        self, rows: list[list[int]], requests: list[Request], options: GenerationOptions
    ) -> list[list[Hypothesis]]:
        device = self.model.shared.weight.device
        ids, keep = self.tokenizer.pad(rows)
        start = self.tokenizer.eos_id
        prompt = [[start, self.tokenizer.language_id(request.target.nllb)] for request in requests]
        return generate(
            self.model,
            torch.tensor(ids, device=device),
            torch.tensor(keep, device=device),
            torch.tensor(prompt, device=device),
            # The data tags above the languages are tokens of the model, but never of a text.
            replace(options, suppress=(*options.suppress, *self.tokenizer.never_generated)),
        )

    def decode(self, hypothesis: Hypothesis, request: Request) -> str:
        return self.tokenizer.decode(hypothesis.tokens)

    def tokens(self, hypothesis: Hypothesis) -> tuple[str, ...]:
        return tuple(self.tokenizer.tokens(hypothesis.tokens))

    def is_complete(self, hypothesis: Hypothesis) -> bool:
        return hypothesis.tokens[-1] == self.tokenizer.eos_id
