"""What the OpenAPI document says of bodies that we read ourselves."""

from collections.abc import Mapping
from types import UnionType
from typing import Any, get_args

_KINDS: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    bytes: {"type": "string", "format": "binary"},
    list[str]: {"type": "array", "items": {"type": "string"}},
}


def fields_of(required: Mapping[str, Any], optional: Mapping[str, Any]) -> dict[str, Any]:
    """A body with these fields, as JSON or as a form; with a file as a form of several parts."""
    schema = {
        "type": "object",
        "required": list(required),
        "properties": {name: _schema(kind) for name, kind in {**required, **optional}.items()},
    }
    is_upload = bytes in required.values()
    kinds = (
        ["multipart/form-data"] if is_upload else ["application/json", "application/x-www-form-urlencoded"]
    )
    content = {kind: {"schema": schema} for kind in kinds}
    return {"requestBody": {"required": True, "content": content}}


def _schema(kind: Any) -> dict[str, Any]:
    if isinstance(kind, UnionType):
        return {"anyOf": [_schema(each) for each in get_args(kind)]}
    return _KINDS[kind]
