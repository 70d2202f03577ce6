"""The seam between the translator, which knows texts, and the families of models."""

from dataclasses import dataclass
from typing import Protocol

from dragoman.generation.options import GenerationOptions
from dragoman.generation.search import Hypothesis
from dragoman.languages import Language
from dragoman.models.catalog import ModelCard


@dataclass(frozen=True)
class Request:
    """A sentence to translate."""

    text: str
    source: Language
    target: Language


class System(Protocol):
    """A loaded model with its tokenizer."""

    card: ModelCard

    @property
    def max_new_tokens(self) -> int:
        """Most tokens the model can generate for a sentence."""

    def room(self, source: Language, target: Language) -> int:
        """Most tokens a sentence may have, as `measure` counts."""

    def measure(self, text: str) -> int:
        """How many tokens a text has."""

    def encode(self, requests: list[Request]) -> list[list[int]]:
        """The model's input for each request, token ids."""

    def run(
        self, rows: list[list[int]], requests: list[Request], options: GenerationOptions
    ) -> list[list[Hypothesis]]:
        """The hypotheses for a batch of encoded requests, best first; results don't depend on batch mates."""

    def decode(self, hypothesis: Hypothesis, request: Request) -> str:
        """The translation's text."""

    def tokens(self, hypothesis: Hypothesis) -> tuple[str, ...]:
        """The hypothesis' tokens as the tokenizer spells them."""

    def is_complete(self, hypothesis: Hypothesis) -> bool:
        """Whether the model ended the sentence itself."""
