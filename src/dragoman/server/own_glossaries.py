"""Glossaries over our own API, `/v1/glossaries`."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from dragoman.server.bodies import read_json
from dragoman.server.glossaries import Kept
from dragoman.server.own import ERRORS, body_of
from dragoman.server.schemas import Strict, read
from dragoman.server.state import State


class GlossaryRequest(Strict):
    """A glossary to keep."""

    name: str
    source: str = Field(description="The language of the terms, in any spelling.")
    target: str = Field(description="The language of what they are to be.")
    entries: dict[str, str] = Field(description="What each term is to be; itself for one that stays.")


class GlossaryChange(Strict):
    """What a glossary is to be from now on; its languages stay."""

    name: str
    entries: dict[str, str] = Field(description="What each term is to be; itself for one that stays.")


class GlossaryFound(BaseModel):
    """A glossary that is kept."""

    id: str
    name: str
    source: str
    target: str
    created: str
    entry_count: int


class GlossaryWhole(GlossaryFound):
    """One with its entries."""

    entries: dict[str, str]


class GlossariesResponse(BaseModel):
    """The glossaries of a caller, the latest first."""

    glossaries: list[GlossaryFound]


def router(state: State) -> APIRouter:
    """The routes of `/v1/glossaries`."""
    api = APIRouter(prefix="/v1/glossaries", tags=["glossaries"], responses=ERRORS)

    @api.post("", status_code=201, response_model=GlossaryFound, openapi_extra=body_of(GlossaryRequest))
    async def keep(request: Request) -> Response:
        """Keep a glossary; `/v1/translate` takes its id."""
        caller = state.caller(request)
        body = read(GlossaryRequest, await read_json(request))
        source, target = state.registry.find(body.source, "source"), state.registry.find(body.target)
        kept = await asyncio.to_thread(
            state.glossaries.add, caller.keeper, body.name, source, target, body.entries.items()
        )
        return JSONResponse(_record(kept), 201, headers={"Location": f"/v1/glossaries/{kept.id}"})

    @api.get("", response_model=GlossariesResponse)
    async def listed(request: Request) -> Response:
        """Your glossaries."""
        caller = state.caller(request)
        return JSONResponse({"glossaries": [_record(each) for each in state.glossaries.of(caller.keeper)]})

    @api.get("/{id}", response_model=GlossaryWhole)
    async def whole(request: Request, id: str) -> Response:
        """A glossary with its entries."""
        kept = state.glossaries.find(state.caller(request).keeper, id)
        return JSONResponse({**_record(kept), "entries": dict(kept.entries)})

    @api.put("/{id}", response_model=GlossaryFound, openapi_extra=body_of(GlossaryChange))
    async def change(request: Request, id: str) -> Response:
        """Give a glossary another name and other entries."""
        caller = state.caller(request)
        body = read(GlossaryChange, await read_json(request))
        kept = await asyncio.to_thread(
            state.glossaries.change, caller.keeper, id, body.name, body.entries.items()
        )
        return JSONResponse(_record(kept))

    @api.delete("/{id}", status_code=204, response_class=Response)
    async def forget(request: Request, id: str) -> Response:
        """Forget a glossary."""
        state.glossaries.remove(state.caller(request).keeper, id)
        return Response(status_code=204)

    return api


def _record(kept: Kept) -> dict[str, Any]:
    return {
        "id": kept.id,
        "name": kept.name,
        "source": kept.source,
        "target": kept.target,
        "created": kept.created,
        "entry_count": len(kept.entries),
    }
