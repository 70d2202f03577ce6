"""DeepL's API, version 2: `/v2/translate`, `/v2/document`, `/v2/languages`, `/v2/usage`."""

import asyncio
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from dragoman.languages import Language
from dragoman.server.bodies import flag, read_fields, read_form, texts_of, uploaded
from dragoman.server.codes import deepl_source, deepl_targets
from dragoman.server.deepl_glossaries import add_routes
from dragoman.server.documents import file_response
from dragoman.server.faults import Fault, invalid
from dragoman.server.filework import FileOrder
from dragoman.server.fragments import XmlRules
from dragoman.server.openapi import TEXTS, errors, fields_of, one_of
from dragoman.server.orders import Format, Order, Result
from dragoman.server.routes import Direct
from dragoman.server.state import Caller, State, key_in_headers
from dragoman.server.uploads import Uploads

_UNLIMITED = 10**12
"""What DeepL says of accounts without a limit."""
_FORMALITIES = ("default", "prefer_more", "prefer_less")
_MODELS = ("quality_optimized", "latency_optimized", "prefer_quality_optimized")
_TAGS = ("ignore_tags", "splitting_tags", "non_splitting_tags")
_OPTIONAL: Mapping[str, Any] = {
    "context": str,
    "formality": one_of(_FORMALITIES),
    "split_sentences": one_of(["0", "1", "nonewlines"]),
    "preserve_formatting": bool,
    "model_type": one_of(_MODELS),
    "tag_handling": one_of(["xml", "html"]),
    "tag_handling_version": one_of(["v1", "v2"]),
    "outline_detection": bool,
    **dict.fromkeys(_TAGS, list[str]),
    "show_billed_characters": bool,
    "enable_beta_languages": bool,
    "glossary_id": str,
    "glossary_ids": list[str],
}
"""Fields that may come; any other is refused, as it would ask for what isn't done."""
_OF_DOCUMENTS = ("source_lang", "filename", "formality", "output_format", "glossary_id", "glossary_ids")


class DeepLProblem(BaseModel):
    """What went wrong."""

    message: str
    code: str | None = None


ERRORS = errors(DeepLProblem, (400, 403, 404, 405, 408, 413, 415, 421, 429, 431, 456, 500, 503, 504))


def answer(fault: Fault) -> Response:
    """A fault in DeepL's shape."""
    status = 403 if fault.status == 401 else fault.status
    return JSONResponse({"message": fault.message, "code": fault.code}, status, headers=fault.headers)


def router(state: State, uploads: Uploads) -> APIRouter:
    """The routes of DeepL."""
    api = APIRouter(prefix="/v2", tags=["deepl"], responses=ERRORS, route_class=Direct)
    languages_known = state.registry.languages
    sources = one_of({deepl_source(language) for language in languages_known})
    targets = one_of({code for language in languages_known for code, _ in deepl_targets(language)})
    optional = {"source_lang": sources, **_OPTIONAL}

    @api.post(
        "/translate", openapi_extra=fields_of({"text": TEXTS, "target_lang": targets}, optional, closed=True)
    )
    async def translate(request: Request) -> Response:
        """Translate texts; JSON or form."""
        fields = await read_fields(request)
        caller = state.caller(request, fields.pop("auth_key", None))
        order = await asyncio.to_thread(_order, state, caller, fields)  # glossaries take their time
        bills = flag(fields, "show_billed_characters", False)
        results = await state.translate(request, caller, order)
        return JSONResponse({"translations": [_translation(order, result, bills) for result in results]})

    kinds = {"name": "type", "in": "query", "schema": one_of(["source", "target"])}

    @api.get("/languages", openapi_extra={"parameters": [kinds]})
    async def languages(request: Request) -> Response:
        """The languages, as sources or as targets (`type=target`)."""
        fields = await read_fields(request)
        state.caller(request, fields.get("auth_key"))
        kind = fields.get("type", "source")
        if kind not in ("source", "target"):
            raise invalid("Value for 'type' not supported.", "type")
        return JSONResponse(_sources(state) if kind == "source" else _targets(state))

    @api.get("/usage")
    async def usage(request: Request) -> Response:
        """Characters of this month, of the key's own."""
        caller = state.caller(request)
        limit = caller.key.characters_per_month if caller.key else None
        count = state.meter.used(caller.key)
        return JSONResponse({"character_count": count, "character_limit": limit or _UNLIMITED})

    @api.post(
        "/document",
        openapi_extra=fields_of(
            {"file": bytes, "target_lang": targets},
            {**dict.fromkeys(_OF_DOCUMENTS, str), "source_lang": sources},
            closed=True,
        ),
    )
    async def upload(request: Request) -> Response:
        """Hand in a file; the answer names it, and has the key with which it is asked for."""
        if key_in_headers(request):
            state.caller(request)  # before the file is read: it may be for nothing
        async with read_form(request) as form:
            caller = state.caller(request, form.get("auth_key"))
            _refuse_others(form, ("file", "target_lang", "auth_key", *_OF_DOCUMENTS))
            file = uploaded(form)
            source, target = _languages(state, form)
            _check_formality(form)
            name = str(form.get("filename") or file.filename)
            _check_output(name, form.get("output_format"))
            glossaries = _glossary_ids(state, caller, form, source, target)
            order = FileOrder(name, source, target, glossaries=glossaries)
            begun, key = await uploads.begin(caller, order, file.file, file.size or 0)
        return JSONResponse({"document_id": begun.id, "document_key": key})

    @api.post("/document/{id}", openapi_extra=fields_of({"document_key": str}, {}))
    async def status(request: Request, id: str) -> Response:
        """How far a file is."""
        fields = await read_fields(request)
        state.caller(request, fields.get("auth_key"))
        found = uploads.find(id, fields.get("document_key"))
        status = "error" if found.status == "cancelled" else found.status
        answer: dict[str, Any] = {"document_id": found.id, "status": status}
        left = uploads.progress(found).seconds_left
        if found.status == "translating" and left is not None:
            answer["seconds_remaining"] = left
        if found.status in ("done", "downloaded"):
            answer["billed_characters"] = found.characters
        if status == "error":
            answer["error_message"] = found.error
        return JSONResponse(answer)

    @api.post(
        "/document/{id}/result", response_class=Response, openapi_extra=fields_of({"document_key": str}, {})
    )
    async def result(request: Request, id: str) -> Response:
        """A translated file, once."""
        fields = await read_fields(request)
        state.caller(request, fields.get("auth_key"))
        found = uploads.find(id, fields.get("document_key"))
        if found.status == "downloaded":
            raise Fault(503, "already_downloaded", "Document already downloaded")
        if found.status != "done":
            left = uploads.progress(found).seconds_left
            raise Fault(503, "not_ready", "Document translation is not done", None, left or 5)
        uploads.fetched(found)
        return file_response(uploads, found)

    add_routes(api, state)
    return api


# ---- what is asked for -------------------------------------------------------------------------------------


def _order(state: State, caller: Caller, fields: Mapping[str, Any]) -> Order:
    _refuse_others(fields, ("text", "target_lang", "source_lang", *_OPTIONAL))
    fields = {name: value for name, value in fields.items() if value is not None}
    if fields.get("text") in (None, []):
        raise invalid("Parameter 'text' not specified.", "text")
    source, target = _languages(state, fields)
    _check_formality(fields)
    _one_of(fields, "model_type", _MODELS)
    _one_of(fields, "tag_handling_version", ("v1", "v2"))
    flag(fields, "preserve_formatting", False)
    flag(fields, "enable_beta_languages", False)
    if not isinstance(fields.get("context", ""), str):
        raise invalid("Value for 'context' not supported.", "context")
    format: Format = _one_of(fields, "tag_handling", ("xml", "html")) or "text"
    splits = str(fields.get("split_sentences") or ("1" if format == "text" else "nonewlines"))
    if splits not in ("0", "1", "nonewlines"):
        raise invalid("Value for 'split_sentences' not supported.", "split_sentences")
    options: dict[str, Any] = {"retry": True, "one_sentence": splits == "0"}
    if ids := _glossary_ids(state, caller, fields, source, target):
        options["glossary"] = state.glossaries.together(caller.keeper, ids)
    return Order(
        texts_of(fields["text"], "text", state.settings.max_texts),
        source,
        (target,),
        format=format,
        rules=_rules(fields, format, splits == "1"),
        line_breaks=splits == "1",
        options=options,
    )


def _rules(fields: Mapping[str, Any], format: Format, line_breaks: bool) -> XmlRules:
    ignored, splitting, inline = (_names(fields, name) for name in _TAGS)
    outline = flag(fields, "outline_detection", True)
    if format != "xml" and (ignored or splitting or inline or not outline):
        raise invalid(
            "ignore_tags, splitting_tags, non_splitting_tags and outline_detection are for tag_handling=xml"
        )
    return XmlRules(ignored, splitting, inline, outline, line_breaks)


def _names(fields: Mapping[str, Any], name: str) -> frozenset[str]:
    """Names of tags, as a list or with commas between them."""
    given = fields.get(name, [])
    values = given if isinstance(given, list) else [given]
    if not all(isinstance(value, str) for value in values):
        raise invalid(f"Value for '{name}' not supported.", name)
    return frozenset(filter(None, (part.strip() for value in values for part in value.split(","))))


def _languages(state: State, fields: Mapping[str, Any]) -> tuple[Language | None, Language]:
    wanted = fields.get("target_lang")
    if wanted in (None, ""):
        raise invalid("Parameter 'target_lang' not specified.", "target_lang")
    try:
        source = state.registry.find_source(fields.get("source_lang") or None, "source_lang")
        return source, state.registry.find(wanted, "target_lang")
    except Fault as fault:
        raise Fault(
            400, "unknown_language", f"Value for '{fault.param}' not supported.", fault.param
        ) from None


def _glossary_ids(
    state: State, caller: Caller, fields: Mapping[str, Any], source: Language | None, target: Language
) -> tuple[str, ...]:
    """The glossaries that a request names; a document has theirs in one field, with commas between them."""
    given = fields.get("glossary_ids") or fields.get("glossary_id") or []
    ids = given.split(",") if isinstance(given, str) else given
    if not isinstance(ids, list) or len(ids) > 5 or not all(isinstance(id, str) for id in ids):
        raise invalid("Value for 'glossary_ids' not supported.", "glossary_ids")
    if ids and source is None:
        raise invalid("Use of a glossary requires the source_lang parameter to be specified", "source_lang")
    for id in ids:
        kept = state.glossaries.find(caller.keeper, id.strip())
        if source is not None and (kept.source, kept.target) != (source.nllb, target.nllb):
            raise invalid("source_lang and target_lang must match the glossary", "glossary_id")
    return tuple(id.strip() for id in ids)


def _check_formality(fields: Mapping[str, Any]) -> None:
    given = fields.get("formality")
    if given in ("more", "less"):
        raise invalid("'formality' is not supported for given 'target_lang'.", "formality")
    _one_of(fields, "formality", _FORMALITIES)


def _check_output(name: str, wanted: object) -> None:
    if wanted and str(wanted).lower().lstrip(".") != name.rpartition(".")[2].lower():
        raise invalid("'output_format' must be that of the file.", "output_format")


def _one_of(fields: Mapping[str, Any], name: str, known: tuple[str, ...]) -> Any:
    value = fields.get(name)
    if value in (None, ""):
        return None
    if value not in known:
        raise invalid(f"Value for '{name}' not supported.", name)
    return value


def _refuse_others(fields: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in fields:
        if name not in known:
            raise invalid(f"Parameter '{name[:40]}' is not supported by this server.", name[:40])


# ---- what is answered --------------------------------------------------------------------------------------


def _translation(order: Order, result: Result, bills: bool) -> dict[str, Any]:
    source = order.source or result.source or result.target
    answer: dict[str, Any] = {"detected_source_language": deepl_source(source), "text": result.text}
    if bills:
        answer["billed_characters"] = len(order.texts[result.index])
    return answer


def _sources(state: State) -> list[dict[str, str]]:
    found = {deepl_source(language): language.name for language in reversed(state.registry.languages)}
    names = {"ZH": "Chinese"}
    return [{"language": code, "name": names.get(code, name)} for code, name in sorted(found.items())]


def _targets(state: State) -> list[dict[str, Any]]:
    found = dict(pair for language in state.registry.languages for pair in deepl_targets(language))
    return [
        {"language": code, "name": name, "supports_formality": False} for code, name in sorted(found.items())
    ]
