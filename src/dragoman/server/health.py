"""Whether a server lives and works, and its figures."""

import asyncio
import time
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from dragoman.server.state import State
from dragoman.server.work import Calls

_FRESH = 5.0
"""Seconds for which a probe's result is good."""
_PROBE_SECONDS = 20.0


class Health(BaseModel):
    """How a server is."""

    status: str


class Probe:
    """Translates a word with every model, not more often than every few seconds."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._lock = asyncio.Lock()
        self._at = -_FRESH
        self._failed: list[str] = []

    async def failed(self) -> list[str]:
        """The models that couldn't."""
        async with self._lock:
            if time.monotonic() - self._at >= _FRESH:
                # Beside the queue: a server that has much to do is ready all the same.
                self._failed = await asyncio.to_thread(self._try_all)
                self._at = time.monotonic()
        return self._failed

    def _try_all(self) -> list[str]:
        return [name for name in self._state.registry.translators if not self._works(name)]

    def _works(self, name: str) -> bool:
        translator = self._state.registry.translators[name]
        if not translator.is_loaded:
            return True  # it comes when it is needed, and nobody may wait for it now
        source, *others = sorted(translator.languages, key=lambda language: language.nllb != "eng_Latn")
        target = others[0] if others else source
        options: dict[str, Any] = {"source": source.nllb, "target": target.nllb, "beams": 1}
        try:
            (made,) = Calls(_PROBE_SECONDS, 1).stream(translator, ["Good morning."], **options)
        except Exception:  # whatever it is, the model doesn't work
            return False
        return made.error is None


def router(state: State) -> APIRouter:
    """`/health/live`, `/health/ready` and `/metrics`."""
    api = APIRouter(tags=["operations"])
    probe = Probe(state)

    @api.get("/health/live", response_model=Health)
    async def live() -> Response:
        """The process answers."""
        return JSONResponse({"status": "ok"})

    @api.get("/health/ready", response_model=Health, responses={503: {"model": Health}})
    async def ready() -> Response:
        """Every model that is loaded has translated within the last seconds."""
        if state.is_draining:
            return JSONResponse({"status": "about to end"}, 503)
        failed = await probe.failed()
        if failed:
            return JSONResponse({"status": f"not working: {', '.join(failed)}"}, 503)
        return JSONResponse({"status": "ok"})

    @api.get("/metrics", response_class=Response)
    async def metrics(request: Request) -> Response:
        """Figures for Prometheus; with an API key if the server asks for keys."""
        state.caller(request)
        return Response(state.metrics.written(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return api
