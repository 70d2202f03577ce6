"""LibreTranslate's API: `/translate`, `/detect`, `/languages`, `/translate_file`, at the root."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from dragoman.languages import Language, of_code
from dragoman.server.bodies import read_fields, read_form, texts_of, uploaded
from dragoman.server.codes import LIBRETRANSLATE, spelled
from dragoman.server.documents import result_response
from dragoman.server.faults import Fault, invalid
from dragoman.server.filework import EXTENSIONS, FileOrder
from dragoman.server.openapi import KEY, TEXT, TEXTS, errors, fields_of, one_of
from dragoman.server.orders import Format, Order, Result
from dragoman.server.own import detections
from dragoman.server.routes import Direct
from dragoman.server.state import State
from dragoman.server.uploads import Uploads
from dragoman.server.work import attended

PATHS = (
    "/translate",
    "/detect",
    "/languages",
    "/translate_file",
    "/download_file/",
    "/frontend/",
    "/suggest",
)


class LibreTranslateProblem(BaseModel):
    """What went wrong."""

    error: str


ERRORS = errors(LibreTranslateProblem, (400, 403, 404, 405, 408, 409, 413, 415, 421, 429, 431, 500, 503, 504))


def answer(fault: Fault) -> Response:
    """A fault in LibreTranslate's shape."""
    status = {"key_missing": 400, "key_invalid": 403, "quota_exceeded": 429, "too_long": 400}.get(
        fault.code, fault.status
    )
    slow = "Slowdown: " if status == 429 else ""
    return JSONResponse({"error": slow + fault.message}, status, headers=fault.headers)


def router(state: State, uploads: Uploads) -> APIRouter:
    """The routes of LibreTranslate."""
    api = APIRouter(tags=["libretranslate"], responses=ERRORS, route_class=Direct)
    settings = state.settings
    codes = {spelled(language, LIBRETRANSLATE) for language in state.registry.languages}
    languages_known = {"source": one_of({*codes, "auto"}), "target": one_of(codes)}
    known = JSONResponse(_known(state)).body  # once: it is a pair of codes for each pair of languages
    q = {"anyOf": [TEXT, TEXTS]}
    most = {"type": "integer", "maximum": settings.max_alternatives - 1}

    @api.post(
        "/translate",
        openapi_extra=fields_of(
            required={"q": q, **languages_known},
            optional={"format": one_of(["text", "html"]), "alternatives": most, "api_key": KEY},
        ),
    )
    async def translate(request: Request) -> Response:
        """Translate a text or several; JSON, form or query string."""
        fields = await read_fields(request)
        caller = state.caller(request, fields.get("api_key"))
        order = _order(state, fields)
        results = await state.translate(request, caller, order)
        return JSONResponse(_translated(fields, order, results))

    @api.post("/detect", openapi_extra=fields_of(required={"q": TEXT}, optional={"api_key": KEY}))
    async def detect(request: Request) -> Response:
        """The language of a text."""
        fields = await read_fields(request)
        caller = state.caller(request, fields.get("api_key"))
        q = _needed(fields, "q")
        (found, *_) = await detections(
            state, request, caller, ("\n".join(texts_of(q, "q", settings.max_texts)),)
        )
        return JSONResponse([_detected(state, found)])

    @api.get("/languages")
    async def languages(request: Request) -> Response:
        """The languages, and what each can be translated to."""
        return Response(known, media_type="application/json")

    @api.post(
        "/translate_file",
        openapi_extra=fields_of(required={"file": bytes, **languages_known}, optional={"api_key": KEY}),
    )
    async def translate_file(request: Request) -> Response:
        """Translate a file; the answer says where it is fetched."""
        async with read_form(request) as form:
            caller = state.caller(request, form.get("api_key"))
            file = uploaded(form)
            source, target = _languages(state, form)
            _check_extension(file.filename or "")
            order = FileOrder(file.filename or "", source, target)
            upload, key = await uploads.begin(caller, order, file.file, file.size or 0)
        try:
            await attended(request, uploads.done(upload))
        except BaseException:
            await uploads.remove(upload)
            raise
        if upload.status in ("error", "cancelled"):
            raise Fault(upload.error_status, "not_translated", upload.error, "file")
        if upload.status != "done":
            raise Fault(503, "shutting_down", "the server is about to end", None, 10)
        base = (settings.public_url or str(request.base_url)).rstrip("/")
        return JSONResponse({"translatedFileUrl": f"{base}/download_file/{upload.id}{key}"})

    @api.get("/download_file/{token}", response_class=Response)
    async def download_file(token: str) -> Response:
        """A translated file; whoever has its address may fetch it, for a while."""
        found = uploads.find(token[:32], token[32:])
        return result_response(uploads, found)

    @api.get("/frontend/settings")
    async def frontend_settings() -> Response:
        """What a user interface should know."""
        source, target = _usual(state)
        return JSONResponse(
            {
                "apiKeys": state.keys is not None,
                "charLimit": settings.max_characters,
                "filesTranslation": True,
                "frontendTimeout": 500,
                "keyRequired": state.keys is not None,
                "language": {
                    "source": {"code": "auto", "name": "Auto Detect"} if source is None else _named(source),
                    "target": _named(target),
                },
                "suggestions": False,
                "supportedFilesFormat": list(EXTENSIONS),
            }
        )

    @api.post(
        "/suggest",
        openapi_extra=fields_of(required={"q": str, "s": str, "source": str, "target": str}, optional={}),
    )
    async def suggest(request: Request) -> Response:
        """Suggestions are not taken here."""
        raise Fault(403, "not_taken", "Suggestions are disabled on this server.")

    @api.get("/health", responses={})
    async def health() -> Response:
        """The process answers."""
        return JSONResponse({"status": "ok"})

    return api


def _order(state: State, fields: Mapping[str, Any]) -> Order:
    q = _needed(fields, "q")
    source, target = _languages(state, fields)
    given = fields.get("format") or "text"
    if given not in ("text", "html"):
        raise invalid(f"{given!s:.40} format is not supported", "format")
    format: Format = "html" if given == "html" else "text"
    count = _alternatives(fields.get("alternatives"), state.settings.max_alternatives - 1)
    texts = texts_of(q, "q", state.settings.max_texts)
    options: dict[str, Any] = {"retry": True}
    if count and format == "text":
        options["n_best"] = count + 1
    return Order(texts, source, (target,), format=format, options=options)


def _languages(state: State, fields: Mapping[str, Any]) -> tuple[Language | None, Language]:
    source, target = _needed(fields, "source"), _needed(fields, "target")
    try:
        return state.registry.find_source(source), state.registry.find(target)
    except Fault as fault:
        wrong = source if fault.param == "source" else target
        raise Fault(400, "unknown_language", f"{wrong!s:.40} is not supported", fault.param) from None


def _needed(fields: Mapping[str, Any], name: str) -> Any:
    value = fields.get(name)
    if value is None or value == "" or value == []:
        raise invalid(f"Invalid request: missing {name} parameter", name)
    return value


def _alternatives(value: object, most: int) -> int:
    if value is None or value == "":
        return 0
    try:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise ValueError
        count = max(0, int(str(value)[:20]))
    except ValueError:
        raise invalid("Invalid request: alternatives parameter is not a number", "alternatives") from None
    if count > most:
        raise invalid(f"Invalid request: alternatives parameter must be <= {most}", "alternatives")
    return count


def _translated(fields: Mapping[str, Any], order: Order, results: list[Result]) -> dict[str, Any]:
    answer: dict[str, Any] = {"translatedText": [result.text for result in results]}
    if order.source is None:
        answer["detectedLanguage"] = [_source(result) for result in results]
    if fields.get("alternatives") not in (None, "", 0, "0"):  # of HTML there are none
        answer["alternatives"] = [list(dict.fromkeys(result.alternatives)) for result in results]
    return answer if isinstance(fields["q"], list) else {name: values[0] for name, values in answer.items()}


def _source(result: Result) -> dict[str, Any]:
    language = result.source or result.target
    confidence = result.detected.confidence if result.detected else 0.0
    return {"confidence": round(100 * confidence, 1), "language": spelled(language, LIBRETRANSLATE)}


def _detected(state: State, found: Any) -> dict[str, Any]:
    if found is None:
        return {"confidence": 0.0, "language": spelled(state.registry.languages[0], LIBRETRANSLATE)}
    confidence = round(100 * found.confidence, 1)
    return {"confidence": confidence, "language": spelled(of_code(found.code), LIBRETRANSLATE)}


def _known(state: State) -> list[dict[str, Any]]:
    """The languages, and what each can be translated to."""
    targets: dict[Language, set[str]] = {language: set() for language in state.registry.languages}
    for translator in state.registry.translators.values():
        codes = {spelled(language, LIBRETRANSLATE) for language in translator.languages}
        for language in translator.languages:
            targets[language] |= codes
    return [{**_named(language), "targets": sorted(codes)} for language, codes in targets.items()]


def _named(language: Language) -> dict[str, str]:
    return {"code": spelled(language, LIBRETRANSLATE), "name": language.name}


def _usual(state: State) -> tuple[Language | None, Language]:
    """Languages that a user interface may begin with."""
    languages = state.registry.languages
    return None, next((each for each in languages if each.nllb == "eng_Latn"), languages[0])


def _check_extension(name: str) -> None:
    if not name.lower().endswith(EXTENSIONS):
        raise invalid("Invalid request: file format not supported", "file")
