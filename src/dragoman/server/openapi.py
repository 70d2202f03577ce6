"""What the OpenAPI document says of bodies that we read ourselves."""

from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Any, get_args

from dragoman.languages import Language

_KINDS: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    bytes: {"type": "string", "format": "binary"},
    list[str]: {"type": "array", "items": {"type": "string"}},
}


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
