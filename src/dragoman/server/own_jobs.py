"""The work on files over our own API, `/v1/jobs`: listed, looked at, cancelled."""

import time
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from dragoman.server.own import ERRORS
from dragoman.server.records import Upload
from dragoman.server.state import State
from dragoman.server.uploads import Uploads

_STATUSES = {"translating": "running", "downloaded": "done", "error": "failed"}
"""What a file's status is called as that of a job, where it is called otherwise."""


class JobFound(BaseModel):
    """A job: the work on one file."""

    id: str = Field(description="The file's own, for `/v1/documents`.")
    kind: Literal["document"]
    status: Literal["queued", "running", "done", "failed", "cancelled"]
    name: str
    source: str | None
    target: str
    progress: float
    seconds_left: int | None
    created: str
    ended: str | None
    error: str | None


class JobsResponse(BaseModel):
    """The jobs of a caller, the latest first."""

    jobs: list[JobFound]


def router(state: State, uploads: Uploads) -> APIRouter:
    """The routes of `/v1/jobs`."""
    api = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=ERRORS)

    @api.get("", response_model=JobsResponse)
    async def listed(request: Request) -> Response:
        """Your jobs: those of your key, or of your address where there are no keys."""
        caller = state.caller(request)
        return JSONResponse({"jobs": [_record(uploads, each) for each in uploads.of(caller)]})

    @api.get("/{id}", response_model=JobFound)
    async def status(request: Request, id: str) -> Response:
        """How far a job is."""
        return JSONResponse(_record(uploads, uploads.owned(state.caller(request), id)))

    @api.post("/{id}/cancel", response_model=JobFound)
    async def cancel(request: Request, id: str) -> Response:
        """Stop a job. It stays in the list; its file is forgotten by `DELETE /v1/documents/{id}`."""
        found = uploads.owned(state.caller(request), id)
        await uploads.cancel(found)
        return JSONResponse(_record(uploads, found))

    return api


def _record(uploads: Uploads, upload: Upload) -> dict[str, Any]:
    progress = uploads.progress(upload)
    return {
        "id": upload.id,
        "kind": "document",
        "status": _STATUSES.get(upload.status, upload.status),
        "name": upload.name,
        "source": upload.spoken or upload.source,
        "target": upload.target,
        "progress": round(progress.share, 3),
        "seconds_left": progress.seconds_left if upload.status == "translating" else None,
        "created": _stamp(upload.began),
        "ended": None if upload.ended is None else _stamp(upload.ended),
        "error": upload.error or None,
    }


def _stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
