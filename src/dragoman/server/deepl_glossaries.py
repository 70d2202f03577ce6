"""DeepL's glossaries, version 2: one pair of languages each."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from dragoman.languages import of_code
from dragoman.server.bodies import read_fields
from dragoman.server.codes import deepl_source
from dragoman.server.faults import Fault, invalid
from dragoman.server.glossaries import Kept, as_tsv, read_entries
from dragoman.server.openapi import TEXT, fields_of, one_of
from dragoman.server.state import State


def add_routes(api: APIRouter, state: State) -> None:
    """Give a router of `/v2` the routes of glossaries."""
    codes = one_of(deepl_source(language) for language in state.registry.languages)
    wanted = {"name": TEXT, "source_lang": codes, "target_lang": codes, "entries": TEXT}
    wanted["entries_format"] = one_of(["tsv", "csv"])
    known = JSONResponse({"supported_languages": _pairs(state)}).body  # once: there may be 40,000

    @api.post("/glossaries", status_code=201, openapi_extra=fields_of(wanted, {}))
    async def create(request: Request) -> Response:
        """Keep a glossary, whose entries are a table."""
        fields = await read_fields(request)
        caller = state.caller(request, fields.get("auth_key"))
        for name in wanted:
            if not isinstance(fields.get(name), str) or not fields[name]:
                raise invalid(f"Parameter '{name}' not specified.", name)
        if fields["entries_format"] not in ("tsv", "csv"):
            raise invalid("Value for 'entries_format' not supported.", "entries_format")
        try:
            source = state.registry.find(fields["source_lang"], "source_lang")
            target = state.registry.find(fields["target_lang"], "target_lang")
        except Fault as fault:
            said = f"Value for '{fault.param}' not supported."
            raise Fault(400, "unknown_language", said, fault.param) from None
        entries = read_entries(fields["entries"], fields["entries_format"])
        kept = await asyncio.to_thread(
            state.glossaries.add, caller.keeper, fields["name"], source, target, entries
        )
        return JSONResponse(_record(kept), 201)

    @api.get("/glossaries")
    async def listed(request: Request) -> Response:
        """Your glossaries."""
        found = state.glossaries.of(state.caller(request).keeper)
        return JSONResponse({"glossaries": [_record(kept) for kept in found]})

    @api.get("/glossaries/{id}")
    async def about(request: Request, id: str) -> Response:
        """What is known of a glossary."""
        return JSONResponse(_record(state.glossaries.find(state.caller(request).keeper, id)))

    @api.get("/glossaries/{id}/entries", response_class=Response)
    async def entries(request: Request, id: str) -> Response:
        """The entries of a glossary, as a table with tabs."""
        kept = state.glossaries.find(state.caller(request).keeper, id)
        kind = "text/tab-separated-values; charset=utf-8"
        return PlainTextResponse(as_tsv(kept.entries), media_type=kind)

    @api.delete("/glossaries/{id}", status_code=204, response_class=Response)
    async def forget(request: Request, id: str) -> Response:
        """Forget a glossary."""
        state.glossaries.remove(state.caller(request).keeper, id)
        return Response(status_code=204)

    @api.get("/glossary-language-pairs")
    async def pairs(request: Request) -> Response:
        """The pairs of languages that there may be glossaries for: all that a model translates."""
        state.caller(request)
        return Response(known, media_type="application/json")


def _pairs(state: State) -> list[dict[str, str]]:
    found: set[tuple[str, str]] = set()
    for translator in state.registry.translators.values():
        spoken = [deepl_source(language).lower() for language in translator.languages]
        found |= {
            (source, target)
            for place, source in enumerate(spoken)
            for other, target in enumerate(spoken)
            if place != other
        }
    return [{"source_lang": source, "target_lang": target} for source, target in sorted(found)]


def _record(kept: Kept) -> dict[str, Any]:
    return {
        "glossary_id": kept.id,
        "name": kept.name,
        "ready": True,
        "source_lang": deepl_source(of_code(kept.source)).lower(),
        "target_lang": deepl_source(of_code(kept.target)).lower(),
        "creation_time": kept.created,
        "entry_count": len(kept.entries),
    }
