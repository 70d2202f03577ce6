"""Sentences that are decoded side by side; others may join them at any step."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from dragoman.generation.hypotheses import Array, Hypothesis
from dragoman.generation.search import Model, ReadsAhead, Search, new_search
from dragoman.generation.tickets import Ticket
from dragoman.models.prompt import Prompt

Ended = list[tuple[Ticket, list[Hypothesis]]]


@dataclass(frozen=True)
class Reader:
    """A model, and how it is given what it reads."""

    model: Model
    pad: int
    eos: int

    def read(self, tickets: Sequence[Ticket]) -> "Batch":
        """A batch of jobs with the same options, but for their lengths; nothing is decoded yet."""
        jobs = [ticket.job for ticket in tickets]
        first = jobs[0]
        prompts = [list(job.prompt) for job in jobs]
        tokens, keep = self._padded(prompts, on_left=True)
        source = source_keep = None
        if first.source:
            source, source_keep = self._padded([job.source for job in jobs])
        groups = None if first.group is None else [job.group or 0 for job in jobs]
        state = self.model.begin(Prompt(source, source_keep, tokens, keep, groups))
        search = new_search(
            [list(job.reads) for job in jobs],
            prompts,
            first.options,
            first.forced,
            self.eos,
            [job.options.max_new_tokens for job in jobs],
            [ticket.number for ticket in tickets],
            [job.terms for job in jobs],
        )
        return Batch(self, {ticket.number: ticket for ticket in tickets}, search, state, tokens)

    def read_ahead(self, tickets: Sequence[Ticket], waiting: Callable[[], Iterable[Ticket]]) -> None:
        """Have the model read for `tickets`, and for as many `waiting` ones as it should read together."""
        model = self.model
        if not isinstance(model, ReadsAhead) or not model.ahead:
            return
        if all(model.has_read(ticket.job.source) for ticket in tickets):
            return
        fresh: list[Sequence[int]] = []
        count = 0
        for ticket in (*tickets, *waiting()):
            if model.has_read(ticket.job.source):
                continue
            count += len(ticket.job.source)
            if fresh and count > model.ahead:
                break
            fresh.append(ticket.job.source)
        # Whatever is wrong may be another's: those who begin now will find out if it is theirs.
        with suppress(Exception):
            model.read_ahead(fresh)

    def _padded(self, rows: Sequence[Sequence[int]], on_left: bool = False) -> tuple[Array, Array]:
        """Rows filled up, and which tokens are real, [rows, time] each."""
        width = max(map(len, rows))
        ids = np.full((len(rows), width), self.pad, np.int64)
        keep = np.zeros((len(rows), width), bool)
        for line, real, row in zip(ids, keep, rows, strict=True):
            place = slice(width - len(row), width) if on_left else slice(len(row))
            line[place], real[place] = row, True
        return ids, keep


class Batch:
    """The tickets under way, by number, with their search and the model's state."""

    def __init__(
        self, reader: Reader, tickets: dict[int, Ticket], search: Search, state: Any, tokens: Array
    ) -> None:
        self.tickets = tickets
        self._reader, self._search, self._state = reader, search, state
        self._tokens = tokens  # what the next step feeds, [rows, new]

    def step(self) -> Ended:
        """Generate a token for every row; the sentences that end with it come back and leave."""
        chosen = self._search.advance(self._reader.model.step(self._tokens, self._state))
        ended = [(self.tickets.pop(number), ranked) for number, ranked in self._search.done.items()]
        self._search.done.clear()
        if chosen is not None:
            rows, self._tokens = chosen
            if rows is not None:
                self._state.select(rows, self._search.width)
        return ended

    def tell(self) -> list[tuple[Ticket, BaseException]]:
        """Let listeners know their new tokens; whose listener fails comes back, with the error."""
        failed: list[tuple[Ticket, BaseException]] = []
        for ticket in [ticket for ticket in self.tickets.values() if ticket.listens]:
            try:
                ticket.tell(self._search.certain(ticket.number))
            except BaseException as error:
                failed.append((ticket, error))
        return failed

    def join(self, other: "Batch") -> None:
        """Take in the sentences of `other`, which has made a step too."""
        self._state.join(other._state)
        self._search.join(other._search)
        self._tokens = np.concatenate([self._tokens, other._tokens])
        self.tickets |= other.tickets

    def drop(self, tickets: Sequence[Ticket]) -> None:
        """Give up these tickets."""
        numbers = {ticket.number for ticket in tickets if self.tickets.pop(ticket.number, None)}
        if not numbers or not self.tickets:
            return
        rows = self._search.drop(numbers)
        self._state.select(rows, self._search.width)
        self._tokens = self._tokens[rows]
