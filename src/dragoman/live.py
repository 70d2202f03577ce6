"""A translation, or an answer, that is read while it is made."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import Any

from dragoman.generation.engine import Job, Ticket
from dragoman.generation.options import GenerationOptions
from dragoman.languages import Language
from dragoman.systems import Request, System
from dragoman.systems.base import ChatSystem, best_tokens, length_cap
from dragoman.text.sentences import Segment, SplitText, join
from dragoman.translations import TextJob


class Strand:
    """A sentence on its way, by way of the pivot language if there is one."""

    def __init__(
        self,
        system: System,
        text: str,
        languages: Sequence[Language],
        options: GenerationOptions,
        events: "SimpleQueue[tuple[Strand, list[int]]]",
    ) -> None:
        """languages: the one it is in, and those it is to be translated to one after the other.

        events: is told of new tokens of a strand, none of them when it has a result.
        """
        self._system, self._options, self._events = system, options, events
        self._request = Request(text, *languages[:2])
        self._further = deque(languages[2:])
        self._ticket: Ticket | None = None
        self._tokens: list[int] = []
        self.certain = ""
        """What the translation begins with, whatever comes."""
        self.is_done = False

    def start(self) -> None:
        """Set out for the next language; raises what stands against it."""
        system, request, options = self._system, self._request, self._options
        if request.stays:
            self._arrive(request.text)
            return
        row = system.encode([request])[0]
        cap = length_cap(len(row), min(options.max_new_tokens, system.max_new_tokens))
        job = system.job(row, request, replace(options, max_new_tokens=cap))
        self._ticket = system.engine.submit(job, None if self._further else self._tell)
        self._ticket.add_done_callback(partial(self._tell, []))

    def _tell(self, tokens: list[int], _: Any = None) -> None:
        self._events.put((self, tokens))

    def look(self, tokens: list[int]) -> None:
        """See how far it has come, with these tokens; raises what went wrong."""
        self._tokens += tokens
        if self._ticket is not None and not tokens:
            ranked, self._ticket = self._ticket.result(), None
            self._arrive(self._system.decode(ranked[0], self._request) if ranked else "")
        elif tokens:
            self.certain = self._system.certain(self._tokens, self._request)

    def _arrive(self, text: str) -> None:
        if self._further:
            self._request = Request(text, self._request.target, self._further.popleft())
            self.start()
        else:
            self.certain, self.is_done = text, True

    def cancel(self) -> None:
        """Give up."""
        if self._ticket is not None:
            self._ticket.cancel()


def translate_live(system: System, job: TextJob, options: GenerationOptions, at_once: int) -> Iterator[str]:
    """The translation of a text in pieces, each as soon as it is certain.

    at_once: how many sentences are decoded side by side.
    """
    languages = [job.source, *([job.pivot] if job.pivot else []), job.target]
    events: SimpleQueue[tuple[Strand, list[int]]] = SimpleQueue()
    strands = [Strand(system, segment.text, languages, options, events) for segment in job.parts.segments]
    todo, running = deque(strands), list[Strand]()
    try:
        for place, strand in enumerate(strands):
            shown = 0
            piece = _before(job, place)
            while True:
                piece, shown = piece + strand.certain[shown:], len(strand.certain)
                if piece:
                    yield piece
                if strand.is_done:
                    break
                piece = ""
                free = at_once - len(running)
                if 4 * free >= at_once or not running:
                    for _ in range(min(free, len(todo))):
                        running.append(todo.popleft())
                        running[-1].start()
                if not strand.is_done:
                    moved, tokens = events.get()
                    moved.look(tokens)
                running = [each for each in running if not each.is_done]
    finally:
        for strand in running:
            strand.cancel()
    if job.parts.after:
        yield job.parts.after


def answer_live(system: ChatSystem, job: Job) -> Iterator[str]:
    """The answer to a question in pieces, each as soon as it is certain."""
    events: SimpleQueue[list[int]] = SimpleQueue()
    tokens: list[int] = []
    shown = 0
    ticket = system.engine.submit(job, events.put)
    ticket.add_done_callback(lambda _: events.put([]))
    try:
        while new := events.get():
            tokens += new
            text = system.answer(tokens, partial=True)
            if len(text) > shown:
                yield text[shown:]
                shown = len(text)
        text = system.answer(best_tokens(ticket.result()))
    finally:
        ticket.cancel()
    if len(text) > shown:
        yield text[shown:]


def _before(job: TextJob, place: int) -> str:
    """What stands before a sentence in the translated text."""
    segment = job.parts.segments[place]
    if place == 0:
        return segment.before
    two = SplitText((Segment("", ""), segment), "")
    return join(two, ("", ""), job.source.nllb, job.target.nllb)
