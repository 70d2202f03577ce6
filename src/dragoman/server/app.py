"""The application: dialects beside each other over one state, and one answer to each fault."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, cast

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

import dragoman
from dragoman.errors import DragomanError
from dragoman.server import (
    deepl,
    documents,
    google,
    health,
    libretranslate,
    openai,
    own,
    own_glossaries,
    own_jobs,
    pages,
    schemas,
)
from dragoman.server.faults import Fault, fault_of
from dragoman.server.guard import Guard
from dragoman.server.keys import KeyFile
from dragoman.server.models import Model, as_model
from dragoman.server.openapi import described
from dragoman.server.registry import Registry
from dragoman.server.settings import Settings
from dragoman.server.state import State
from dragoman.server.uploads import Uploads

if TYPE_CHECKING:
    from dragoman.translation.translator import Translator

_SHAPES = (
    schemas.ErrorResponse,
    libretranslate.LibreTranslateProblem,
    deepl.DeepLProblem,
    google.GoogleErrorResponse,
)
"""Of errors."""
Answer = Callable[[Fault], Response]

_FORGETTING = 30.0
"""Seconds between two looks for files that have waited long enough."""

_DIALECTS: tuple[tuple[str, Answer], ...] = (
    ("/v1/", own.answer),
    (google.PATH, google.answer),
    ("/v2/", deepl.answer),
    *((path, libretranslate.answer) for path in libretranslate.PATHS),
)
"""How the faults of paths that begin like this are written; the first that fits."""


def answer(path: str, fault: Fault) -> Response:
    """A fault as the dialect of a path writes it."""
    written = next((each for prefix, each in _DIALECTS if path.startswith(prefix)), own.answer)
    return written(fault)


def create_app(
    settings: Settings, translators: "Mapping[str, Translator | Model]", keys: KeyFile | None = None
) -> FastAPI:
    """The application of a server.

    translators: models by name, which stay or come and go; keys: who may use it, None for everybody.
    """
    models = {name: as_model(each) for name, each in translators.items()}
    state = State(settings, Registry(models, settings.route), keys)
    uploads = Uploads.open(state)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        uploads.resume()
        # What detects languages is read in the meantime: the first who needs it would wait a second.
        warming = asyncio.create_task(_warm(state))
        forgetting = asyncio.create_task(_forget(uploads))
        yield
        forgetting.cancel()
        await warming
        state.meter.save()
        await asyncio.to_thread(state.workshop.close)
        uploads.close()
        state.glossaries.close()
        if state.memory is not None:
            state.memory.close()
        if state.tracing is not None:
            await asyncio.to_thread(state.tracing.close)

    app = FastAPI(
        title="Dragoman",
        version=dragoman.__version__,
        summary="Self-hosted translation.",
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    write_down = cache(partial(described, app, _SHAPES))

    @app.get("/openapi.json", include_in_schema=False)
    async def document() -> Response:
        # In a thread: for 200 languages it takes half a second.
        return Response(await asyncio.to_thread(write_down), media_type="application/json")

    app.state.dragoman, app.state.uploads = state, uploads
    for dialect in (own, own_glossaries, openai, google, health):
        app.include_router(dialect.router(state))
    if settings.web:
        app.include_router(pages.router(state))
    for with_files in (documents, own_jobs, libretranslate, deepl):
        app.include_router(with_files.router(state, uploads))
    app.add_middleware(Guard, state=state, answer=answer)
    app.add_exception_handler(Fault, _of_fault)
    app.add_exception_handler(DragomanError, _of_error)
    app.add_exception_handler(HTTPException, _of_router)
    return app


async def _warm(state: State) -> None:
    """Read what detects languages, word lists for short texts included."""
    for text in ("Good morning, everybody.", "Ja"):
        await asyncio.to_thread(state.registry.detect, text)
    state.is_warm = True


async def _forget(uploads: Uploads) -> None:
    """What nobody fetches goes, also where nobody asks for files any more."""
    while True:
        await asyncio.sleep(_FORGETTING)
        await uploads.forget_aside()


async def _of_fault(request: Request, error: Exception) -> Response:
    return answer(request.url.path, cast(Fault, error))


async def _of_error(request: Request, error: Exception) -> Response:
    return answer(request.url.path, fault_of(cast(DragomanError, error)))


async def _of_router(request: Request, error: Exception) -> Response:
    found = cast(HTTPException, error)
    codes = {404: "not_found", 405: "method_not_allowed"}
    fault = Fault(found.status_code, codes.get(found.status_code, "invalid_request"), str(found.detail))
    response = answer(request.url.path, fault)
    response.headers.update(found.headers or {})
    if found.status_code == 405:
        response.headers["Allow"] = ", ".join(_methods(request))
    return response


def _methods(request: Request) -> list[str]:
    """What may be done with a path; the router tells only of the first route that has it."""
    found: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] != Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return sorted(found)
