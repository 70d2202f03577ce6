"""What is known already: translations of sentences that need not be made again.

A pipeline asks its recall before it asks the model, and tells it of each sentence that the model is done
with. Who keeps them, for how long, and what for, is the recall's own affair: a job keeps what it has done
until all of it is written, a translation memory keeps what people have approved of.
"""

import json
import zlib
from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol

from dragoman.systems import Request
from dragoman.translation.results import Candidate


class Recall(Protocol):
    """Translations of sentences. Used by one thread, the one that reads the results."""

    def get(self, request: Request) -> tuple[Candidate, ...] | None:
        """The translations of a sentence, best first; None if they aren't known."""

    def put(self, request: Request, candidates: tuple[Candidate, ...]) -> None:
        """The model is done with a sentence."""


class Recalls:
    """Several in one: the first that knows a sentence has its say, and all are told."""

    def __init__(self, recalls: Sequence[Recall]) -> None:
        self._recalls = recalls

    def get(self, request: Request) -> tuple[Candidate, ...] | None:
        return next((found for one in self._recalls if (found := one.get(request)) is not None), None)

    def put(self, request: Request, candidates: tuple[Candidate, ...]) -> None:
        for one in self._recalls:
            one.put(request, candidates)


def request_key(request: Request, salt: str = "") -> bytes:
    """Sixteen bytes that tell requests apart; salt: what else decides their results."""
    terms = [(term.source, term.target) for term in request.terms]
    told = json.dumps([salt, request.source.nllb, request.target.nllb, request.text, terms])
    return blake2b(told.encode(), digest_size=16).digest()


def packed(candidates: tuple[Candidate, ...]) -> bytes:
    """Candidates in few bytes."""
    told = [[one.text, one.score, one.tokens, one.complete] for one in candidates]
    return zlib.compress(json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode(), 1)


def unpacked(value: bytes) -> tuple[Candidate, ...]:
    """What was `packed`."""
    return tuple(
        Candidate(text, score, tuple(tokens), complete)
        for text, score, tokens, complete in json.loads(zlib.decompress(value))
    )
