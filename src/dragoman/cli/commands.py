"""Commands made from dataclasses of options: names, defaults and help come from their fields."""

import ast
import inspect
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand

from dragoman.cli.messages import ending
from dragoman.languages import all_languages

HELP = {"help_option_names": ["-h", "--help"]}

_SPELLINGS = {"source": ("--from", "-f"), "target": ("--to", "-t"), "model": ("--model", "-m")}
_ENVIRONMENT = {"model": "DRAGOMAN_MODEL", "precision": "DRAGOMAN_PRECISION"}
_METAVARS = {"source": "LANGUAGE", "target": "LANGUAGE", "model": "NAME"}
_TITLES = {"LoadOptions": "Model", "TextOptions": "Texts", "GenerationOptions": "Generation"}


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
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for every field of these dataclasses.

    The command gets what the user gave as a dict `chosen`, by field. but: fields to leave out;
    instead: defaults of this command that are not the fields' own; the command puts them in.
    """
    offered = {
        field.name: _parameter(cls, field, instead or {})
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


def _parameter(cls: type, field: "Field[Any]", instead: Mapping[str, object]) -> inspect.Parameter:
    """The option for a field; its value is None unless the user gives one."""
    name = field.name
    default = instead.get(name, None if field.default is MISSING else field.default)
    spelled = _SPELLINGS.get(name, (f"--{name.replace('_', '-')}",))
    option = typer.Option(
        *spelled,
        help=_OTHER_HELP.get(name) or field_docs(cls)[name],
        envvar=_ENVIRONMENT.get(name),
        show_default=False if default in (None, False) else str(default),
        metavar=_METAVARS.get(name),
        autocompletion=_COMPLETIONS.get(name),
        rich_help_panel=_TITLES[cls.__name__],
    )
    hint = get_type_hints(cls)[name] if isinstance(field.type, str) else field.type
    kind = _kind(hint, name)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _kind(hint: Any, name: str) -> Any:
    """The type to read a value as: text if it may be text, or the first simple one of a union."""
    hints = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    found = [one for one in hints if one in _TYPES]
    if not found or not all(one in (*_TYPES, NoneType) or isinstance(one, type) for one in hints):
        raise TypeError(f"there is no option for {name}, whose type is {hint}")
    return str if str in found else found[0]


@cache
def field_docs(cls: type) -> dict[str, str]:
    """The docstring under each field of a dataclass."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    docs: dict[str, str] = {}
    for before, node in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name):
            text = (
                node.value.value
                if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
                else ""
            )
            docs[before.target.id] = " ".join(str(text).split())
    return docs
