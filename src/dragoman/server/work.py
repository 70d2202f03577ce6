"""Requests of the event loop worked on in threads, where the models' engines batch what all of them ask for.

A client that goes away stops its work, and so does the server's end. Small requests are worked on by the
event loop itself: handing them to a thread and back would cost more than all they need beside the engine.
"""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from dragoman.errors import TranslationTimeout
from dragoman.server.admission import Admission, Bounds, Place
from dragoman.server.faults import Fault
from dragoman.server.settings import Settings
from dragoman.translation.pipeline import Cancelled

if TYPE_CHECKING:
    from starlette.requests import Request

    from dragoman.server.memory import SharedMemory
    from dragoman.server.models import Model
    from dragoman.translation.results import Text, Translation
    from dragoman.translation.running import Run

T = TypeVar("T")

_TOGETHER = 512
"""Sentences of all requests that are worked on at a time, about: what comes then finds room in the engine."""
_FEWEST = 4
"""Of one request, however many there are."""
FILES_AT_A_TIME = 2
"""Files that are worked on at a time, beside the requests with texts."""
FILES_WAITING = 16
"""Largest files that may wait of one key or address; of smaller ones as many as have their bytes."""


class Calls:
    """The translator's calls that one request makes; any thread may stop them all."""

    def __init__(self, seconds: float, batch: int, memory: "SharedMemory | None" = None) -> None:
        """seconds: for all of them together, from now on; batch: sentences that are worked on at a time;
        memory: what is known already."""
        self._end = time.monotonic() + seconds
        self._seconds, self._batch, self._memory = seconds, batch, memory
        self._lock = threading.Lock()
        self._runs: set[Run] = set()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End the present call, and every further one as it begins, with Cancelled."""
        with self._lock:
            self._stopped.set()
            runs = list(self._runs)
        for run in runs:
            run.stop()

    @property
    def left(self) -> float:
        """Seconds until their time is over."""
        return max(0.001, self._end - time.monotonic())

    def check(self) -> None:
        """Raise Cancelled if they are stopped, TranslationTimeout if the time is over."""
        if self._stopped.is_set():
            raise Cancelled
        if time.monotonic() >= self._end:
            raise TranslationTimeout(f"the request takes longer than {self._seconds:g} seconds")

    def wait(self, seconds: float) -> None:
        """Let so many seconds go by; raises as `check` does, as soon as there is a reason."""
        self._stopped.wait(min(seconds, self.left))
        self.check()

    def stream(
        self, model: "Model", texts: "Iterable[str | Text]", **options: Any
    ) -> "Generator[Translation, None, None]":
        """As `Translator.stream`."""
        with self._run(model, options) as run:
            yield from run.translations(texts)

    async def made(
        self, model: "Model", texts: "Sequence[str | Text]", hops: "Hops", **options: Any
    ) -> "AsyncGenerator[Translation, None]":
        """As `stream`, on an event loop, which all of the work but the engine's holds up."""
        news = asyncio.Event()
        with (
            self._run(model, {**options, "news": partial(hops.call, news.set)}) as run,
            contextlib.closing(run.steps(texts)) as steps,
        ):
            for step in steps:
                if step is not None:
                    yield step
                    continue
                while not run.pipeline.look():
                    with contextlib.suppress(TimeoutError):  # which the next look raises as what it is
                        async with asyncio.timeout(run.pipeline.left):
                            await news.wait()
                    news.clear()

    def pieces(self, model: "Model", text: "Text", **options: Any) -> "Generator[str, None, Translation]":
        """A text's translation in pieces; returns all of it, or what stood against it."""
        from dragoman.translation.preparing import TextJob

        with self._run(model, {**options, "listens": True}) as run:
            job = run.preparing.prepare(text)
            if not isinstance(job, TextJob):
                return job
            return (yield from run.pieces(job))

    @contextlib.contextmanager
    def _run(self, model: "Model", options: dict[str, Any]) -> "Generator[Run, None, None]":
        self.check()
        wanted = options.get("timeout")
        options = {"batch_size": self._batch, "translation_memory": self._memory, **options}
        with model.use(self.check) as loaded:
            options["timeout"] = self.left if wanted is None else min(self.left, wanted)
            run = loaded.run(**options)
            with self._lock:
                self._runs.add(run)
            try:
                self.check()
                yield run
            finally:
                with self._lock:
                    self._runs.discard(run)


class Hops:
    """Takes calls from threads to an event loop, as many as have come at a time: to wake a loop costs more
    than what it is woken for.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._waiting: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._is_due = False

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Have the loop call a function; from any thread. It must not raise."""
        self._waiting.append((function, args))
        if not self._is_due:
            self._is_due = True
            with contextlib.suppress(RuntimeError):  # the loop's end has come before the thread's
                self.loop.call_soon_threadsafe(self._call_all)

    def _call_all(self) -> None:
        self._is_due = False  # first: what comes from now on wakes the loop again
        while self._waiting:
            function, args = self._waiting.popleft()
            function(*args)


class Workshop:
    """Where requests are worked on: a queue for texts, one for files, and the threads for both."""

    def __init__(self, settings: Settings, memory: "SharedMemory | None" = None) -> None:
        self._settings, self._memory = settings, memory
        rest = (settings.queue, settings.queue_per_key, settings.queue_characters)
        self.texts = Admission(Bounds(settings.active, *rest, settings.queue_seconds))
        most = FILES_WAITING * settings.upload_bytes
        self.files = Admission(Bounds(FILES_AT_A_TIME, settings.queue, settings.queue_per_key, most, None))
        threads = settings.active + FILES_AT_A_TIME
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="dragoman-request")
        self._calls: set[Calls] = set()
        self._hops: Hops | None = None

    async def do(self, owner: str, characters: int, work: Callable[[Calls], T]) -> T:
        """Have `work` done on texts once it is its turn, in a thread. Cancelled, it stops the work."""
        place = await self.texts.enter(owner, characters)
        return await self._do(place, self._settings.timeout, work)

    async def do_here(self, owner: str, characters: int, work: "Callable[[Calls, Hops], Awaitable[T]]") -> T:
        """As `do`, on the event loop: for work that takes it next to no time."""
        place = await self.texts.enter(owner, characters)
        calls = self._new_calls(self._settings.timeout)
        try:
            return await work(calls, self._to_loop())
        except Cancelled:
            raise _ending() from None
        finally:
            self._calls.discard(calls)
            place.leave()

    async def do_file(self, owner: str, characters: int, work: Callable[[Calls], T]) -> T:
        """As `do`, on a file that has been accepted: it waits for as long as it takes."""
        place = await self.files.enter(owner, characters, is_accepted=True)
        return await self._do(place, self._settings.file_timeout, work)

    async def stream(
        self, owner: str, characters: int, work: Callable[[Calls, Callable[[T], None]], None]
    ) -> AsyncIterator[T]:
        """As `do`, for work that hands out things as it goes, by calling its second argument.

        What stands against it is raised before the first thing comes, if it was known by then.
        """
        place = await self.texts.enter(owner, characters)
        things: asyncio.Queue[T | None] = asyncio.Queue()
        hops = self._to_loop()

        def put(thing: T | None) -> None:
            hops.call(things.put_nowait, thing)

        def all_of_it(calls: Calls) -> None:
            try:
                work(calls, put)
            finally:
                put(None)

        doing = asyncio.ensure_future(self._do(place, self._settings.timeout, all_of_it))
        try:
            while (thing := await things.get()) is not None:
                yield thing
            await doing
        finally:
            if not doing.done():
                doing.cancel()
                await asyncio.wait({doing})

    async def _do(self, place: Place, seconds: float, work: Callable[[Calls], T]) -> T:
        calls = self._new_calls(seconds)
        hops = self._to_loop()
        outcome: asyncio.Future[T] = hops.loop.create_future()

        def end(future: "Future[T]") -> None:
            place.leave()
            if outcome.done():
                return
            error = Cancelled() if future.cancelled() else future.exception()
            if error is None:
                outcome.set_result(future.result())
            else:
                outcome.set_exception(error)

        try:
            self._pool.submit(work, calls).add_done_callback(lambda future: hops.call(end, future))
        except RuntimeError:  # the server ends
            place.leave()
            raise _ending() from None
        try:
            return await outcome
        except asyncio.CancelledError:
            calls.stop()
            raise
        except Cancelled:
            raise _ending() from None
        finally:
            self._calls.discard(calls)

    def _new_calls(self, seconds: float) -> Calls:
        batch = min(self._settings.batch, max(_FEWEST, _TOGETHER // max(1, self.texts.working)))
        calls = Calls(seconds, batch, self._memory)
        self._calls.add(calls)
        return calls

    def _to_loop(self) -> Hops:
        loop = asyncio.get_running_loop()
        if self._hops is None or self._hops.loop is not loop:
            self._hops = Hops(loop)
        return self._hops

    def close(self) -> None:
        """Stop whatever is still worked on, and let the threads go."""
        for calls in list(self._calls):
            calls.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)


def _ending() -> Fault:
    return Fault(503, "shutting_down", "the server is about to end", None, 10)


class ClientGone(Exception):
    """The client has gone away: there is nobody to answer."""


async def attended(request: "Request", work: Awaitable[T]) -> T:
    """Await this work, unless the client goes away: then it is cancelled, and ClientGone raised."""
    doing = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_leave(request))
    try:
        await asyncio.wait({doing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientGone
        return doing.result()
    finally:
        leaving.cancel()
        if not doing.done():
            doing.cancel()
            await asyncio.wait({doing})


async def _leave(request: "Request") -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
