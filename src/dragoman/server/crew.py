"""Whom a server on a cluster has its jobs done by: replicas, any of which may be lost meanwhile."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Iterator
from functools import lru_cache
from typing import Any, cast

from ray.exceptions import (
    ActorDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    WorkerCrashedError,
)
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle

from dragoman.errors import DragomanError, Overloaded, TranslationFailed
from dragoman.generation.hypotheses import Hypothesis
from dragoman.generation.tickets import Job, OnTokens
from dragoman.server.replica import Heard, Named, OtherModels, Outcome, part_id

TRIES = 5
"""So often a sentence is tried whose replica dies of it, or beside it."""
_DIED = (ActorDiedError, WorkerCrashedError)
"""What is raised here where a replica has ended by itself: the sentence may be to blame."""
_LOST = (
    RayActorError,
    WorkerCrashedError,
    OutOfMemoryError,  # of the machine: Ray's monitor has ended the replica
    NodeDiedError,
    ObjectLostError,
    ReplicaUnavailableError,
)
"""What is raised where a replica, its machine, or the way there is gone."""
_CLOSED = (DeploymentUnavailableError, BackPressureError)
"""What is raised where there is no replica to turn to, and none to wait for."""
_REST, _LONGEST_REST = 0.1, 3.0
"""Seconds before a second try, and most of them before a later one; each takes twice as long as the last."""
_ENDURANCE = 60.0
"""Seconds from the first loss on in which there is another try."""
_SEARCH = 10.0
"""Seconds for which a job looks for a replica with its model, where others have come in the place of some."""
_PAUSE = 0.2
"""Seconds between two such looks."""


class Losses:
    """Replicas that a job has lost: whether it is tried again, and when."""

    def __init__(self, rest: float, endurance: float) -> None:
        """rest: seconds before the second try; endurance: seconds from the first loss on for all others."""
        self._rest, self._endurance = rest, endurance
        self._deaths, self._end = 0, 0.0

    def count(self, error: Exception) -> float:
        """Seconds before the next try. Raises TranslationFailed for what seems to kill replicas, and
        Overloaded where nobody can do it for too long."""
        now = time.monotonic()
        self._end = self._end or now + self._endurance
        self._deaths += isinstance(error, _DIED)
        if self._deaths == TRIES:
            said = f"{TRIES} replicas died, one after the other, that worked on it"
            raise TranslationFailed(said) from error
        if now >= self._end:
            raise Overloaded("the replicas that worked on it were lost; try again later") from error
        rest, self._rest = self._rest, min(2 * self._rest, _LONGEST_REST)
        return rest * random.uniform(0.5, 1.0)  # so that not all come to the next replica together


class Crew:
    """Replicas as those who do a model's jobs. What is lost with one of them is done by another."""

    def __init__(
        self,
        handle: DeploymentHandle,
        model: Named,
        is_one_of_several: bool,
        patience: float = _SEARCH,
        rest: float = _REST,
        endurance: float = _ENDURANCE,
    ) -> None:
        """patience: seconds for which a job waits for a replica with this model, where others have come;
        rest: before the second try of one whose replica is lost; endurance: for all tries after a loss."""
        self._handle, self._model, self._is_one_of_several = handle, model, is_one_of_several
        self._patience, self._rest, self._endurance = patience, rest, endurance
        self._to = lru_cache(maxsize=256)(self._addressed)

    async def generate(self, job: Job, tell: OnTokens | None) -> list[Hypothesis]:
        part = ""
        if self._is_one_of_several or job.group is not None:
            part = part_id(self._model[0], job.group)
        end, losses = time.monotonic() + self._patience, Losses(self._rest, self._endurance)
        while True:
            try:
                outcome = await (self._whole(part, job) if tell is None else self._heard(part, job, tell))
            except _LOST as error:
                await asyncio.sleep(losses.count(error))
                continue
            except _CLOSED as error:
                raise Overloaded("there is no replica to translate it now; try again later") from error
            if isinstance(outcome, OtherModels) and time.monotonic() < end:
                await asyncio.sleep(_PAUSE)
            elif isinstance(outcome, DragomanError):
                raise outcome
            else:
                return outcome

    def _addressed(self, part: str, is_heard: bool) -> DeploymentHandle:
        """Calls that go to who has a part; to any replica without one."""
        method = "listen" if is_heard else "generate"
        return self._handle.options(method_name=method, stream=is_heard, multiplexed_model_id=part)

    async def _whole(self, part: str, job: Job) -> Outcome:
        response = self._to(part, False).remote(self._model, job)
        with _cancelling(response):
            return await response

    async def _heard(self, part: str, job: Job, tell: OnTokens) -> Outcome:
        certain: list[int] = []
        response = self._to(part, True).remote(self._model, job)
        with _cancelling(response):
            async for tokens, outcome in cast(AsyncIterator[Heard], response):
                if outcome is not None:
                    return outcome
                certain += tokens
                tell(certain)  # of another try the first ones are known
        raise TranslationFailed("a replica ended before its sentence did")


@contextlib.contextmanager
def _cancelling(response: Any) -> Iterator[None]:
    """Have the replica stop if nobody waits any more."""
    try:
        yield
    except asyncio.CancelledError:
        response.cancel()
        raise
