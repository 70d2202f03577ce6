"""Google's Cloud Translation API, version 2: `/language/translate/v2`."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from dragoman.languages import Language, of_code
from dragoman.server.bodies import read_fields, texts_of
from dragoman.server.codes import GOOGLE, spelled
from dragoman.server.faults import Fault, invalid
from dragoman.server.openapi import KEY, TEXTS, errors, fields_of, one_of
from dragoman.server.orders import Format, Order, Result
from dragoman.server.own import detections
from dragoman.server.routes import Direct
from dragoman.server.state import Caller, State

PATH = "/language/translate/v2"
_STATUSES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
_STATUSES |= {
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_REASONS = {400: "invalid", 401: "required", 403: "forbidden", 404: "notFound", 413: "uploadTooLarge"}
_REASONS |= {429: "rateLimitExceeded", 503: "backendError", 504: "backendError", 500: "backendError"}


class GoogleReason(BaseModel):
    """One of the reasons of a problem."""

    message: str
    domain: str
    reason: str


class GoogleProblem(BaseModel):
    """What went wrong."""

    code: int
    message: str
    errors: list[GoogleReason]
    status: str


class GoogleErrorResponse(BaseModel):
    """An error in Google's shape."""

    error: GoogleProblem


ERRORS = errors(GoogleErrorResponse, (400, 401, 403, 404, 405, 408, 413, 415, 421, 429, 431, 500, 503, 504))


def answer(fault: Fault) -> Response:
    """A fault in Google's shape."""
    status = {"key_missing": 403, "key_invalid": 400, "quota_exceeded": 403}.get(fault.code, fault.status)
    reason = "dailyLimitExceeded" if fault.code == "quota_exceeded" else _REASONS.get(status, "badRequest")
    problem = {
        "code": status,
        "message": fault.message,
        "errors": [{"message": fault.message, "domain": "global", "reason": reason}],
        "status": _STATUSES.get(status, "INTERNAL" if status >= 500 else "INVALID_ARGUMENT"),
    }
    return JSONResponse({"error": problem}, status, headers=fault.headers)


def router(state: State) -> APIRouter:
    """The routes of Google."""
    api = APIRouter(prefix=PATH, tags=["google"], responses=ERRORS, route_class=Direct)
    texts = {"q": {"anyOf": [{"type": "string"}, TEXTS]}}
    codes = one_of(spelled(language, GOOGLE) for language in state.registry.languages)
    kinds, models = one_of(["text", "html"]), one_of(["nmt", "base", *state.registry.translators])
    translating = fields_of(
        {**texts, "target": codes}, {"source": codes, "format": kinds, "model": models, "key": KEY}
    )
    by_query = {"q": {"type": "string"}, "target": codes, "source": codes, "format": kinds, "model": models}

    @api.post("", openapi_extra=translating)
    async def translate(request: Request) -> Response:
        """Translate texts, which are HTML unless `format` is `text`; JSON or form."""
        return await _translate(state, request)

    @api.get("", openapi_extra={"parameters": _parameters(by_query)})
    async def translate_by_query(request: Request) -> Response:
        """The same, by query string."""
        return await _translate(state, request)

    @api.post("/detect", openapi_extra=fields_of(texts, {"key": KEY}))
    async def detect(request: Request) -> Response:
        """The languages of texts."""
        return await _detect(state, request)

    @api.get("/detect", openapi_extra={"parameters": _parameters({"q": {"type": "string"}})})
    async def detect_by_query(request: Request) -> Response:
        """The same, by query string."""
        return await _detect(state, request)

    @api.get("/languages")
    async def languages(request: Request) -> Response:
        """The languages; with their English names if `target` is given."""
        fields = await read_fields(request)
        _caller(state, request, fields)
        named = fields.get("target") is not None
        found = []
        for language in state.registry.languages:
            name = {"name": language.name} if named else {}
            found.append({"language": spelled(language, GOOGLE), **name})
        return JSONResponse({"data": {"languages": found}})

    return api


async def _translate(state: State, request: Request) -> Response:
    fields = await read_fields(request)
    caller = _caller(state, request, fields)
    order = _order(state, fields)
    results = await state.translate(request, caller, order)
    return JSONResponse({"data": {"translations": [_translation(order, result) for result in results]}})


async def _detect(state: State, request: Request) -> Response:
    fields = await read_fields(request)
    caller = _caller(state, request, fields)
    found = await detections(state, request, caller, _texts(state, fields))
    return JSONResponse({"data": {"detections": [[_detection(each)] for each in found]}})


def _caller(state: State, request: Request, fields: Mapping[str, Any]) -> Caller:
    return state.caller(request, fields.get("key"))


def _texts(state: State, fields: Mapping[str, Any]) -> tuple[str, ...]:
    if fields.get("q") in (None, []):
        raise invalid("Required Text", "q")
    return texts_of(fields["q"], "q", state.settings.max_texts)


def _order(state: State, fields: Mapping[str, Any]) -> Order:
    texts = _texts(state, fields)
    if not fields.get("target"):
        raise invalid("Missing target language", "target")
    given = fields.get("format") or "html"
    if given not in ("text", "html"):
        raise invalid("Invalid Value: format is text or html", "format")
    format: Format = "html" if given == "html" else "text"
    try:
        source = state.registry.find_source(fields.get("source") or None)
        target = state.registry.find(fields["target"])
    except Fault as fault:
        raise Fault(400, "unknown_language", f"Invalid Value: {fault.message}", fault.param) from None
    return Order(
        texts, source, (target,), _model(state, fields.get("model")), format, options={"retry": True}
    )


def _model(state: State, name: object) -> str | None:
    """A model by name; Google's own, nmt and base, leave the choice to the server."""
    if name in (None, "", "nmt", "base"):
        return None
    if not isinstance(name, str) or name not in state.registry.translators:
        raise invalid("Invalid Value: there is no such model here", "model")
    return name


def _translation(order: Order, result: Result) -> dict[str, Any]:
    answer: dict[str, Any] = {"translatedText": result.text}
    if order.source is None:
        answer["detectedSourceLanguage"] = spelled(result.source or result.target, GOOGLE)
    if order.model is not None:
        answer["model"] = order.model
    return answer


def _detection(found: Any) -> dict[str, Any]:
    language: Language | None = of_code(found.code) if found else None
    return {
        "language": spelled(language, GOOGLE) if language else "und",
        "isReliable": bool(found and found.sure),
        "confidence": round(found.confidence, 4) if found else 0.0,
    }


def _parameters(schemas: Mapping[str, Any]) -> list[dict[str, Any]]:
    needed = {"q", "target"}
    return [
        {"name": name, "in": "query", "required": name in needed, "schema": schema}
        for name, schema in {**schemas, "key": {"type": "string"}}.items()
    ]
