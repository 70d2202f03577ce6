"""What all requests pass through: limits of bodies, a number, what browsers are told, logs and figures."""

import asyncio
import itertools
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

from dragoman.server import logs
from dragoman.server.faults import Fault
from dragoman.server.state import State
from dragoman.server.work import ClientGone

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

UPLOADS = frozenset(("/translate_file", "/v2/document", "/v1/documents"))
"""Where bodies hold files."""
HEADER_BYTES = 32 * 1024
_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)
_NAMES = re.compile(r"[\w, -]{1,2000}", re.ASCII)
"""Headers that a browser asks for: nothing here depends on which come, and clients send ones of their own."""
_USUAL = "Authorization, Content-Type, X-API-Key, X-Request-ID"
_LOCAL = ("localhost", "127.0.0.1", "[::1]")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_CLIENT_CLOSED = 499
_FIRST = secrets.token_hex(4)
"""What the numbers that requests get here begin with: another one in each process."""
_COUNT = itertools.count(1)


class Guard:
    """The outermost layer of the application."""

    def __init__(self, app: App, state: State, answer: Callable[[str, Fault], Response]) -> None:
        """answer: a fault as the dialect of a path writes it."""
        self._app, self._state, self._answer = app, state, answer
        settings = state.settings
        is_open = settings.allow_open or state.keys is not None or not settings.is_loopback
        self._hosts = settings.hosts or (("*",) if is_open else _LOCAL)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        number = given if _ID.fullmatch(given) else f"{_FIRST}{next(_COUNT):08x}"
        scope["dragoman.request"] = number
        if self._state.tracing is not None:
            scope["dragoman.span"] = self._state.tracing.begin(headers)
        status = _CLIENT_CLOSED

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._complete(MutableHeaders(scope=message), headers, number)
                if scope["path"].startswith("/v2/"):
                    MutableHeaders(scope=message)["X-Trace-ID"] = number  # as DeepL calls it
            await send(message)

        try:
            await self._pass(scope, headers, _Body(receive, self._limit(scope), self._state), sending)
        except ClientGone:
            self._state.metrics.client_gone()
        except asyncio.CancelledError:
            if not self._state.is_draining or status != _CLIENT_CLOSED:
                raise
            fault = Fault(503, "shutting_down", "the server is about to end", None, 10)
            await self._answer(scope["path"], fault)(scope, receive, sending)
        except Exception as error:
            logs.event("a request failed", logging.ERROR, request=number, error=logs.told(error))
            if status == _CLIENT_CLOSED:
                fault = Fault(
                    500, "internal_error", f"the server failed; its log has more (request {number})"
                )
                await self._answer(scope["path"], fault)(scope, receive, sending)
        finally:
            self._note(scope, number, status, time.monotonic() - began)

    async def _pass(self, scope: Scope, headers: Headers, body: "_Body", send: Send) -> None:
        fault = self._refused(headers, body) or self._refused_origin(scope["method"], headers)
        if fault is not None:
            await self._answer(scope["path"], fault)(scope, body, send)
        elif scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await Response(status_code=204)(scope, body, send)
        else:
            await self._app(scope, body, send)

    def _refused(self, headers: Headers, body: "_Body") -> Fault | None:
        host = re.sub(r":\d+$", "", headers.get("host", "")).lower()
        if "*" not in self._hosts and host not in self._hosts:
            return Fault(
                421, "wrong_host", f"this server does not answer for the host {host[:80]!r} (setting hosts)"
            )
        if sum(len(name) + len(value) for name, value in headers.raw) > HEADER_BYTES:
            return Fault(
                431, "too_large", f"the headers are too large; at most {HEADER_BYTES:,} bytes are taken"
            )
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > body.limit:
            return body.too_large
        return None

    def _refused_origin(self, method: str, headers: Headers) -> Fault | None:
        """Where no key is asked for, any page of the web could have a browser here write, if not read."""
        origin, settings = headers.get("origin"), self._state.settings
        if origin is None or self._state.keys is not None or method in ("GET", "HEAD", "OPTIONS"):
            return None
        own = origin.partition("://")[2].lower()
        public = urlsplit(settings.public_url or "").netloc.lower()
        if own in (headers.get("host", "").lower(), public) and own:
            return None
        if origin in settings.origins or "*" in settings.origins:
            return None
        said = f"this server is not for pages of {origin[:80]!r} (setting origins)"
        return Fault(403, "wrong_origin", said)

    def _limit(self, scope: Scope) -> int:
        settings = self._state.settings
        return settings.upload_bytes if scope["path"] in UPLOADS else settings.json_bytes

    def _complete(self, headers: MutableHeaders, asked: Headers, number: str) -> None:
        headers["X-Request-ID"] = number
        if self._state.is_draining:
            headers["Connection"] = "close"
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "no-referrer"
        headers.setdefault("Content-Security-Policy", _POLICY)
        headers.setdefault("Cache-Control", "no-store")
        origin = asked.get("origin")
        allowed = self._state.settings.origins
        if origin is not None and (origin in allowed or "*" in allowed):
            headers["Access-Control-Allow-Origin"] = "*" if "*" in allowed else origin
            headers["Access-Control-Allow-Methods"] = "GET, POST, PUT, DELETE"
            wanted = asked.get("access-control-request-headers", "")
            named = wanted if _NAMES.fullmatch(wanted) else _USUAL
            headers["Access-Control-Allow-Headers"] = named
            headers["Access-Control-Expose-Headers"] = "X-Request-ID, Retry-After"
            headers.add_vary_header("Origin")

    def _note(self, scope: Scope, number: str, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "(none)")
        self._state.metrics.request(route, status, seconds)
        facts = {
            "request": number,
            "method": scope["method"] if scope["method"].isalpha() else "?",
            "route": route,
            "status": status,
            "milliseconds": round(1000 * seconds, 1),
            "key": scope.get("dragoman.key"),
            "characters": scope.get("dragoman.characters"),
        }
        if self._state.tracing is not None:
            method, characters = str(facts["method"]), scope.get("dragoman.characters")
            self._state.tracing.end(scope["dragoman.span"], method, route, status, characters)
        known = {name: fact for name, fact in facts.items() if fact is not None}
        logs.event("request", logging.INFO, **known)


class _Body:
    """Receives a request's body as far as it isn't too large and comes in time."""

    def __init__(self, receive: Receive, limit: int, state: State) -> None:
        self.limit = limit
        self._receive = receive
        self._seconds = state.settings.body_seconds
        self._end = time.monotonic() + self._seconds
        self._bytes = 0
        self._is_complete = False

    @property
    def too_large(self) -> Fault:
        return Fault(413, "too_large", f"the body is too large; at most {self.limit:,} bytes are taken")

    async def __call__(self) -> Message:
        if self._is_complete:
            return await self._receive()
        try:
            async with asyncio.timeout(max(0.01, self._end - time.monotonic())):
                message = await self._receive()
        except TimeoutError:
            raise Fault(
                408, "timeout", f"the body took longer than {self._seconds:g} seconds to arrive"
            ) from None
        if message["type"] == "http.request":
            self._bytes += len(message.get("body", b""))
            if self._bytes > self.limit:
                raise self.too_large
            self._is_complete = not message.get("more_body", False)
        else:
            raise ClientGone
        return message
