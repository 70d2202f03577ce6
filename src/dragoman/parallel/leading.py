"""Rank 0 has a model run by all ranks: the searches and the engine see one model, and know no ranks.

It tells the others each call and its arguments, and makes the same call itself. The others do nothing else
(`follow`). So only rank 0 reads texts, chooses tokens and writes, and all timing is its own.
"""

import atexit
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, Protocol, TypeVar

import numpy as np
from torch import nn

from dragoman.errors import NoNumbers, RankFailed
from dragoman.models.prompt import Prompt
from dragoman.parallel.orders import Array, Order, Wire, of_prompt, to_prompt
from dragoman.parallel.ranks import Ranks
from dragoman.parallel.spread import SpreadScores

T = TypeVar("T")


class Part(Protocol):
    """A rank's part of a model; each call is made by all ranks, with the same arguments."""

    config: Any

    def begin(self, prompt: Prompt) -> Any: ...

    def step(self, tokens: Array, state: Any) -> Any: ...

    def state_bytes(self, source_tokens: int, new_tokens: int, beams: int) -> int: ...


class Modules(Protocol):
    """How a rank's part takes language modules."""

    @property
    def language(self) -> Any: ...

    def read(self, group: int) -> Any: ...

    def attach(self, group: int, module: Any) -> None: ...

    def detach(self, group: int) -> None: ...


class Rank:
    """One rank at work: its part of the model, and the states under way by their numbers."""

    def __init__(self, part: Part, modules: Modules | None = None) -> None:
        self.part, self.modules = part, modules
        self._states: dict[int, Any] = {}
        self._scores: Any = None

    def carry_out(self, order: Order, arrays: Sequence[Any]) -> Any:
        """Do as told; what the call gives comes back."""
        if order is Order.BEGIN:
            self._states[int(arrays[0][0])] = self.part.begin(to_prompt(arrays[1:]))
        elif order is Order.STEP:
            self._scores = None  # before the next ones are computed
            self._scores = self.part.step(arrays[1], self._states[int(arrays[0][0])])
        elif order is Order.SELECT:
            number, beams = arrays[0].tolist()
            self._states[number].select(arrays[1], beams)
        elif order is Order.JOIN:
            number, other = arrays[0].tolist()
            self._states[number].join(self._states.pop(other))
        elif order is Order.FORGET:
            for number in arrays[0].tolist():
                self._states.pop(number, None)
        elif order is Order.TOP:
            wanted, *banned = arrays[0].tolist()
            return self._scores.top(wanted, tuple(banned))
        elif order is Order.LOGITS:
            return self._scores.logits(arrays[0])
        elif self.modules is not None:
            self._change(self.modules, order, int(arrays[0][0]))
        return self._scores

    def _change(self, modules: Modules, order: Order, group: int) -> None:
        if order is Order.ATTACH:
            modules.attach(group, modules.read(group))
        else:
            modules.detach(group)


def follow(ranks: Ranks, rank: Rank) -> None:
    """Do what rank 0 says until it says that it is the end. RankFailed if rank 0 is gone."""
    wire = Wire(ranks)
    while True:
        try:
            order, arrays = wire.hear()
        except RuntimeError as error:
            raise RankFailed.gone(error) from error
        if order is Order.END:
            return
        try:
            rank.carry_out(order, arrays)
        except Exception as error:
            raise RankFailed.gone(error) from error


class Leader:
    """A model that all ranks run, for whoever wants to decode with it on rank 0.

    One thread at a time may use it. Once anything has failed, it is of no use any more: the ranks may stand
    at different places then.
    """

    def __init__(self, ranks: Ranks, rank: Rank) -> None:
        self.config = rank.part.config
        self._crew = _Crew(ranks, rank)
        self._numbers = count()
        self._end = weakref.finalize(self, self._crew.end)
        # At the interpreter's end they run in this order: before the ranks part.
        self._end.atexit = False
        atexit.register(self._end)

    def begin(self, prompt: Prompt) -> "LedState":
        """Read what is to be read; the state has a row for each sentence."""
        modules = self._crew.rank.modules
        if modules is not None:
            modules.language.check(prompt.groups)  # while all is still well
        number = next(self._numbers)
        self._crew.tell(Order.BEGIN, [np.array([number]), *of_prompt(prompt)])
        return LedState(self._crew, number)

    def step(self, tokens: Array, state: "LedState") -> Any:
        """Feed the newest tokens of each row [rows, new]; scores of the next one, until the next step."""
        scores = self._crew.tell(Order.STEP, [np.array([state.number]), tokens])
        return LedScores(self._crew, scores.rows) if isinstance(scores, SpreadScores) else scores

    def state_bytes(self, source_tokens: int, new_tokens: int, beams: int) -> int:
        """The memory of a sentence's decoding on each rank."""
        return self._crew.rank.part.state_bytes(source_tokens, new_tokens, beams)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Those of this rank."""
        part: Any = self._crew.rank.part
        found: Iterator[nn.Parameter] = getattr(part, "model", part).parameters()
        return found

    def attach(self, group: int, module: Any) -> None:
        """Have all ranks attach the language module of a group, which this one has read already."""
        modules = self._crew.rank.modules
        assert modules is not None
        self._crew.tell(Order.ATTACH, [np.array([group])], lambda: modules.attach(group, module))

    def detach(self, group: int) -> None:
        """Have all ranks let go of the language module of a group."""
        self._crew.tell(Order.DETACH, [np.array([group])])

    def close(self) -> None:
        """Let the other ranks go."""
        self._end()


class LedState:
    """A number for what the ranks have of a batch."""

    def __init__(self, crew: "_Crew", number: int) -> None:
        self._crew, self.number = crew, number
        weakref.finalize(self, crew.gone.append, number).atexit = False

    def select(self, rows: Array, beams: int) -> None:
        """Keep `rows` in the given order; each run of `beams` rows belongs to one sentence."""
        self._crew.tell(Order.SELECT, [np.array([self.number, beams]), rows])

    def join(self, other: "LedState") -> None:
        """Put the rows of `other`, with as many beams for a sentence, behind these; it is used up."""
        self._crew.tell(Order.JOIN, [np.array([self.number, other.number])])


class LedScores:
    """The scores of the last step, which are where they were computed."""

    def __init__(self, crew: "_Crew", rows: int) -> None:
        self._crew, self.rows = crew, rows

    def top(self, count: int, banned: tuple[int, ...] = ()) -> tuple[Array, Array]:
        """As `Scores.top`."""
        found: tuple[Array, Array] = self._crew.tell(Order.TOP, [np.array([count, *banned])])
        return found

    def logits(self, rows: Array | None = None) -> Array:
        """As `Scores.logits`."""
        found: Array = self._crew.tell(Order.LOGITS, [rows])
        return found


class _Crew:
    """What a leader, its states and its scores share: rank 0's own part, and the way to the others."""

    def __init__(self, ranks: Ranks, rank: Rank) -> None:
        self.rank = rank
        self.gone: deque[int] = deque()
        """Numbers of states that nobody has any more."""
        self._ranks, self._wire = ranks, Wire(ranks)
        self._lock = threading.RLock()
        self._is_over = False
        self._trouble: BaseException | None = None

    def tell(self, order: Order, arrays: Sequence[Array | None], do: Callable[[], T] | None = None) -> Any:
        """Have all ranks do something, this one too; do: how, if not as the others."""
        with self._lock:
            if self._trouble is not None:
                raise RankFailed.gone(self._trouble) from self._trouble
            if self._is_over:
                raise RuntimeError("the other ranks have been let go")
            try:
                if self.gone:
                    old = np.array([self.gone.popleft() for _ in range(len(self.gone))])
                    self._wire.tell(Order.FORGET, [old])
                    self.rank.carry_out(Order.FORGET, [old])
                self._wire.tell(order, arrays)
                return self.rank.carry_out(order, arrays) if do is None else do()
            except NoNumbers:  # about which nobody but rank 0 need know
                raise
            except BaseException as error:
                self._trouble = error
                self._ranks.abandon()
                raise RankFailed.gone(error) from error

    def end(self) -> None:
        """Let the other ranks go, if they are still there."""
        with self._lock:
            if not self._is_over and self._trouble is None:
                self._is_over = True
                with suppress(RuntimeError, ValueError):  # they, or this one's group, have gone already
                    self._wire.tell(Order.END, [])
