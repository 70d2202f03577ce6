"""Reading TOML into dataclasses: unknown keys and wrong types are refused with what is possible."""

import dataclasses
import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from dragoman.errors import InvalidOption

Settings = TypeVar("Settings")

_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false", tuple: "a list"}


def read_toml(path: str | Path) -> dict[str, Any]:
    """The file's tables; InvalidOption if it can't be read or is no TOML."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidOption(f"{path} can't be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidOption(f"{path} is no TOML file: {error}") from None


def table(where: str, kind: type[Settings], found: object, but: Iterable[str] = ()) -> Settings:
    """A table of a file as a dataclass whose fields are its keys; lists become tuples.

    where: what errors call the table, as in "run.toml: lora."; but: fields that are no keys. InvalidOption
    for a key that isn't a field, a value of another type, and a field without default that is missing.
    """
    if not isinstance(found, Mapping):
        raise InvalidOption(f"{where.rstrip('.: ')} is {found!r}; it must be a table of settings")
    fields = [field for field in dataclasses.fields(kind) if field.name not in set(but)]  # type: ignore[arg-type]
    check_keys(where, found, [field.name for field in fields])
    hints = get_type_hints(kind)
    values = {name: _value(f"{where}{name}", hints[name], value) for name, value in found.items()}
    missing = [
        field.name
        for field in fields
        if field.default is field.default_factory is dataclasses.MISSING and field.name not in values
    ]
    if missing:
        raise InvalidOption(f"{where}{missing[0]} is missing; give it")
    return kind(**values)


def tables(where: str, kind: type[Settings], found: object) -> list[Settings]:
    """A list of tables, each as `table` makes it."""
    if not isinstance(found, list):
        raise InvalidOption(f"{where.rstrip('.: ')} is {found!r}; it must be a list of tables")
    return [table(where, kind, row) for row in found]


def check_keys(where: str, found: Iterable[str], known: Iterable[str]) -> None:
    """InvalidOption for a key that isn't known, with the nearest one and all that are."""
    names = sorted(known)
    for key in found:
        if key not in names:
            near = difflib.get_close_matches(key, names, 1)
            meant = f"did you mean {near[0]}? It" if near else "it"
            raise InvalidOption(f"{where}{key} is an unknown setting; {meant} may have {', '.join(names)}")


def one_of(where: str, value: str, choices: Iterable[str]) -> None:
    """InvalidOption if a value isn't one of these."""
    known = tuple(choices)
    if value not in known:
        raise InvalidOption(f"{where} is {value!r}; it must be one of {', '.join(map(repr, known))}")


def _value(where: str, hint: Any, value: Any) -> Any:
    """The value as the field holds it; InvalidOption if it is of another type."""
    kinds = [kind for kind in _kinds(hint) if kind is not NoneType]
    if dict in kinds and isinstance(value, dict):
        of = [part for part in get_args(hint)[1:] if part is not Any]
        return {key: _value(f"{where}.{key}", of[0], one) if of else one for key, one in value.items()}
    if tuple in kinds and isinstance(value, list):
        return tuple(_items(where, get_args(hint), value))
    # TOML's whole numbers will do where a number is asked for; its true and false are none.
    fits = any(type(value) is kind or (kind is float and type(value) is int) for kind in kinds)
    if not fits:
        named = " or ".join(_NAMES[kind] for kind in kinds if kind in _NAMES)
        raise InvalidOption(f"{where} is {value!r}; it must be {named or 'a table'}")
    return value


def _items(where: str, hints: tuple[Any, ...], values: list[Any]) -> Iterator[Any]:
    """The items of a list, each of its type; `hints` are the arguments of a tuple's type."""
    if ... not in hints and len(values) != len(hints):
        raise InvalidOption(f"{where} is {values!r}; it must have {len(hints)} items")
    for at, value in enumerate(values):
        yield _value(f"{where}[{at}]", hints[0] if ... in hints else hints[at], value)


def _kinds(hint: Any) -> list[Any]:
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return [get_origin(part) or part for part in parts]


def changes(before: Mapping[str, Any], now: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """What is set otherwise now, such as "updates 30 -> 40"; what one side doesn't know is passed over."""
    for name in sorted(before.keys() & now.keys()):
        yield from _changed(f"{where}{name}", before[name], now[name])


def _changed(where: str, before: Any, now: Any) -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping) and before.keys() & now.keys():
        yield from changes(before, now, f"{where}.")
    elif _are_tables(before) and _are_tables(now) and len(before) == len(now):
        for one, other in zip(before, now, strict=True):
            yield from changes(one, other, f"{where}.{other.get('name', '')}.".replace("..", "."))
    elif before != now:
        is_long = any(isinstance(value, (Mapping, tuple)) for value in (before, now))
        yield f"{where}" if is_long else f"{where} {before!r} -> {now!r}"


def _are_tables(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and all(isinstance(row, Mapping) for row in value)
