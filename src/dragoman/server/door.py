"""What every request passes, so that a server that can't close its address can end all the same."""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from dragoman.server import logs
from dragoman.server.faults import Fault

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from dragoman.server.state import State

_OPEN = ("/health/", "/metrics")
"""Paths that are answered to the end."""
_RETRY = 10
"""Seconds after which a client is to come again."""


class Door:
    """An application that refuses newcomers once it is closed."""

    def __init__(self, app: "ASGIApp", state: "State", answer: "Callable[[str, Fault], Response]") -> None:
        """answer: a fault as the dialect of a path writes it."""
        self._app, self._state, self._answer = app, state, answer
        self._inside = 0
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] != "http" or scope["path"].startswith(_OPEN):
            await self._app(scope, receive, send)
        elif self._state.is_draining:
            fault = Fault(503, "shutting_down", "the server is about to end", None, _RETRY)
            await self._answer(scope["path"], fault)(scope, receive, send)
        else:
            await self._count(scope, receive, send)

    async def _count(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        self._inside += 1
        self._is_empty.clear()
        try:
            await self._app(scope, receive, send)
        finally:
            self._inside -= 1
            if not self._inside:
                self._is_empty.set()

    async def close(self, seconds: float) -> None:
        """Refuse newcomers from now on; return once nobody is inside, or the time is over."""
        self._state.is_draining = True
        try:
            async with asyncio.timeout(seconds):
                await self._is_empty.wait()
        except TimeoutError:
            logs.event("requests are under way though their time is over", logging.WARNING, n=self._inside)
