"""A process of a cluster that has the models: jobs come in, hypotheses go out. It sees no text."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import dragoman
from dragoman.checkpoints.catalog import content, locate
from dragoman.errors import DragomanError, Overloaded
from dragoman.generation.hypotheses import Hypothesis
from dragoman.generation.tickets import Job
from dragoman.server import logs
from dragoman.server.faults import Fault
from dragoman.server.heartbeat import Stalls
from dragoman.server.models import NotAtOnce

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from dragoman.server.models import Model
    from dragoman.systems import System
    from dragoman.translation.translator import Translator

Outcome = list[Hypothesis] | DragomanError
"""What becomes of a job; its own error is no failure of the replica, and travels as what it is."""
Named = tuple[str, str, str]
"""A model's name, its identity (`identities`), and the precision that it runs in."""
Heard = tuple[list[int], Outcome | None]
"""New tokens, and at the end what became of the job."""
_MARK = "#"
_WAITING = 64
"""Jobs whose models are waited for at a time; others wait for these."""


class OtherModels(Overloaded):
    """A job came to a replica that has another model by this name, or in another precision: one of them is
    about to be replaced, or machines differ."""

    def __init__(
        self,
        message: str = "replicas have other models than the server, or in another precision: they are being "
        "replaced, or their machines differ; try again later",
    ) -> None:
        super().__init__(message)


def identities(names: Mapping[str, str], vocabulary: int | None) -> dict[str, str]:
    """What tells models apart whose ids mean something else, or that answer otherwise, by name.

    names: what each is loaded by; it is the files that count, wherever they are. Raises what `locate` does.
    """
    told = f"{dragoman.__version__} {vocabulary or ''}"
    return {name: f"{told} {content(locate(model))}" for name, model in names.items()}


def part_id(model: str, group: int | None) -> str:
    """What Ray Serve calls a model, or a model with a language module: who has it gets the jobs for it."""
    return f"{model}{_MARK}{group or ''}"


class Replica:
    """The models of a replica."""

    def __init__(
        self,
        models: "Mapping[str, Model]",
        identities: Mapping[str, str],
        stall_seconds: float,
        look_seconds: float,
    ) -> None:
        """identities: of the models, by name; stall_seconds: that one step of a model may take; look_seconds:
        between two calls of `check`."""
        self._models, self._identities = dict(models), dict(identities)
        self._stalls = Stalls(stall_seconds, look_seconds)
        # Of its own: who waits in it needs what others do in asyncio's.
        self._waiting = ThreadPoolExecutor(_WAITING, "waits for a model")

    def about(self) -> dict[str, tuple[str, str]]:
        """Each model's identity, and in which precision it runs, by name."""
        return {name: (self._identities[name], model.precision) for name, model in self._models.items()}

    async def load(self, part: str) -> str:
        """Have a part (`part_id`) in memory. Raises a DragomanError if that can't be."""
        began = time.monotonic()
        name, _, group = part.rpartition(_MARK)
        async with self._using(name) as system:
            if group:
                await asyncio.to_thread(system.bring, int(group))
        seconds = round(time.monotonic() - began, 1)
        logs.event("a replica has a part", logging.INFO, part=part, seconds=seconds)
        return part

    async def generate(self, model: Named, job: Job) -> Outcome:
        """What becomes of a job; cancelled, it is taken out of the engine."""
        try:
            async with self._using(self._name(model)) as system:
                ticket = system.engine.submit(await _lent(system, job))
                return await asyncio.wrap_future(ticket)
        except DragomanError as error:
            return error

    async def listen(self, model: Named, job: Job) -> AsyncGenerator[Heard, None]:
        """New tokens as soon as they are certain, and at last what became of the job."""
        loop = asyncio.get_running_loop()
        heard: asyncio.Queue[list[int] | None] = asyncio.Queue()

        def hear(tokens: list[int] | None) -> None:
            loop.call_soon_threadsafe(heard.put_nowait, tokens)

        try:
            async with self._using(self._name(model)) as system:
                ticket = system.engine.submit(await _lent(system, job), hear)
                ticket.add_done_callback(lambda _: hear(None))
                try:
                    while (tokens := await heard.get()) is not None:
                        yield tokens, None
                finally:
                    ticket.cancel()
                yield [], ticket.result()
        except DragomanError as error:
            yield [], error

    def check(self) -> None:
        """Raise RuntimeError if an engine stands still; to be asked again and again."""
        loaded = [model.loaded for model in self._models.values()]
        if self._stalls.any([translator.system.engine for translator in loaded if translator is not None]):
            raise RuntimeError("a model's engine makes no step any more")

    def _name(self, model: Named) -> str:
        name, identity, precision = model
        if self._identities.get(name) != identity or self._models[name].precision != precision:
            raise OtherModels
        return name

    @contextlib.asynccontextmanager
    async def _using(self, name: str) -> "AsyncIterator[System]":
        model = self._models[name]
        use = model.use(at_once=True)
        try:
            translator = use.__enter__()
        except NotAtOnce:
            use, translator = await self._awaited(model)
        try:
            yield translator.system
        finally:
            use.__exit__(None, None, None)

    async def _awaited(self, model: "Model") -> "tuple[AbstractContextManager[Translator], Translator]":
        """A model in use, which has to be loaded, or to wait until others make room: in a thread, as these
        others need the event loop to get done."""
        is_given_up = False

        def check() -> None:
            if is_given_up:
                raise Overloaded("nobody waits for it any more")

        use = model.use(check)
        entering = asyncio.get_running_loop().run_in_executor(self._waiting, use.__enter__)
        try:
            return use, await asyncio.shield(entering)
        except Fault as fault:
            raise Overloaded(fault.message) from None
        except asyncio.CancelledError:
            is_given_up = True
            entering.add_done_callback(lambda done: done.exception() or use.__exit__(None, None, None))
            raise


async def _lent(system: "System", job: Job) -> Job:
    """The job, with what the model needs for it."""
    return await asyncio.to_thread(system.lend, job) if system.may_wait else system.lend(job)
