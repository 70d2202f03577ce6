"""The seam between the translator, which knows texts, and the families of models."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from dragoman.checkpoints.cards import ModelCard
from dragoman.errors import DragomanError
from dragoman.generation.engine import Engine, Job
from dragoman.generation.hypotheses import Hypothesis
from dragoman.generation.options import GenerationOptions
from dragoman.generation.terms import Terms
from dragoman.languages import Language
from dragoman.store.shelf import Tally
from dragoman.text.glossary import Term, spellings
from dragoman.text.markup import is_language


@dataclass(frozen=True)
class Request:
    """A sentence to translate."""

    text: str
    source: Language
    target: Language
    terms: tuple[Term, ...] = ()
    """What a glossary says of terms that the text has, or that what it is translated from had."""

    @property
    def stays(self) -> bool:
        """Whether it is not for the model: numbers, addresses, code, what is in the target language."""
        return self.source == self.target or not is_language(self.text)


class System(Protocol):
    """A loaded model with its tokenizer, and the engine that runs it."""

    card: ModelCard
    tokenizer: Any
    engine: Engine
    precision: str
    """Of the weights: fp32, fp16, int8 or int4."""

    @property
    def path(self) -> str:
        """Which code runs it: "native", or PyTorch's device."""
        runner: Any = getattr(self, "runner", None)
        parameters = getattr(runner, "parameters", None)
        return "native" if parameters is None else str(next(parameters()).device)

    @property
    def may_wait(self) -> bool:
        """Whether a sentence's job may have to wait for a part of the model that is read first."""
        return False

    def close(self) -> None:
        """Cancel what is under way, and let go of all that works for it."""
        self.engine.close()
        end: Any = getattr(getattr(self, "runner", None), "close", None)
        if end is not None:
            end()

    def restrict(self, size: int | None, texts: Mapping[str, Sequence[str]] | None) -> None:
        """Choose from the tokens that a target language needs, `size` of them (None: all of its script's).

        texts: lines in a language, by its name, whose tokens are among them. InvalidOption
        if this system can't.
        """

    def tally(self) -> Tally | None:
        """What was read from the disk since the model was loaded, where not all of it is in memory."""
        return None

    @property
    def max_new_tokens(self) -> int:
        """Most tokens the model can generate for a sentence."""

    def room(self, source: Language, target: Language) -> int:
        """Most tokens a sentence may have, as `measure` counts."""

    def measure(self, text: str) -> int:
        """How many tokens a text has."""

    def growth(self, source: Language, target: Language) -> float:
        """How many tokens a translation takes for one of its source, rather too many than too few."""

    def encode(self, requests: list[Request]) -> list[list[int]]:
        """The model's input for each request, token ids."""

    def job(self, row: list[int], request: Request, options: GenerationOptions) -> Job:
        """What the engine is to do for an encoded request, its terms included.

        The model gets what it lacks for it. DragomanError if that isn't there.
        """

    def lend(self, job: Job) -> Job:
        """A job that another process has made of the same model; it gets what the model lacks for it here."""
        return job

    def bring(self, group: int) -> None:
        """Get what jobs of a language group need. DragomanError if that isn't there."""

    def spelled(self, request: Request) -> Terms | None:
        """The request's target terms as tokens, without those that the tokenizer can't write."""
        if not request.terms:
            return None
        tokenizer, found = self.tokenizer, []
        for term in request.terms:
            rows = tokenizer.encode_pieces(spellings(term.target))
            if not request.target.writes_spaces:
                # Behind a bracket, as a tokenizer puts a space before what begins a text.
                mark, *framed = tokenizer.encode_pieces(["(", *(f"({one}" for one in spellings(term.target))])
                rows += [row[len(mark) :] for row in framed if row[: len(mark)] == mark]
            usable = {tuple(row) for row in rows if row and tokenizer.unk_id not in row}
            if usable:
                found.append(tuple(sorted(usable)))
        within = tokenizer.within_words if request.target.writes_spaces else frozenset()
        return Terms(tuple(found), within) if found else None

    def run(
        self,
        rows: Sequence[list[int]],
        requests: Sequence[Request],
        options: GenerationOptions,
        caps: Sequence[int] | None = None,
        at_once: int | None = None,
    ) -> Iterator[tuple[int, list[Hypothesis] | DragomanError]]:
        """(index, hypotheses best first) of encoded requests, each as soon as it is done.

        An error in place of hypotheses is that request's own: the others don't notice. caps: the
        most new tokens of each; at_once: how many are decoded side by side. No result depends on
        what else is.
        """
        jobs, places = [], []
        for place, (row, request) in enumerate(zip(rows, requests, strict=True)):
            limited = options if caps is None else replace(options, max_new_tokens=caps[place])
            try:
                jobs.append(self.job(row, request, limited))
            except DragomanError as error:
                yield place, error
            else:
                places.append(place)
        for index, ticket in self.engine.finished(jobs, at_once):
            failure = ticket.exception()
            yield places[index], failure if isinstance(failure, DragomanError) else ticket.result()

    def decode(self, hypothesis: Hypothesis, request: Request) -> str:
        """The translation's text."""

    def certain(self, tokens: Sequence[int], request: Request) -> str:
        """What `decode` gives begins with this text, for every hypothesis that begins with `tokens`."""

    def tokens(self, hypothesis: Hypothesis) -> tuple[str, ...]:
        """The hypothesis' tokens as the tokenizer spells them."""

    def is_complete(self, hypothesis: Hypothesis) -> bool:
        """Whether the model ended the sentence itself."""


class ChatSystem(System, Protocol):
    """A system that answers open questions too."""

    def question(self, question: str, language: str, options: GenerationOptions) -> Job:
        """What the engine is to do to answer a question in a language; InvalidOption if it can't."""

    def answer(self, tokens: Sequence[int], partial: bool = False) -> str:
        """The text of an answer, or what is certain of it if it may go on."""

    def ask(self, questions: list[str], language: str, options: GenerationOptions) -> list[str]:
        """Answers to open questions in one language."""
        jobs = [self.question(question, language, options) for question in questions]
        answers = {index: self.answer(best_tokens(ranked)) for index, ranked in self.engine.run(jobs)}
        return [answers[index] for index in range(len(jobs))]


def best_tokens(ranked: Sequence[Hypothesis]) -> Sequence[int]:
    """The tokens of the best hypothesis; bans can leave none."""
    return ranked[0].tokens if ranked else ()


def length_cap(source_tokens: int, most: int, growth: float = 1.0) -> int:
    """How many tokens a translation may take, given its source's and `System.growth`.

    Twice what is to be expected and some: a longer one has gone wrong. In steps, so that a token more or
    less in the source seldom changes where such a one is cut.
    """
    expected = source_tokens * max(growth, 1.0)
    return min(most, 32 * math.ceil((2 * expected + 24) / 32))
