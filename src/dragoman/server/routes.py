"""Routes whose handlers read requests themselves."""

import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response


class Direct(APIRoute):
    """A route of FastAPI that calls its handler at once where that takes the request and nothing else.

    FastAPI then only describes it: looking for parameters and dependencies that there are none of takes
    longer than reading the request.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        takes = inspect.signature(handler).parameters
        return handler if list(takes) == ["request"] else super().get_route_handler()
