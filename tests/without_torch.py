"""A plugin: `pytest -p tests.without_torch` runs what needs no PyTorch, as if it were not installed."""

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

ABSENT = ("torch", "transformers", "peft", "accelerate")
ROOT = Path(__file__).parents[1]

for name in ABSENT:
    sys.modules[name] = None  # type: ignore[assignment]  # who imports it gets a ModuleNotFoundError


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out what imports them, or imports what does; also a folder whose conftest.py does."""
    file = collection_path / "conftest.py" if collection_path.is_dir() else collection_path
    if file.suffix != ".py" or not file.is_file() or not needs_absent(file):
        return None
    return True


def pytest_sessionfinish(session: pytest.Session) -> None:
    assert all(sys.modules[name] is None for name in ABSENT)


@cache
def needs_absent(path: Path) -> bool:
    """Whether a file imports, at once, what isn't there."""
    names = list(imported(ast.parse(path.read_text(encoding="utf-8"))))
    if any(name.split(".")[0] in ABSENT or name == "safetensors.torch" for name in names):
        return True
    return any(needs_absent(file) for name in names if (file := file_of(name)) is not None and file != path)


def imported(tree: ast.Module) -> set[str]:
    """The names of all that is imported when a file is."""
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def file_of(name: str) -> Path | None:
    """The file of a module of this repository."""
    for root in (ROOT / "src", ROOT):
        place = root.joinpath(*name.split("."))
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                return file
    return None
