"""What `import dragoman` shows, to people, programs and type checkers."""

import ast
import subprocess
import sys
from importlib import resources
from inspect import getmembers, isclass
from pathlib import Path

import pytest

import dragoman
from dragoman import errors


def test_each_name_is_there_and_shown() -> None:
    for name in dragoman.__all__:
        assert getattr(dragoman, name).__name__ == name
        assert name in dir(dragoman)


def test_nothing_of_the_machinery_is_shown() -> None:
    public = {name for name in dir(dragoman) if not name.startswith("_")}
    assert public == set(dragoman.__all__)


def test_all_errors_are_in_the_package() -> None:
    raised = {name for name, each in getmembers(errors, isclass) if each.__module__ == errors.__name__}
    assert raised
    assert raised <= set(dragoman.__all__)


def test_a_name_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'Translater'.*Translator"):
        dragoman.Translater  # noqa: B018


def test_importing_the_package_loads_neither_torch_nor_numpy() -> None:
    program = "import sys, dragoman; print({'torch', 'numpy', 'transformers'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"


def test_the_package_says_that_it_is_typed() -> None:
    assert resources.files("dragoman").joinpath("py.typed").is_file()


def test_type_checkers_are_shown_the_same_homes_and_no_function_that_has_every_name() -> None:
    tree = ast.parse(Path(dragoman.__file__).read_text(encoding="utf-8"))
    branches = [node for node in tree.body if isinstance(node, ast.If)]
    shown = {
        alias.name: node.module
        for branch in branches
        for node in branch.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert shown == dragoman._HOMES
    assert not [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "__getattr__"]
