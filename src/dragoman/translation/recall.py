"""What is known already: translations of sentences that need not be made again.

A pipeline asks its recall before it asks the model, and tells it of each sentence that the model is done
with. Who keeps them, for how long, and what for, is the recall's own affair: a job keeps what it has done
until all of it is written, a translation memory keeps what people have approved of.
"""

from typing import Protocol

from dragoman.systems import Request
from dragoman.translation.results import Candidate


class Recall(Protocol):
    """Translations of sentences. Used by one thread, the one that reads the results."""

    def get(self, request: Request) -> tuple[Candidate, ...] | None:
        """The translations of a sentence, best first; None if they aren't known."""

    def put(self, request: Request, candidates: tuple[Candidate, ...]) -> None:
        """The model is done with a sentence."""
