"""Commands made from dataclasses of options: names, defaults and help come from their fields."""

import inspect
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand

from dragoman.cli.messages import ending
from dragoman.languages import all_languages
from dragoman.translation.options import field_docs

HELP = {"help_option_names": ["-h", "--help"]}

_SPELLINGS = {"source": ("--from", "-f"), "target": ("--to", "-t"), "model": ("--model", "-m")}
_ENVIRONMENT = {"model": "DRAGOMAN_MODEL", "precision": "DRAGOMAN_PRECISION"}
_METAVARS = {"source": "LANGUAGE", "target": "LANGUAGE", "model": "NAME"}
_TITLES = {
    "LoadOptions": "Model",
    "TextOptions": "Texts",
    "GenerationOptions": "Generation",
    "Settings": "Server",
}


def complete_language(incomplete: str) -> list[tuple[str, str]]:
    """The codes that begin like what was typed, with their names, for a shell's completion."""
    codes = ((language.short_code, language.name) for language in all_languages())
    return [(code, name) for code, name in codes if code.startswith(incomplete)]


_COMPLETIONS = {"source": complete_language, "target": complete_language}
# Where the command line does something else than Python.
_OTHER_HELP = {
    "source": "The language of the texts; each one's is detected if left out, or auto.",
    "target": "The language to translate to; that of your locale if left out, or English.",
    "timeout": "Seconds that all of it may take.",
}
_TYPES = (str, int, float, bool)


class Command(TyperCommand):
    """A command that refuses an option given twice, and ends as all ours do."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        parser: Any = self.make_parser(ctx)
        _, _, order = parser.parse_args(args=list(args))
        for parameter, count in Counter(order).items():
            # The last one would win without a word.
            if count > 1 and parameter.param_type_name == "option" and not parameter.multiple:
                raise typer.BadParameter(f"it was given {count} times; give it once", param=parameter)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with ending():
            return super().invoke(ctx)


def takes(
    *options: type,
    but: tuple[str, ...] = (),
    instead: Mapping[str, object] | None = None,
    reads_environment: bool = False,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for every field of these dataclasses.

    The command gets what the user gave as a dict `chosen`, by field. but: fields to leave out;
    instead: defaults of this command that are not the fields' own; the command puts them in;
    reads_environment: the command does so itself.
    """
    offered = {
        field.name: _parameter(cls, field, instead or {}, reads_environment)
        for cls in options
        for field in fields(cls)
        if field.name not in but
    }

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters.values()
        parameters = [parameter for parameter in own if parameter.name != "chosen"] + [*offered.values()]

        def run(**arguments: Any) -> None:
            chosen = {name: arguments.pop(name) for name in offered}
            command(**arguments, chosen={name: value for name, value in chosen.items() if value is not None})

        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def pick(chosen: Mapping[str, Any], options: type) -> dict[str, Any]:
    """What was chosen of one dataclass's fields."""
    return {field.name: chosen[field.name] for field in fields(options) if field.name in chosen}


def _parameter(
    cls: type, field: "Field[Any]", instead: Mapping[str, object], reads_environment: bool
) -> inspect.Parameter:
    """The option for a field; its value is None unless the user gives one."""
    name = field.name
    default = instead.get(name, None if field.default is MISSING else field.default)
    spelled = _SPELLINGS.get(name, (f"--{name.replace('_', '-')}",))
    if default is True:
        spelled = (f"{spelled[0]}/--no-{spelled[0][2:]}",)
    option = typer.Option(
        *spelled,
        help=_OTHER_HELP.get(name) or field_docs(cls)[name],
        envvar=None if reads_environment else _ENVIRONMENT.get(name),
        show_default=_shown(default),
        metavar=_METAVARS.get(name),
        autocompletion=_COMPLETIONS.get(name),
        rich_help_panel=_TITLES[cls.__name__],
    )
    hint = get_type_hints(cls)[name] if isinstance(field.type, str) else field.type
    kind = _kind(hint, name)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _shown(default: object) -> str | bool:
    """A default as the help shows it; False for one that it doesn't."""
    if isinstance(default, tuple):
        return ", ".join(default) or False
    return False if default in (None, False, True) else str(default)


def _kind(hint: Any, name: str) -> Any:
    """The type to read a value as: text if it may be text, or the first simple one of a union."""
    hints = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if hints == (tuple[str, ...],):
        return list[str]
    if hints == (Path, NoneType):
        return Path
    found = [one for one in hints if one in _TYPES]
    if not found or not all(one in (*_TYPES, NoneType) or isinstance(one, type) for one in hints):
        raise TypeError(f"there is no option for {name}, whose type is {hint}")
    return str if str in found else found[0]
