"""The layers of the package, read from its import statements."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dragoman

ROOT = Path(dragoman.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# From the bottom up. A file may import from lower rows, and from its own folder.
ROWS: tuple[frozenset[str], ...] = tuple(
    frozenset(row.split())
    for row in (
        "errors",
        "limits files folders lines database cluster",
        "languages data",
        "kernels",
        "layers store",
        "models text",
        "checkpoints documents",
        "surgery native generation training evaluation",
        "parallel",
        "systems",
        "translation huggingface",
        "jobs",
        "bulk",
        "server",
        "cli",
        "__main__",
    )
)
LEVEL = {name: level for level, row in enumerate(ROWS) for name in row}
# Heavy libraries, and the only places that may import them.
TRANSFORMERS = {"transformers", "peft", "accelerate"}
WITHOUT_TORCH = {
    "errors",
    "files",
    "folders",
    "lines",
    "limits",
    "languages",
    "data",
    "database",
    "documents",
    "kernels",
    "text",
    "evaluation",
    "generation",
    "native",
    "store",
    "models/config.py",
    "models/language_modules.py",
    "models/llama_config.py",
    "models/prompt.py",
    "parallel/shares.py",
    "checkpoints/compressed.py",
    "checkpoints/packed_facts.py",
    "checkpoints/packed_folders.py",
    "checkpoints/packed_saving.py",
    "checkpoints/packed_shards.py",
    "checkpoints/packing.py",
    "checkpoints/part_forms.py",
    "systems/converting.py",
    "bulk",
    "cluster",
    "server",
    "cli",
}


def imports_of(path: Path) -> set[str]:
    """The full names of all modules that a file imports, wherever it does."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            module = node.module or ""
            if module == "dragoman":
                found |= {f"dragoman.{alias.name}" for alias in node.names}
            else:
                found.add(module)
    return found


def place(path: Path) -> str:
    """The file's folder or name directly below the package."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def own_imports(path: Path) -> set[str]:
    """Folders or files directly below the package that a file imports from, its own excepted."""
    names = [name.split(".") for name in imports_of(path) if name.startswith("dragoman.")]
    return {name[1] for name in names} - {place(path)}


def libraries(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports_of(path)}


@pytest.mark.parametrize(
    "path", [p for p in FILES if place(p) != "__init__"], ids=lambda p: str(p.relative_to(ROOT))
)
def test_imports_go_only_downward(path: Path) -> None:
    here = place(path)
    assert here in LEVEL, f"give {here} a row in the table above"
    for there in own_imports(path):
        assert there in LEVEL, f"give {there} a row in the table above"
        assert LEVEL[there] < LEVEL[here], f"{here} is not above {there}"


def test_layers_know_only_torch_the_errors_and_where_they_are_packed_the_kernels() -> None:
    for path in FILES:
        if place(path) == "layers":
            packed = {"kernels"} if path.stem.startswith("packed") else set()
            assert own_imports(path) <= {"errors"} | packed, path
            assert libraries(path) - {"dragoman", "torch", "numpy"} <= sys.stdlib_module_names, path


def test_only_the_transformers_faces_import_transformers() -> None:
    users = {place(path) for path in FILES if libraries(path) & TRANSFORMERS}
    assert users == {"huggingface"}


def test_few_files_import_ray() -> None:
    users = {path.relative_to(ROOT).as_posix() for path in FILES if "ray" in libraries(path)}
    on_ray = {"cluster.py", "bulk/cluster.py"}
    assert users == on_ray | {f"server/{name}.py" for name in ("crew", "deployments", "rollout")}


def test_text_and_tables_never_import_torch() -> None:
    users = [path for path in FILES if "torch" in libraries(path)]
    assert "models" in map(place, users)
    for path in users:
        assert not {place(path), path.relative_to(ROOT).as_posix()} & WITHOUT_TORCH, path


@pytest.mark.parametrize(
    "module",
    [
        "dragoman.generation.engine",
        "dragoman.generation.search",
        "dragoman.kernels.packing",
        "dragoman.kernels.head",
        "dragoman.native.llama",
        "dragoman.native.nllb",
        "dragoman.systems.converting",
        "dragoman.systems.routing",
    ],
)
def test_what_runs_without_torch_loads_none_however_deep(module: str) -> None:
    assert loaded_by(module) == {"numpy"}


def loaded_by(module: str) -> set[str]:
    """Which heavy libraries an interpreter has once it has imported a module."""
    code = f"import sys, {module}; print(*{{'torch', 'transformers', 'numpy'}} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(found.stdout.split())


@pytest.mark.parametrize(
    "module",
    ["dragoman", "dragoman.cli", "dragoman.languages", "dragoman.text.tokenizers", "dragoman.text.sentences"],
)
def test_importing_what_starts_first_loads_nothing_heavy(module: str) -> None:
    assert not loaded_by(module)
