"""A system without a model: it translates by naming the target, and only when told to."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from dragoman.checkpoints.cards import ModelCard
from dragoman.errors import DragomanError, InvalidText
from dragoman.generation.engine import Job, Ticket
from dragoman.generation.hypotheses import Hypothesis
from dragoman.generation.options import GenerationOptions
from dragoman.kernels.threads import chosen, set_threads
from dragoman.languages import Language
from dragoman.systems import Request


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One order of additions whatever the machine, and no fight for cores."""
    before = chosen()
    set_threads(1)
    yield
    set_threads(before)


class ToyEngine:
    """Holds tickets until somebody finishes them."""

    def __init__(self) -> None:
        self.tickets: list[Ticket] = []
        self.steps = 0
        self.widest = 0

    def submit(self, job: Job, on_tokens: Any = None, timeout: float | None = None) -> Ticket:
        self.tickets.append(Ticket(job, len(self.tickets), on_tokens))
        self.widest = max(self.widest, len(self.open))
        return self.tickets[-1]

    def submit_all(self, jobs: Sequence[Job], timeout: float | None = None) -> list[Ticket]:
        return [self.submit(job) for job in jobs]

    @property
    def open(self) -> list[Ticket]:
        return [ticket for ticket in self.tickets if not ticket.done()]

    def finish(self, choose: Callable[[Ticket], bool] = lambda ticket: True) -> None:
        for ticket in self.open:
            if choose(ticket):
                ticket.finish([Hypothesis((1, 2), -0.5)])


class ToyTokenizer:
    """Knows all but the asterisk."""

    unk_id = 3

    def encode_pieces(self, texts: list[str]) -> list[list[int]]:
        return [[3 if character == "*" else 5 for character in text] for text in texts]


class ToySystem:
    """English, French and German; German and French meet in English."""

    card = ModelCard("toy", ("eng_Latn", "fra_Latn", "deu_Latn", "pol_Latn"), 100, pivot="eng_Latn")
    max_new_tokens = 50
    precision = "fp32"

    def __init__(self) -> None:
        self.engine: Any = ToyEngine()
        self.tokenizer = ToyTokenizer()
        self.refuses: set[str] = set()
        self.unreadable: set[str] = set()

    def room(self, source: Language, target: Language) -> int:
        return 100

    def measure(self, text: str) -> int:
        return len(text.split())

    def growth(self, source: Language, target: Language) -> float:
        return 3.0 if target.nllb == "deu_Latn" else 1.0

    def encode(self, requests: list[Request]) -> list[list[int]]:
        return [[5] * len(request.text) for request in requests]

    def job(self, row: list[int], request: Request, options: GenerationOptions) -> Job:
        if request.text in self.refuses:
            raise DragomanError(f"no {request.text}")
        return Job(row, options)

    def decode(self, hypothesis: Hypothesis, request: Request) -> str:
        if request.text in self.unreadable:
            raise InvalidText("what came can't be read")
        return f"{request.text}>{request.target.short_code}"

    def certain(self, tokens: Sequence[int], request: Request) -> str:
        return f"{request.text}>"

    def tokens(self, hypothesis: Hypothesis) -> tuple[str, ...]:
        return tuple(map(str, hypothesis.tokens))

    def is_complete(self, hypothesis: Hypothesis) -> bool:
        return True


@pytest.fixture
def toy() -> ToySystem:
    return ToySystem()
