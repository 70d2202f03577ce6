"""What an engine is asked to do, and what the asker holds meanwhile."""

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass

from dragoman.generation.hypotheses import Hypothesis
from dragoman.generation.options import GenerationOptions

OnTokens = Callable[[list[int]], None]


@dataclass(frozen=True)
class Job:
    """One sentence to generate for."""

    source: Sequence[int]
    """The tokens to read: an encoder's input, or the prompt of a model that has none."""
    options: GenerationOptions
    prompt: Sequence[int] = ()
    """Behind an encoder: the decoder's first tokens."""
    forced: int = 0
    """How many of the prompt's last tokens count as generated."""
    group: int | None = None
    """The language group, for a model with language modules."""

    @property
    def rows(self) -> int:
        """How many rows of a batch it takes."""
        return self.options.n_best if self.options.sample else self.options.beams


class Ticket(Future[list[Hypothesis]]):
    """The future hypotheses of a job, best first.

    `result()` waits, so some thread has to turn the engine. `cancel()` works until there is a
    result; the job's place is free before the next step.
    """

    def __init__(self, job: Job, number: int, on_tokens: OnTokens | None = None) -> None:
        super().__init__()
        self.job, self.number = job, number
        self.passed_over = 0
        """How often others were taken before it."""
        self._on_tokens = on_tokens
        self._sent = 0

    @property
    def listens(self) -> bool:
        """Whether someone wants to know tokens before the end."""
        return self._on_tokens is not None

    def tell(self, certain: Sequence[int]) -> None:
        """Pass on what is new among the tokens that are certain now."""
        if self._on_tokens is not None and len(certain) > self._sent:
            new, self._sent = list(certain[self._sent :]), len(certain)
            self._on_tokens(new)

    def finish(self, ranked: list[Hypothesis]) -> None:
        """Give the result, after the last tokens."""
        try:
            if not self.cancelled():
                self.tell(ranked[0].tokens if ranked else ())
        except Exception as error:
            self.fail(error)
            return
        with contextlib.suppress(InvalidStateError):  # cancelled at this very moment
            self.set_result(ranked)

    def fail(self, error: BaseException) -> None:
        """Give an error for a result."""
        with contextlib.suppress(InvalidStateError):
            self.set_exception(error)
