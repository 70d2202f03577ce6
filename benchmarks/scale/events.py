"""Time that jumps from event to event, and something that several jobs share."""

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any


class Clock:
    """Calls what is due, in the order of time; at the same time, in the order in which it was asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events = 0
        self._due: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._stopped = False

    def after(self, seconds: float, call: Callable[..., None], *args: Any) -> None:
        """Call later. seconds: from now on, not negative."""
        self.events += 1
        heappush(self._due, (self.now + seconds, self.events, call, args))

    def stop(self) -> None:
        """Nothing more is called."""
        self._stopped = True

    def run(self) -> None:
        """Until nothing is due, or `stop`."""
        while self._due and not self._stopped:
            self.now, _, call, args = heappop(self._due)
            call(*args)


@dataclass(eq=False, slots=True)
class Job:
    """Work at something shared."""

    shared: "Shared"
    end: float
    """In the units of work that any job there since the beginning would have had done."""
    done: Callable[..., None]
    args: tuple[Any, ...]
    is_there: bool = True


class Shared:
    """Cores or a network that all jobs there have equal parts of (processor sharing).

    rate(n): units of work a second that each of n jobs gets. All jobs progress alike, so that one number,
    what each has had since the beginning, says how far they all are: an event costs O(log n).
    """

    def __init__(self, clock: Clock, rate: Callable[[int], float]) -> None:
        self._clock, self._rate = clock, rate
        self._had, self._since = 0.0, 0.0
        self._jobs: list[tuple[float, int, Job]] = []
        self._count = 0
        self._plan = 0

    @property
    def jobs(self) -> int:
        """How many are there."""
        return self._count

    def add(self, work: float, done: Callable[..., None], *args: Any) -> Job:
        """Begin work (units); `done(*args)` is called when it has been done."""
        self._advance()
        job = Job(self, self._had + work, done, args)
        heappush(self._jobs, (job.end, self._clock.events, job))
        self._count += 1
        self._look_ahead()
        return job

    def cancel(self, job: Job) -> None:
        """Take a job out that isn't done."""
        if not job.is_there:
            return
        self._advance()
        job.is_there = False
        self._count -= 1
        self._look_ahead()

    def _advance(self) -> None:
        now = self._clock.now
        if self._count:
            self._had += (now - self._since) * self._rate(self._count)
        self._since = now

    def _look_ahead(self) -> None:
        """Be called when the next job is done, unless something changes before."""
        self._plan += 1
        while self._jobs and not self._jobs[0][2].is_there:
            heappop(self._jobs)
        if self._jobs:
            left = max(self._jobs[0][0] - self._had, 0.0)
            self._clock.after(left / self._rate(self._count), self._finish, self._plan)

    def _finish(self, plan: int) -> None:
        if plan != self._plan:  # something has changed since
            return
        self._advance()
        job = heappop(self._jobs)[2]
        self._had = max(self._had, job.end)  # what rounding has left
        job.is_there = False
        self._count -= 1
        job.done(*job.args)
        if plan == self._plan:  # or something that came has looked already
            self._look_ahead()
