"""A model that should read many sources together is given those that wait, too."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from dragoman.generation.engine import Job
from dragoman.generation.hypotheses import Array
from tests.generation.conftest import Toy
from tests.generation.engines import BEAM, alone, engine_of, job, same


@dataclass
class Reading(Toy):
    """Notes what it was to read ahead."""

    ahead: int = 100
    asked: list[int] = field(default_factory=list)
    """How many sources each time."""
    there: set[tuple[int, ...]] = field(default_factory=set)
    broken: tuple[int, ...] = ()

    def read_ahead(self, sources: Sequence[Sequence[int]]) -> None:
        self.asked.append(len(sources))
        if self.broken and any(tuple(source) == self.broken for source in sources):
            raise OSError("an expert can't be read")
        self.there |= {tuple(source) for source in sources}

    def has_read(self, source: Sequence[int]) -> bool:
        return tuple(source) in self.there


def jobs(count: int) -> list[Job]:
    return [Job([*job(number % 4).source, 5, 6, number], BEAM, (0, 1), forced=1) for number in range(count)]


@pytest.fixture
def reading(toy: Callable[..., Toy]) -> Reading:
    return Reading(toy(kinds=4).table)


def test_sources_are_read_ahead_of_those_that_run(reading: Reading) -> None:
    wanted = jobs(60)
    with engine_of(reading, rows=4) as engine:
        found = dict(engine.run(wanted))
    assert sorted(found) == list(range(60))
    for number, one in enumerate(wanted):
        assert same(found[number], alone(Toy(reading.table), one))
    assert len(reading.there) == 60
    assert max(reading.asked) == 25  # of four tokens each
    assert len(reading.asked) < 10


def test_it_is_not_asked_where_that_does_not_matter(reading: Reading) -> None:
    reading.ahead = 0
    with engine_of(reading, rows=4) as engine:
        assert len(list(engine.run(jobs(10)))) == 10
    assert not reading.asked


def test_a_source_that_cannot_be_read_fails_alone(reading: Reading) -> None:
    wanted = jobs(12)
    reading.broken = tuple(wanted[7].source)

    def check(ids: Array) -> None:
        if any(tuple(row) == reading.broken for row in ids.tolist()):
            raise OSError("an expert can't be read")

    reading.before_begin = check
    failed = []
    with engine_of(reading, rows=4) as engine:
        for number, ticket in engine.finished(wanted):
            if ticket.exception() is not None:
                failed.append((number, type(ticket.exception())))
    assert failed == [(7, OSError)]
