"""What the handlers of a server's requests share."""

import contextlib
import logging
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from dragoman.errors import DragomanError, InvalidOption
from dragoman.server import logs
from dragoman.server.faults import Fault, invalid
from dragoman.server.glossaries import Glossaries
from dragoman.server.keys import Key, KeyFile
from dragoman.server.memory import SharedMemory
from dragoman.server.metering import Meter
from dragoman.server.metrics import Metrics
from dragoman.server.models import Resident
from dragoman.server.orders import Order, Result, fulfil, in_order, made, stream
from dragoman.server.registry import Registry
from dragoman.server.settings import Settings
from dragoman.server.tracing import Tracing
from dragoman.server.work import Calls, Hops, Workshop, attended

if TYPE_CHECKING:
    from starlette.requests import Request

T = TypeVar("T")

_LIGHT, _FEW = 1000, 8
"""Characters, and translations, of a request that the event loop may work on itself: some milliseconds of
its time."""
_ATTEMPTS = 20
"""Wrong keys of an address in a minute, after which its next are told to wait."""
_ADDRESSES = 10_000


@dataclass(frozen=True)
class Caller:
    """Whoever makes a request."""

    owner: str
    """Whose turn it is in queues: the name of the key, or the address."""
    key: Key | None = None

    @property
    def keeper(self) -> str:
        """Whose the glossaries are that it keeps; where there are no keys they are everybody's."""
        return self.owner if self.key else "anybody"


class State:
    """A server's settings, models, keys and queues."""

    def __init__(self, settings: Settings, registry: Registry, keys: KeyFile | None) -> None:
        """keys: None serves everybody."""
        self.settings, self.registry, self.keys = settings, registry, keys
        usage = None if settings.data is None else settings.data / "usage.json"
        self.meter = Meter(usage if keys else None)
        self.memory = None if settings.tm is None else SharedMemory(settings.tm)
        self.workshop = Workshop(settings, self.memory)
        folder = settings.data and settings.data / "glossaries"
        self.glossaries = Glossaries(folder)
        self.metrics = Metrics(self.workshop)
        self.tracing = None if settings.traces is None else Tracing(settings.traces)
        models = registry.translators.values()
        self._is_simple = (
            self.memory is None
            and self.tracing is None
            and all(isinstance(each, Resident) and not each.loaded.system.may_wait for each in models)
        )
        """Whether no request has to look anything up in a file, or to load a model or a part of one."""
        self.is_warm = False
        """Whether what detects languages has been read."""
        self.is_draining = False
        self.started = int(time.time())
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def caller(self, request: "Request", given: object = None) -> Caller:
        """Who makes a request. given: a key that it brings elsewhere than in its headers. Raises a Fault."""
        address = request.client.host if request.client else ""
        if not isinstance(given, (str, type(None))):
            raise invalid("a key must be a string", "key")
        if self.keys is None:
            return Caller(f"address {address}")
        key = key_in_headers(request) or given
        if not isinstance(key, str) or not key:
            raise Fault(401, "key_missing", "this server asks for an API key, and the request brings none")
        try:
            found = self.keys.find(key)
        except InvalidOption as error:
            logs.event("the API keys can't be read", logging.ERROR, error=str(error))
            raise Fault(503, "unavailable", "the server can't look keys up now", None, 30) from None
        if found is None:
            self._refuse_guessing(address)
            self._failures.setdefault(address, deque(maxlen=_ATTEMPTS)).append(time.monotonic())
            raise Fault(401, "key_invalid", "the API key is none that this server knows")
        request.scope["dragoman.key"] = found.name
        return Caller(f"key {found.name}", found)

    def _refuse_guessing(self, address: str) -> None:
        failures = list(self._failures.get(address, ()))
        if len(failures) == _ATTEMPTS and failures[0] > time.monotonic() - 60:
            raise Fault(429, "rate_limited", "too many wrong keys came from this address", None, 60)
        while len(self._failures) > _ADDRESSES:
            self._failures.popitem(last=False)

    async def translate(self, request: "Request", caller: Caller, order: Order) -> list[Result]:
        """Do what is asked for, unless the client goes away. Raises the error of the first that has one."""
        self._take(request, caller, order)
        light: list[Result] = []

        async def here(calls: Calls, hops: Hops) -> None:
            async with contextlib.aclosing(made(order, self.registry, calls, hops)) as coming:
                async for result in coming:
                    if result.error is not None:
                        raise result.error
                    light.append(result)

        def work(calls: Calls) -> list[Result]:
            return fulfil(order, self.registry, calls)

        try:
            if self._is_light(order):
                await attended(request, self.workshop.do_here(caller.owner, order.characters, here))
                results = in_order(order, light)
            else:
                traced = self.traced(request, work)
                results = await attended(request, self.workshop.do(caller.owner, order.characters, traced))
        except (Fault, DragomanError):
            self.meter.give_back(caller.key, order.characters)
            raise
        for result in results:
            self.metrics.translated(result, len(order.texts[result.index]))
        return results

    async def results(self, request: "Request", caller: Caller, order: Order) -> list[Result]:
        """What becomes of each text, errors included, as they are done, unless the client goes away."""
        found: list[Result] = []

        async def here(calls: Calls, hops: Hops) -> None:
            async for result in made(order, self.registry, calls, hops):
                self.metrics.translated(result, len(order.texts[result.index]))
                found.append(result)

        def work(calls: Calls, put: Callable[[Result], None]) -> None:
            for result in stream(order, self.registry, calls):
                put(result)

        async def aside() -> None:
            async for result in self.stream(request, caller, order, work):
                found.append(result)

        if not self._is_light(order):
            await attended(request, aside())
            return found
        self._take(request, caller, order)
        try:
            await attended(request, self.workshop.do_here(caller.owner, order.characters, here))
        except (Fault, DragomanError):
            if not found:
                self.meter.give_back(caller.key, order.characters)
            raise
        return found

    def _is_light(self, order: Order) -> bool:
        """Whether an order takes next to no time beside the engine's, and nothing that waits."""
        return (
            order.format == "text"
            and order.characters <= _LIGHT
            and len(order.texts) * len(order.targets) <= _FEW
            and "glossary" not in order.options
            and self._is_simple
            and self.is_warm
        )

    async def stream(
        self,
        request: "Request",
        caller: Caller,
        order: Order,
        work: Callable[[Calls, Callable[[Any], None]], None],
    ) -> AsyncIterator[Any]:
        """What `work` hands out on its way."""
        self._take(request, caller, order)
        is_begun = False
        try:
            traced = self.traced(request, work)
            async for thing in self.workshop.stream(caller.owner, order.characters, traced):
                if isinstance(thing, Result):
                    self.metrics.translated(thing, len(order.texts[thing.index]))
                is_begun = True
                yield thing
        except (Fault, DragomanError):
            if not is_begun:
                self.meter.give_back(caller.key, order.characters)
            raise

    def traced(self, request: "Request", work: Callable[..., T]) -> Callable[..., T]:
        """The work of a request, of which OpenTelemetry is told if it is to be."""
        span = request.scope.get("dragoman.span")
        return work if self.tracing is None or span is None else self.tracing.timed(span, work)

    def _take(self, request: "Request", caller: Caller, order: Order) -> None:
        order.check(self.settings)
        self.meter.take(caller.key, order.characters)
        request.scope["dragoman.characters"] = order.characters


def key_in_headers(request: "Request") -> str | None:
    """A key as the clients of all dialects send it."""
    kind, _, key = request.headers.get("authorization", "").partition(" ")
    if key and kind.lower() in ("bearer", "deepl-auth-key"):
        return key.strip()
    return request.headers.get("x-api-key") or request.headers.get("x-goog-api-key")
