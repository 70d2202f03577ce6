"""What reads a pipeline: translations in the order of their texts, or one text in pieces."""

import contextlib
import warnings
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from dragoman.errors import DragomanError, TranslationWarning
from dragoman.generation.engine import Job
from dragoman.systems.base import ChatSystem, best_tokens
from dragoman.text.checks import Alphabet
from dragoman.text.glossary import Glossary, Term
from dragoman.text.sentences import SplitText
from dragoman.translation.assembling import assemble, before
from dragoman.translation.deadline import Deadline
from dragoman.translation.feed import NOTHING, Feed, several
from dragoman.translation.legs import Journey
from dragoman.translation.pipeline import Pipeline
from dragoman.translation.preparing import Preparing, TextJob
from dragoman.translation.results import Text, Translation

if TYPE_CHECKING:
    from dragoman.translation.memory import TranslationMemory


class Passage:
    """A text and its sentences on their way."""

    def __init__(self, job: TextJob, pipeline: Pipeline, glossary: Glossary | None) -> None:
        self.job = job
        self.journeys = [
            pipeline.add(segment.text, job.stops, self._terms(segment.text, glossary))
            for segment in job.parts.segments
        ]
        self._arrived = 0

    def _terms(self, sentence: str, glossary: Glossary | None) -> tuple[Term, ...]:
        source, target = self.job.source, self.job.target
        return glossary.terms_in(sentence, source, target) if glossary and source != target else ()

    @property
    def is_done(self) -> bool:
        while self._arrived < len(self.journeys) and self.journeys[self._arrived].outcome is not None:
            self._arrived += 1
        return self._arrived == len(self.journeys)


@dataclass(frozen=True)
class Run:
    """One call on its way: how its texts are prepared, translated and looked over."""

    preparing: Preparing
    pipeline: Pipeline
    alphabet: Alphabet | None = None
    """The characters that the model knows."""
    glossary: Glossary | None = None
    memory: "TranslationMemory | None" = None

    def translations(self, texts: Iterable[Any]) -> Generator[Translation, None, None]:
        """What becomes of each text, in their order, as soon as it and those before are done.

        What the iterable raises comes behind the results of the texts before.
        """
        with contextlib.closing(self.steps(texts)) as steps:
            for step in steps:
                if step is None:
                    self.pipeline.wait()
                else:
                    yield step

    def steps(self, texts: Iterable[Any]) -> Generator[Translation | None, None, None]:
        """As `translations`, but None where nothing can be done before something has happened: who reads
        has the pipeline `wait` or `look` then, and goes on."""
        pipeline = self.pipeline
        feed = Feed(texts, pipeline.ahead, pipeline.wake)
        waiting: deque[Passage | Translation] = deque()
        try:
            while True:
                while pipeline.is_hungry and (text := feed.take()) is not NOTHING:
                    prepared = self.preparing.prepare(text)
                    waiting.append(self._begin(prepared) if isinstance(prepared, TextJob) else prepared)
                if feed.is_exhausted:
                    pipeline.no_more_texts()
                if waiting and (isinstance(first := waiting[0], Translation) or first.is_done):
                    waiting.popleft()
                    feed.release()  # so that another may come in its stead before anything is waited for
                    yield first if isinstance(first, Translation) else self._assemble(first)
                elif waiting or not feed.is_exhausted:
                    yield None
                else:
                    break
        finally:
            feed.close()
            pipeline.close()
        if feed.error is not None:
            raise feed.error

    def stop(self) -> None:
        """Cancel what is under way, from any thread: who reads the results gets `pipeline.Cancelled`."""
        self.pipeline.stop()

    def pieces(self, job: TextJob) -> Generator[str, None, Translation]:
        """The translation of a text in pieces, each as soon as it is certain; returns all of it."""
        try:
            passage = self._begin(job)
            for place, journey in enumerate(passage.journeys):
                yield from _sentence(before(job, place), journey, self.pipeline)
            if job.parts.after:
                yield job.parts.after
            return self._assemble(passage)
        finally:
            self.pipeline.close()

    def _begin(self, job: TextJob) -> Passage:
        if self.memory is not None and len(job.parts.segments) > 1:
            whole = SplitText.whole(job.text)
            if self.memory.find(whole.segments[0].text, job.source, job.target) is not None:
                job = replace(job, parts=whole, pivot=None)
        return Passage(job, self.pipeline, self.glossary)

    def _assemble(self, passage: Passage) -> Translation:
        return assemble(passage.job, passage.journeys, self.alphabet, self.memory, self.pipeline.attempts)


def _sentence(piece: str, journey: Journey, pipeline: Pipeline) -> Generator[str, None, None]:
    """The translation of a sentence in pieces, the first of them behind `piece`."""
    shown = 0
    while True:
        if isinstance(journey.outcome, DragomanError):
            raise journey.outcome
        is_done = journey.outcome is not None
        certain = pipeline.certain(journey)
        piece, shown = piece + certain[shown:], len(certain)
        if piece:
            yield piece
        if is_done:
            return
        piece = ""
        pipeline.wait()


def answer(system: ChatSystem, job: Job, timeout: float | None) -> Generator[str, None, bool]:
    """The answer to a question in pieces, each as soon as it is certain; returns whether the model ended it
    itself."""
    deadline = Deadline(timeout)
    tokens: list[int] = []
    events: SimpleQueue[None] = SimpleQueue()

    def on_tokens(new: list[int]) -> None:
        tokens.extend(new)
        events.put(None)

    shown = 0
    ticket = system.engine.submit(job, on_tokens)
    ticket.add_done_callback(lambda _: events.put(None))
    try:
        while not ticket.done():
            deadline.next_of(events)
            text = system.answer(list(tokens), partial=True)
            if len(text) > shown:
                yield text[shown:]
                shown = len(text)
        ranked = ticket.result()
        text = system.answer(best_tokens(ranked))
    finally:
        ticket.cancel()
    if len(text) > shown:
        yield text[shown:]
    return bool(ranked) and system.is_complete(ranked[0])


def all_of(text: object, run: Run) -> list[Translation]:
    """The translations of a text or of several, if none has an error."""
    texts = [text] if isinstance(text, (str, Text)) else several(text)
    results = []
    with contextlib.closing(run.translations(texts)) as found:
        for result in found:
            if result.error is not None:
                raise result.error
            results.append(result)
    return results


def live_of(job: TextJob, run: Run) -> Generator[str, None, None]:
    """What can be said of a text's translation as it comes; its warnings at the end."""
    result = yield from run.pieces(job)
    for warning in result.warnings:
        warnings.warn(warning, stacklevel=2)


def texts_of(text: object, results: list[Translation]) -> str | list[str]:
    """What `translate` returns, after the results' warnings; several texts are told apart by number."""
    if isinstance(text, (str, Text)):
        for warning in results[0].warnings:
            warnings.warn(warning, stacklevel=3)
        return results[0].text
    for number, result in enumerate(results, 1):
        for warning in result.warnings:
            told = TranslationWarning(f"text {number}: {warning}", warning.kind, warning.sentence)
            warnings.warn(told, stacklevel=3)
    return [result.text for result in results]
