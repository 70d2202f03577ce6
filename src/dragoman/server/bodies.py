"""What requests bring: JSON, forms and query strings, as fields by name."""

import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from dragoman.server.faults import Fault, invalid

if TYPE_CHECKING:
    from starlette.datastructures import FormData, UploadFile
    from starlette.requests import Request

_FIELDS = 1024
"""Most fields of a form."""
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


async def read_json(request: "Request") -> dict[str, Any]:
    """The object in a request's body. Raises a Fault if it is none."""
    kind = _kind(request)
    if kind and not (kind == "application/json" or kind.endswith("+json")):
        raise Fault(415, "unsupported_media_type", f"the body must be application/json; it is {kind[:80]}")
    return parse_json(await request.body())


def parse_json(body: bytes) -> dict[str, Any]:
    """An object from JSON: no field twice, no NaN, no halves of characters."""
    try:
        data = json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_constant)
    except UnicodeDecodeError:
        raise invalid("the body is not UTF-8") from None
    except RecursionError:
        raise invalid("the body is nested too deep") from None
    except ValueError as error:
        raise invalid(f"the body is no JSON: {error}") from None
    if not isinstance(data, dict):
        raise invalid("the body must be a JSON object")
    if _SURROGATE.search(body):
        _check_surrogates(data)
    return data


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError("a field is there twice")
        found[name] = value
    return found


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _check_surrogates(data: Any) -> None:
    waiting = [data]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
            raise Fault(400, "invalid_text", "a string has half a character in it (a lone surrogate)")


async def read_fields(request: "Request") -> dict[str, Any]:
    """The fields of a request, however they come: query string, JSON or form; those of the body count.

    A field that a form has several times is a list.
    """
    fields = _grouped(request.query_params.multi_items())
    kind = _kind(request)
    if kind == "application/json" or kind.endswith("+json"):
        return fields | parse_json(await request.body())
    if kind in ("application/x-www-form-urlencoded", "multipart/form-data"):
        async with read_form(request) as form:
            texts = ((name, each) for name, each in form.multi_items() if isinstance(each, str))
            return fields | _grouped(texts)
    if await request.body():
        raise Fault(415, "unsupported_media_type", "the body must be JSON or a form; say so in Content-Type")
    return fields


@contextlib.asynccontextmanager
async def read_form(request: "Request") -> "AsyncIterator[FormData]":
    """A form, perhaps with files. Raises a Fault if it is none."""
    from starlette.exceptions import HTTPException

    try:
        form = await request.form(max_files=4, max_fields=_FIELDS, max_part_size=16 << 20)
    except HTTPException as error:
        raise invalid(f"the form can't be read: {error.detail}") from None
    except ValueError:
        raise invalid("the form can't be read: it is not UTF-8, or broken") from None
    try:
        yield form
    finally:
        await form.close()


def uploaded(form: "FormData") -> "UploadFile":
    """The file of a form. Raises a Fault if there is none."""
    file = form.get("file")
    if file is None or isinstance(file, str):
        raise invalid("the field 'file' is missing, or holds no file", "file")
    if not file.filename:
        raise invalid("the file has no name, which has to tell its format", "file")
    return file


def texts_of(value: object, name: str, most: int) -> tuple[str, ...]:
    """One text or several. Raises a Fault if they are none, or more than `most`."""
    values = value if isinstance(value, list) else [value]
    if len(values) > most:
        raise invalid(f"{name} has {len(values)} texts; at most {most} are taken at once", name)
    if not values or not all(isinstance(each, str) for each in values):
        raise invalid(f"{name} must be a string or a list of strings", name)
    return tuple(values)


def flag(fields: Mapping[str, Any], name: str, default: bool) -> bool:
    """A field that is true or false, as JSON or as a form says it."""
    value = fields.get(name, default)
    known = {True: True, False: False, "1": True, "0": False, "true": True, "false": False}
    if isinstance(value, (bool, str)) and value in known:
        return known[value]
    raise invalid(f"{name} must be true or false", name)


def _grouped(items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in items:
        if name not in fields:
            fields[name] = value
        elif isinstance(fields[name], list):
            fields[name].append(value)
        else:
            fields[name] = [fields[name], value]
    return fields


def _kind(request: "Request") -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
