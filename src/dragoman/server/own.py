"""Our own API, `/v1`: many texts to many languages, n-best, streaming, detection, languages and models."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import fields
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from dragoman.errors import DragomanError, TranslationTimeout
from dragoman.generation.options import GenerationOptions
from dragoman.server import schemas
from dragoman.server.bodies import read_json, texts_of
from dragoman.server.faults import Fault, fault_of, invalid
from dragoman.server.fragments import XmlRules
from dragoman.server.glossaries import of_mapping
from dragoman.server.openapi import errors
from dragoman.server.orders import Order, Result, check_length, in_order, result_of, stream, text_of
from dragoman.server.routes import Direct
from dragoman.server.state import Caller, State
from dragoman.server.work import Calls, attended
from dragoman.translation.options import translation_options
from dragoman.translation.results import MEMORY

ERRORS = errors(
    schemas.ErrorResponse, (400, 401, 403, 404, 405, 408, 409, 413, 415, 421, 429, 431, 456, 500, 503, 504)
)
TYPES = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error"}
TYPES |= {429: "rate_limit_error", 456: "insufficient_quota"}


def answer(fault: Fault) -> Response:
    """A fault in the shape of `/v1`, which is OpenAI's."""
    kind = TYPES.get(fault.status, "server_error" if fault.status >= 500 else "invalid_request_error")
    problem = {"message": fault.message, "type": kind, "param": fault.param, "code": fault.code}
    return JSONResponse({"error": problem}, fault.status, headers=fault.headers)


def body_of(model: type[schemas.Strict]) -> dict[str, Any]:
    """What OpenAPI is told of a body that we read ourselves."""
    schema = model.model_json_schema()
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def router(state: State) -> APIRouter:
    """The routes of `/v1`."""
    api = APIRouter(prefix="/v1", responses=ERRORS, route_class=Direct)
    asked = schemas.translate_request(state.settings, state.registry)

    @api.post(
        "/translate",
        response_model=schemas.TranslateResponse,
        openapi_extra=body_of(asked),
        tags=["dragoman"],
    )
    async def translate(request: Request) -> Response:
        """Translate texts; with `stream` as server-sent events: `piece`, `translation`, `error`, `done`."""
        caller = state.caller(request)
        body = schemas.read(asked, await read_json(request))
        if body.glossary is None:
            order = _order(state, caller, body)
        else:  # they take their time
            order = await asyncio.to_thread(_order, state, caller, body)
        if body.stream:
            return await _streamed(state, request, caller, order)
        found = await _all(state, request, caller, order)
        return JSONResponse({"translations": [_record(result) for result in found]})

    @api.post(
        "/detect",
        response_model=schemas.DetectResponse,
        openapi_extra=body_of(schemas.DetectRequest),
        tags=["dragoman"],
    )
    async def detect(request: Request) -> Response:
        """The languages of texts."""
        caller = state.caller(request)
        body = schemas.read(schemas.DetectRequest, await read_json(request))
        texts = texts_of(body.text, "text", state.settings.max_texts)
        found = await detections(state, request, caller, texts)
        return JSONResponse({"detections": [one and _detected(one) for one in found]})

    @api.get("/languages", response_model=schemas.LanguagesResponse, tags=["dragoman"])
    async def languages(request: Request) -> Response:
        """What can be translated, and by which models."""
        state.caller(request)
        return JSONResponse(
            {"languages": [_language(state, language) for language in state.registry.languages]}
        )

    @api.get("/models", response_model=schemas.ModelsResponse, tags=["dragoman", "openai"])
    async def models(request: Request) -> Response:
        """The models of this server."""
        state.caller(request)
        return JSONResponse(
            {"object": "list", "data": [_model(state, name) for name in state.registry.translators]}
        )

    @api.get("/models/{name:path}", response_model=schemas.ModelFound, tags=["dragoman", "openai"])
    async def model(request: Request, name: str) -> Response:
        """One of them."""
        state.caller(request)
        state.registry.named(name)
        return JSONResponse(_model(state, name))

    return api


# ---- translating -------------------------------------------------------------------------------------------


def _order(state: State, caller: Caller, body: Any) -> Order:
    registry, settings = state.registry, state.settings
    names = body.target if isinstance(body.target, list) else [body.target]
    if not 0 < len(names) <= settings.max_texts:
        raise invalid(f"target names {len(names)} languages; it must be 1 to {settings.max_texts}", "target")
    targets = tuple(dict.fromkeys(registry.find(name) for name in names))
    options: dict[str, Any] = {
        option.name: getattr(body, option.name)
        for option in fields(GenerationOptions)
        if getattr(body, option.name, None) is not None
    }
    for name in ("likely_source", "timeout"):
        if getattr(body, name) is not None:
            options[name] = getattr(body, name)
    options |= {name: True for name in ("direct", "retry") if getattr(body, name)}
    if isinstance(body.glossary, str):
        options["glossary"] = state.glossaries.together(caller.keeper, [body.glossary])
    elif body.glossary is not None:
        options["glossary"] = of_mapping(body.glossary)
    if body.likely_source is not None:
        registry.find(body.likely_source, "likely_source")
    if body.ignore_tags and body.format != "xml":
        raise invalid("ignore_tags goes with format xml", "ignore_tags")
    if body.format != "text" and options.get("n_best", 1) > 1:
        raise invalid("n_best goes with format text only", "n_best")
    order = Order(
        texts_of(body.text, "text", settings.max_texts),
        registry.find_source(body.source),
        targets,
        body.model,
        body.format,
        XmlRules(frozenset(body.ignore_tags)),
        options=options,
    )
    _try_options(state, order)
    return order


def _try_options(state: State, order: Order) -> None:
    """Raise a Fault for options that exclude each other, before anything is done."""
    if order.model is not None:
        state.registry.named(order.model)
    if not order.options:
        return
    defaults = state.registry.translators[order.model or state.registry.default].defaults
    wanted = order.options.get("n_best", 1)
    given = dict(order.options)
    if wanted > 1 and "beams" not in given and not given.get("sample"):
        given["beams"] = max(wanted, defaults.get("beams", 4))
    try:
        translation_options(None, None, given, defaults)
    except DragomanError as error:
        raise fault_of(error) from None


async def _all(state: State, request: Request, caller: Caller, order: Order) -> list[Result]:
    """The result of each text, its error included; a Fault if all failed."""
    try:
        results = await state.results(request, caller, order)
    except TranslationTimeout as error:
        if "timeout" not in order.options:
            raise
        raise Fault(408, "timeout", str(error), "timeout") from None  # its sender wanted it so
    errors = [result.error for result in results if result.error is not None]
    if results and len(errors) == len(results):
        raise errors[0]
    return in_order(order, results)


async def _streamed(state: State, request: Request, caller: Caller, order: Order) -> Response:
    """Server-sent events. What is wrong from the start is an answer of its own, with a status."""
    events = _events(state, request, caller, order)
    first = await attended(request, anext(events))

    async def lines() -> AsyncIterator[bytes]:
        yield first
        async for event in events:
            yield event

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _events(state: State, request: Request, caller: Caller, order: Order) -> AsyncIterator[bytes]:
    is_live = len(order.texts) == len(order.targets) == 1 and order.format == "text"
    is_live = is_live and order.options.get("n_best", 1) == 1

    def work(calls: Calls, put: Callable[[Any], None]) -> None:
        results = live(order, state, calls, put) if is_live else stream(order, state.registry, calls)
        for result in results:
            put(result)

    started = False
    try:
        async for thing in state.stream(request, caller, order, work):
            started = True
            if isinstance(thing, Result):
                yield event("translation", _record(thing))
            else:
                yield event("piece", {"index": 0, "target": order.targets[0].nllb, "text": thing})
    except (Fault, DragomanError) as error:
        if not started:
            raise
        fault = fault_of(error) if isinstance(error, DragomanError) else error
        yield event("error", {"message": fault.message, "code": fault.code})
        return
    yield event("done", {})


def live(order: Order, state: State, calls: Calls, put: Callable[[Any], None]) -> Iterable[Result]:
    """The only text of an order in pieces, which are put, and at last as a whole."""
    from dragoman.translation.results import Text

    (target,) = order.targets
    source = order.source or state.registry.source_of(order.texts[0], order.model)
    name = state.registry.choose(order.model, source, target)
    text = Text(text_of(order, 0), order.source.nllb if order.source else None, target.nllb)
    pieces = calls.pieces(state.registry.translators[name], text, **order.options)
    while True:
        try:
            put(next(pieces))
        except StopIteration as end:
            made = end.value
            break
    if made.error is not None:
        raise made.error
    yield result_of(made, 0, target, name)


def event(name: str, data: Any) -> bytes:
    """A server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


# ---- records -----------------------------------------------------------------------------------------------


def _record(result: Result) -> dict[str, Any]:
    many = any(len(sentence.candidates) > 1 for sentence in result.sentences)
    return {
        "index": result.index,
        "text": result.text,
        "source": result.source and result.source.nllb,
        "target": result.target.nllb,
        "model": result.model,
        "detected": result.detected and _detected(result.detected),
        "pivot": result.pivot,
        "origin": MEMORY if result.is_remembered else "model",
        "alternatives": list(result.alternatives),
        "sentences": [
            {
                "source": sentence.source,
                "candidates": [
                    {"text": each.text, "score": round(each.score, 4), "complete": each.complete}
                    for each in sentence.candidates
                    if each.score > float("-inf")
                ],
            }
            for sentence in (result.sentences if many else ())
        ],
        "warnings": [
            {"kind": warning.kind, "message": str(warning), "sentence": warning.sentence}
            for warning in result.warnings
        ],
        "error": result.error and fault_of(result.error).message,
    }


async def detections(state: State, request: Request, caller: Caller, texts: tuple[str, ...]) -> list[Any]:
    """What language each text is in, of those that some model here speaks."""
    size = sum(map(len, texts))
    check_length(size, state.settings)
    state.meter.take(caller.key, 0)

    def work(calls: Calls) -> list[Any]:
        return [state.registry.detect(text) for text in texts]

    return await attended(request, state.workshop.do(caller.owner, size, state.traced(request, work)))


def _detected(found: Any) -> dict[str, Any]:
    return {"language": found.code, "confidence": round(found.confidence, 4), "sure": found.sure}


def _language(state: State, language: Any) -> dict[str, Any]:
    spoken = [name for name, each in state.registry.translators.items() if language in each.languages]
    return {
        "code": language.nllb,
        "short": language.short_code,
        "name": language.name,
        "own_name": language.own_name,
        "script": language.script,
        "right_to_left": language.right_to_left,
        "models": spoken,
    }


def _model(state: State, name: str) -> dict[str, Any]:
    translator = state.registry.named(name)
    card = translator.card
    return {
        "id": name,
        "object": "model",
        "created": state.started,
        "owned_by": "dragoman",
        "licence": card.licence,
        "non_commercial": "NC" in card.licence,
        "precision": translator.precision,
        "loaded": translator.is_loaded,
        "languages": [language.nllb for language in translator.languages],
        "pivot": card.pivot,
        "answers_questions": answers(translator),
    }


def answers(translator: Any) -> bool:
    """Whether a model answers open questions."""
    return bool(translator.style == "chat")
