"""The web page, and the description of the APIs for people: files as they are, without any from elsewhere."""

from collections.abc import Mapping
from importlib.resources import files

from fastapi import APIRouter
from starlette.responses import Response

from dragoman.server.faults import Fault
from dragoman.server.state import State

_KINDS: Mapping[str, str] = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


def router(state: State) -> APIRouter:
    """`/`, `/docs` and their files."""
    api = APIRouter(include_in_schema=False)
    folder = files("dragoman.server").joinpath("web")
    pages = {each.name: each.read_bytes() for each in folder.iterdir()}

    def page(name: str) -> Response:
        if name not in pages:
            raise Fault(404, "not_found", "there is no such file")
        kind = _KINDS[name.rpartition(".")[2]]
        return Response(pages[name], media_type=kind, headers={"Cache-Control": "no-cache"})

    @api.api_route("/", methods=["GET", "HEAD"])
    async def index() -> Response:
        return page("index.html")

    @api.get("/docs")
    async def docs() -> Response:
        return page("docs.html")

    @api.get("/web/{name}")
    async def file(name: str) -> Response:
        return page(name)

    return api
