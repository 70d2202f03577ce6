"""Files over our own API, `/v1/documents`: handed in, asked for, fetched, cancelled."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import FileResponse, JSONResponse, Response

from dragoman.documents.formats import FORMATS
from dragoman.server.bodies import read_form, uploaded
from dragoman.server.faults import Fault, invalid
from dragoman.server.filework import EXTENSIONS, FileOrder
from dragoman.server.openapi import fields_of, one_of, spellings
from dragoman.server.own import ERRORS
from dragoman.server.records import Status, Upload
from dragoman.server.state import State
from dragoman.server.uploads import Uploads

_FIELDS = ("file", "target", "source", "model", "glossary")


class DocumentFound(BaseModel):
    """A file and how far it is."""

    id: str
    name: str
    status: Status
    progress: float
    seconds_left: int | None
    source: str | None
    target: str
    model: str | None
    characters: int
    segments: int
    flagged: int
    error: str | None


class DocumentsResponse(BaseModel):
    """The files of a caller, the latest first."""

    documents: list[DocumentFound]


class FormatFound(BaseModel):
    """A format of files."""

    name: str
    title: str
    extensions: list[str]


class FormatsResponse(BaseModel):
    """What files may be."""

    formats: list[FormatFound]


def router(state: State, uploads: Uploads) -> APIRouter:
    """The routes of `/v1/documents`."""
    api = APIRouter(prefix="/v1/documents", tags=["documents"], responses=ERRORS)
    languages, models = state.registry.languages, one_of(state.registry.translators)

    @api.post(
        "",
        status_code=202,
        response_model=DocumentFound,
        openapi_extra=fields_of(
            {"file": bytes, "target": spellings(languages)},
            {"source": spellings(languages, "auto"), "model": models, "glossary": str},
            closed=True,
        ),
    )
    async def begin(request: Request) -> Response:
        """Hand in a file. It is translated in the background, and goes on after a restart of the server."""
        caller = state.caller(request)  # before the file is read: it would be for nothing
        async with read_form(request) as form:
            for name in form:
                if name not in _FIELDS:
                    raise invalid(f"there is no field {name[:40]!r}; the fields are {', '.join(_FIELDS)}")
            file = uploaded(form)
            source = state.registry.find_source(form.get("source") or None)
            target = state.registry.find(form.get("target"))
            model = str(form["model"]) if form.get("model") else None
            state.registry.choose(model, source, target)
            if not (file.filename or "").lower().endswith(EXTENSIONS):
                raise Fault(400, "unknown_format", f"files may end in {', '.join(EXTENSIONS)}", "file")
            glossaries = (str(form["glossary"]),) if form.get("glossary") else ()
            for id in glossaries:
                state.glossaries.find(caller.keeper, id)
            order = FileOrder(file.filename or "", source, target, model, glossaries)
            upload, _ = await uploads.begin(caller, order, file.file, file.size or 0)
        location = f"/v1/documents/{upload.id}"
        return JSONResponse(_record(uploads, upload), 202, headers={"Location": location})

    @api.get("", response_model=DocumentsResponse)
    async def listed(request: Request) -> Response:
        """Your files: those of your key, or of your address where there are no keys."""
        caller = state.caller(request)
        return JSONResponse({"documents": [_record(uploads, each) for each in uploads.of(caller)]})

    @api.get("/formats", response_model=FormatsResponse)
    async def formats(request: Request) -> Response:
        """What files may be."""
        state.caller(request)
        found = [{"name": f.name, "title": f.title, "extensions": list(f.extensions)} for f in FORMATS]
        return JSONResponse({"formats": found})

    @api.get("/{id}", response_model=DocumentFound)
    async def status(request: Request, id: str) -> Response:
        """How far a file is."""
        return JSONResponse(_record(uploads, uploads.owned(state.caller(request), id)))

    @api.get("/{id}/result", response_class=Response)
    async def result(request: Request, id: str) -> Response:
        """A translated file."""
        found = uploads.owned(state.caller(request), id)
        return result_response(uploads, found)

    @api.delete("/{id}", status_code=204, response_class=Response)
    async def remove(request: Request, id: str) -> Response:
        """Stop the work on a file if there is any, and forget it."""
        await uploads.remove(uploads.owned(state.caller(request), id))
        return Response(status_code=204)

    return api


def result_response(uploads: Uploads, upload: Upload) -> Response:
    """As `file_response`. Raises a Fault if there is no result, not yet or not any more."""
    if upload.status in ("error", "cancelled"):
        raise Fault(404, "not_translated", upload.error, "id")
    if upload.status == "downloaded":
        raise Fault(404, "already_downloaded", "the file has been fetched already", "id")
    if upload.status != "done":
        left = uploads.progress(upload).seconds_left
        raise Fault(409, "not_ready", "the file is not translated yet", "id", left or 2)
    return file_response(uploads, upload)


def file_response(uploads: Uploads, upload: Upload) -> Response:
    """A translated file as something to be saved."""
    path = uploads.output(upload)
    return FileResponse(path, media_type="application/octet-stream", filename=upload.result)


def _record(uploads: Uploads, upload: Upload) -> dict[str, Any]:
    progress = uploads.progress(upload)
    return {
        "id": upload.id,
        "name": upload.name,
        "status": upload.status,
        "progress": round(progress.share, 3),
        "seconds_left": progress.seconds_left if upload.status == "translating" else None,
        "source": upload.spoken or upload.source,
        "target": upload.target,
        "model": upload.model,
        "characters": upload.characters,
        "segments": upload.segments,
        "flagged": upload.flagged,
        "error": upload.error or None,
    }
