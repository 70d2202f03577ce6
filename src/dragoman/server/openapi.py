"""What the OpenAPI document says of bodies that we read ourselves."""

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from types import UnionType
from typing import Any, get_args

from fastapi import FastAPI
from pydantic import BaseModel

from dragoman.languages import Language

_KINDS: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    bytes: {"type": "string", "format": "binary"},
    list[str]: {"type": "array", "items": {"type": "string"}},
}


_COMPONENTS = "#/components/schemas/{model}"

TEXT = {"type": "string", "minLength": 1}
TEXTS = {"type": "array", "minItems": 1, "items": {"type": "string"}}
KEY = {"type": ["string", "null"]}


def one_of(values: Iterable[str]) -> dict[str, Any]:
    """One of these strings."""
    return {"type": "string", "enum": sorted(values)}


def spellings(languages: Iterable[Language], *more: str) -> dict[str, Any]:
    """The codes of languages; any other spelling that `dragoman languages` takes is understood too."""
    codes = {code for language in languages for code in (language.nllb, language.short_code)}
    return one_of({*codes, *more})


def errors(model: type[BaseModel], statuses: Iterable[int]) -> dict[int | str, dict[str, Any]]:
    """Answers of one shape with these statuses, which `described` knows.

    To FastAPI they are no models: hundreds of responses of all routes would take longer to prepare than the
    embedded model takes to load.
    """
    schema = {"$ref": _COMPONENTS.format(model=model.__name__)}
    content = {"application/json": {"schema": schema}}
    said = {each.value: each.phrase for each in HTTPStatus} | {456: "Quota Exceeded"}
    return {status: {"description": said[status], "content": content} for status in statuses}


def described(app: FastAPI, shapes: Iterable[type[BaseModel]]) -> bytes:
    """The OpenAPI document of an application, with the shapes of its errors."""
    document = app.openapi()
    schemas = document["components"]["schemas"]
    for shape in shapes:
        schema = shape.model_json_schema(ref_template=_COMPONENTS)
        schemas |= schema.pop("$defs", {})
        schemas[shape.__name__] = schema
    return json.dumps(document, ensure_ascii=False).encode()


def fields_of(
    required: Mapping[str, Any], optional: Mapping[str, Any], closed: bool = False
) -> dict[str, Any]:
    """A body with these fields, as JSON or as a form; with a file as a form of several parts.

    closed: whether it may have no others.
    """
    schema = {
        "type": "object",
        "required": list(required),
        "properties": {name: _schema(kind) for name, kind in {**required, **optional}.items()},
        "additionalProperties": not closed,
    }
    is_upload = bytes in required.values()
    kinds = (
        ["multipart/form-data"] if is_upload else ["application/json", "application/x-www-form-urlencoded"]
    )
    content = {kind: {"schema": schema} for kind in kinds}
    return {"requestBody": {"required": True, "content": content}}


def _schema(kind: Any) -> dict[str, Any]:
    if isinstance(kind, dict):
        return kind
    if isinstance(kind, UnionType):
        return {"anyOf": [_schema(each) for each in get_args(kind)]}
    return _KINDS[kind]
