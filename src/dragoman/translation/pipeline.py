"""Sentences on their way through an engine, each from language to language, always as many as it may be.

A sentence's `Journey` has legs: to the pivot language if there is one, and on to the target. Equal legs are
one. As soon as one is done the next may start, whichever text it belongs to, so that the engine's batch never
runs empty between texts or legs.

The thread that reads the results does all the work but the model's: it alone touches what is here. The
engine's thread only puts events into a queue.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from functools import partial
from queue import Empty, SimpleQueue

from dragoman.errors import DragomanError, TranslationFailed
from dragoman.generation.engine import Engine, Job, Ticket
from dragoman.generation.hypotheses import Hypothesis
from dragoman.generation.options import GenerationOptions
from dragoman.languages import Language
from dragoman.systems import Request, System
from dragoman.systems.base import length_cap
from dragoman.text.glossary import Term
from dragoman.translation.attempts import Attempts
from dragoman.translation.deadline import Deadline
from dragoman.translation.legs import Journey, Leg, Outcome, Ready, Remembered
from dragoman.translation.recall import Recall
from dragoman.translation.results import Candidate

Progress = Callable[[int, int], None]

KNOWN = 4
"""So many times as many sentences wait as are under way at most, to choose from."""

AHEAD = 16
"""So many times as many texts are taken before the first of them is done: a sentence in which the model
repeats itself up to its limit takes as long as a dozen others."""


class Cancelled(Exception):
    """Somebody has stopped the pipeline from outside."""


class Pipeline:
    """The sentences of one call.

    `add` sentences as long as it `is_hungry`, `wait` until something has changed, and look at the journeys.
    Whatever ends it, `close` it: that frees the engine at once.
    """

    def __init__(
        self,
        system: System,
        options: GenerationOptions,
        at_once: int,
        timeout: float | None = None,
        progress: Progress | None = None,
        listens: bool = False,
        recall: Recall | None = None,
        attempts: Attempts | None = None,
        news: Callable[[], None] | None = None,
    ) -> None:
        """at_once: legs under way at most; timeout: seconds from now on; listens: to tokens as they come;
        recall: what is known already; attempts: what is tried for a sentence, if not just one thing; news:
        called in any thread when something has happened, for who doesn't `wait` but `look`s then.
        """
        self._system, self._options, self._at_once = system, options, at_once
        self.attempts = Attempts(options) if attempts is None else attempts
        self._deadline = Deadline(timeout)
        self._progress, self._listens, self._recall = progress, listens, recall
        self._events: SimpleQueue[Leg | None] = SimpleQueue()
        self._news = news
        self._stopped = False
        self._legs: dict[Request, Leg] = {}  # not done
        self._remembered = Remembered()
        self._limited: dict[tuple[GenerationOptions, int], GenerationOptions] = {}
        self._ready = Ready()
        self._flying: set[Leg] = set()
        self._counts = [0, 0]

    # For any thread

    def wake(self) -> None:
        """End a `wait`."""
        self._happened(None)

    def stop(self) -> None:
        """Make the reader's next `wait` raise Cancelled."""
        self._stopped = True
        self.wake()

    # For the reader

    @property
    def ahead(self) -> int:
        """How many texts should be taken before the first of them is done."""
        return AHEAD * self._at_once

    @property
    def is_hungry(self) -> bool:
        """Whether more sentences would be of use."""
        return len(self._ready) < KNOWN * self._at_once

    def no_more_texts(self) -> None:
        """All sentences are here."""
        self._ready.take_longest_first()

    def add(self, text: str, stops: Sequence[Language], terms: tuple[Term, ...] = ()) -> Journey:
        """Send a sentence through the languages in `stops`, the first of which it is in.

        terms: what a glossary wants to be in the last.
        """
        journey = Journey(stops, terms)
        if len(stops) > 2 and self._recall is not None:
            known = self._recall.get(Request(text, stops[0], stops[-1], terms))
            if known is not None:  # without the way over a third language
                journey.outcome = known
                journey.stops.clear()
                return journey
        self._count(known=len(stops) - 1)
        self._depart(journey, text)
        return journey

    def wait(self) -> None:
        """Wait until something has happened: a leg is done, tokens have come, or somebody woke it.

        Raises TranslationTimeout and Cancelled.
        """
        self._refill()
        self._take(self._next_event())

    def look(self) -> bool:
        """As `wait`, but at once; returns whether anything has happened."""
        self._refill()
        if self._stopped:
            raise Cancelled
        self._deadline.check()
        try:
            event = self._events.get_nowait()
        except Empty:
            return False
        self._take(event)
        return True

    @property
    def left(self) -> float | None:
        """Seconds until the time is over."""
        return self._deadline.left

    def certain(self, journey: Journey) -> str:
        """What the sentence's translation begins with, whatever comes."""
        if isinstance(journey.outcome, tuple):
            return journey.outcome[0].text
        leg = journey.leg
        if leg is None or len(journey.stops) > 1 or not leg.tokens:
            return ""
        return self._system.certain(list(leg.tokens), leg.request)

    def close(self) -> None:
        """Cancel what is under way."""
        while self._flying:
            leg = self._flying.pop()
            if leg.ticket is not None:
                leg.ticket.cancel()

    # Inside

    def _take(self, event: Leg | None) -> None:
        """Note this event and all others that are there."""
        while True:
            if event is not None and event.ticket is not None and event.ticket.done():
                self._land(event, event.ticket)
            try:
                event = self._events.get_nowait()
            except Empty:
                break
        self._refill()

    def _happened(self, event: Leg | None) -> None:
        self._events.put(event)
        if self._news is not None:
            self._news()

    def _next_event(self) -> Leg | None:
        if self._stopped:
            raise Cancelled
        event = self._deadline.next_of(self._events)
        if self._stopped:
            raise Cancelled
        return event

    def _depart(self, journey: Journey, text: str, half_way: bool = False) -> None:
        """Start the next leg of a journey, of which `text` has come so far."""
        terms = journey.terms if len(journey.stops) == 2 else ()
        request = Request(text, journey.stops[0], journey.stops[1], terms)
        journey.stops.popleft()
        known = self._known(request)
        if known is not None:
            self._arrive(journey, known)
            return
        leg = self._legs.get(request)
        if leg is None:
            leg = self._legs[request] = Leg(request, len(journey.stops))
            self._ready.push(leg, half_way)
        leg.journeys.append(journey)
        journey.leg = leg

    def _known(self, request: Request) -> tuple[Candidate, ...] | None:
        """What the model need not be asked for."""
        if request.stays:
            return (Candidate(request.text, 0.0, (), True),)
        known = self._remembered.get(request)
        if known is None and self._recall is not None:
            known = self._recall.get(request)
        return known

    def _arrive(self, journey: Journey, outcome: Outcome) -> None:
        journey.leg = None
        if len(journey.stops) == 1 or isinstance(outcome, DragomanError):
            journey.outcome = outcome
            self._count(done=len(journey.stops))
            journey.stops.clear()
        else:
            self._count(done=1)
            self._depart(journey, outcome[0].text, half_way=True)

    def _refill(self) -> None:
        """Hand legs to the engine: a good number together, as it reads them together."""
        free = self._at_once - len(self._flying)
        if self._flying and 4 * free < self._at_once:
            return
        legs: list[Leg] = []
        jobs: list[Job] = []
        while self._ready and len(self._flying) + len(legs) < self._at_once:
            leg = self._ready.pop()
            try:
                jobs.append(self._job(leg))
            except DragomanError as error:
                self._finish(leg, error)
                self.wake()  # for there will be no event of the engine's
            else:
                legs.append(leg)
        self._flying.update(legs)
        for leg, ticket in zip(legs, self._submit(legs, jobs), strict=True):
            leg.ticket = ticket
            ticket.add_done_callback(partial(self._put, leg))

    def _job(self, leg: Leg) -> Job:
        request = leg.request
        if leg.attempt is None:
            # Tokens that somebody hears can't be taken back: then there is one attempt.
            leg.attempt = self.attempts.only(request) if self._listens else self.attempts.first(request)
        system, options = leg.attempt.by or self._system, leg.attempt.options
        (row,) = system.encode([request])
        most = min(options.max_new_tokens, system.max_new_tokens)
        cap = length_cap(len(row), most, system.growth(request.source, request.target))
        if not leg.attempt.with_terms:
            request = replace(request, terms=())
        return system.job(row, request, self._limit(options, cap))

    def _submit(self, legs: list[Leg], jobs: list[Job]) -> list[Ticket]:
        left = self._deadline.left
        if self._listens:
            engine = self._system.engine
            return [
                engine.submit(job, partial(self._hear, leg), left)
                for leg, job in zip(legs, jobs, strict=True)
            ]
        tickets: dict[Leg, Ticket] = {}
        for engine, pairs in _by_engine(legs, jobs, self._system.engine).items():
            found = engine.submit_all([job for _, job in pairs], left)
            tickets.update(zip((leg for leg, _ in pairs), found, strict=True))
        return [tickets[leg] for leg in legs]

    def _put(self, leg: Leg, ticket: object) -> None:
        self._happened(leg)

    def _hear(self, leg: Leg, tokens: list[int]) -> None:
        leg.tokens += tokens
        self._happened(leg)

    def _limit(self, options: GenerationOptions, cap: int) -> GenerationOptions:
        found = self._limited.get((options, cap))
        if found is None:
            found = self._limited[options, cap] = replace(options, max_new_tokens=cap)
        return found

    def _land(self, leg: Leg, ticket: Ticket) -> None:
        """The engine is done with a leg."""
        if leg not in self._flying:
            return
        self._flying.remove(leg)
        failure = CancelledError() if ticket.cancelled() else ticket.exception()
        outcome: Outcome
        if failure is None:
            try:
                outcome = self._candidates(ticket.result(), leg)
            except DragomanError as error:
                outcome = error
        elif isinstance(failure, DragomanError):
            outcome = failure
        else:
            outcome = TranslationFailed(
                f"the model failed on a sentence: {failure or type(failure).__name__}"
            )
            outcome.__cause__ = failure
        self._consider(leg, outcome)

    def _consider(self, leg: Leg, outcome: Outcome) -> None:
        """Take what came of an attempt, or try again."""
        assert leg.attempt is not None
        if not isinstance(outcome, DragomanError):
            leg.tries.append(outcome)
        elif not leg.tries:
            self._finish(leg, outcome)
            return
        again = None if self._listens else self.attempts.next(leg.request, leg.tries, leg.attempt)
        if self._listens:  # and what was heard stays the first
            self._finish(leg, leg.tries[-1])
        elif again is None:
            self._finish(leg, self.attempts.best(leg.request, leg.tries))
        else:
            leg.attempt, leg.ticket = again, None
            self._ready.push(leg, half_way=True)

    def _candidates(self, ranked: Sequence[Hypothesis], leg: Leg) -> tuple[Candidate, ...]:
        request, system = leg.request, (leg.attempt and leg.attempt.by) or self._system
        found = tuple(
            Candidate(
                system.decode(hypothesis, request),
                hypothesis.score,
                system.tokens(hypothesis),
                system.is_complete(hypothesis),
            )
            for hypothesis in ranked
        )
        # Bans can leave nothing that may be said.
        return found or (Candidate("", float("-inf"), (), False),)

    def _finish(self, leg: Leg, outcome: Outcome) -> None:
        del self._legs[leg.request]
        if not isinstance(outcome, DragomanError):
            self._remembered.add(leg.request, outcome)
            # What somebody listened to came of one attempt, where others might make several.
            if self._recall is not None and not self._listens:
                self._recall.put(leg.request, outcome)
        for journey in leg.journeys:
            self._arrive(journey, outcome)

    def _count(self, done: int = 0, known: int = 0) -> None:
        self._counts[0] += done
        self._counts[1] += known
        if self._progress is not None and done:
            self._progress(*self._counts)


def _by_engine(
    legs: Sequence[Leg], jobs: Sequence[Job], usual: Engine
) -> dict[Engine, list[tuple[Leg, Job]]]:
    """Legs and jobs by the engine that they go to."""
    found: dict[Engine, list[tuple[Leg, Job]]] = {}
    for leg, job in zip(legs, jobs, strict=True):
        by = leg.attempt.by if leg.attempt else None
        found.setdefault(by.engine if by else usual, []).append((leg, job))
    return found
