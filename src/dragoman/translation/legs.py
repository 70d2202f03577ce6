"""One translation of one sentence, those that wait to begin, and those that are done."""

import heapq
from collections import OrderedDict, deque
from collections.abc import Sequence

from dragoman.errors import DragomanError
from dragoman.generation.engine import Ticket
from dragoman.languages import Language
from dragoman.systems import Request
from dragoman.text.glossary import Term
from dragoman.translation.attempts import Attempt
from dragoman.translation.results import Candidate

Outcome = tuple[Candidate, ...] | DragomanError
"""The translations of a sentence, best first, or what stood against them."""


class Leg:
    """A sentence on its way from one language to another."""

    __slots__ = ("attempt", "journeys", "outcome", "request", "ticket", "tokens", "tries", "work")

    def __init__(self, request: Request, hops: int) -> None:
        """hops: how many legs the sentence has before it, this one included."""
        self.request = request
        self.work = hops * len(request.text)
        """How long the sentence will take to its end, more or less."""
        self.journeys: list[Journey] = []
        """Those that wait for it."""
        self.attempt: Attempt | None = None
        """How it is translated; None until it has begun."""
        self.tries: list[tuple[Candidate, ...]] = []
        """What came of the attempts so far, if they weren't good enough."""
        self.ticket: Ticket | None = None
        self.tokens: list[int] = []
        """Those that are certain, if anyone listens."""
        self.outcome: Outcome | None = None


class Journey:
    """A sentence on its way through all its languages."""

    __slots__ = ("leg", "outcome", "stops", "terms")

    def __init__(self, stops: Sequence[Language], terms: tuple[Term, ...] = ()) -> None:
        """stops: the language it is in, and those it goes to one after the other; terms: to be at the end."""
        self.stops, self.terms = deque(stops), terms
        self.leg: Leg | None = None
        self.outcome: Outcome | None = None


class Ready:
    """The legs that wait to begin.

    They begin in the order of their texts, as results come in that order, and those of sentences that are
    half-way before others. Once no more texts are to come the longest begins first: so the last to end
    aren't a few long ones that have the model to themselves.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Leg]] = []
        self._number = 0
        self._longest_first = False

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, leg: Leg, half_way: bool) -> None:
        self._number += 1
        first = -leg.work if self._longest_first else -half_way
        heapq.heappush(self._heap, (first, self._number, leg))

    def pop(self) -> Leg:
        return heapq.heappop(self._heap)[2]

    def take_longest_first(self) -> None:
        """From now on."""
        if not self._longest_first:
            self._longest_first = True
            self._heap = [(-leg.work, number, leg) for _, number, leg in self._heap]
            heapq.heapify(self._heap)


class Remembered:
    """What became of the latest legs, for sentences that are equal to theirs; its memory is bounded."""

    LEGS = 4096
    TOKENS = 250_000

    def __init__(self) -> None:
        self._known: OrderedDict[Request, tuple[Candidate, ...]] = OrderedDict()
        self._tokens = 0

    def get(self, request: Request) -> tuple[Candidate, ...] | None:
        found = self._known.get(request)
        if found is not None:
            self._known.move_to_end(request)
        return found

    def add(self, request: Request, candidates: tuple[Candidate, ...]) -> None:
        self._known[request] = candidates
        self._tokens += _tokens(candidates)
        while len(self._known) > self.LEGS or self._tokens > self.TOKENS:
            _, oldest = self._known.popitem(last=False)
            self._tokens -= _tokens(oldest)


def _tokens(candidates: tuple[Candidate, ...]) -> int:
    return sum(len(candidate.tokens) for candidate in candidates)
