"""Installing from the repository: the build hook, and what the scripts install anew."""

import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The hook of hatch_build.py; of Hatchling it needs no more than a base class."""
    name = "hatchling.builders.hooks.plugin.interface"
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:length]), ModuleType(parts[length - 1]))
    monkeypatch.setattr(sys.modules[name], "BuildHookInterface", object, raising=False)
    return runpy.run_path(str(ROOT / "hatch_build.py"))["NativeKernels"]()


@pytest.mark.parametrize("error", [RuntimeError("no C compiler"), OSError(30, "Read-only file system")])
def test_where_the_kernels_cannot_be_built_the_rest_is_installed(
    hook: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    error: Exception,
) -> None:
    def build() -> None:
        raise error

    def unlink(self: Path, missing_ok: bool = False) -> None:
        raise OSError(30, "Read-only file system")

    kernels = {"LIBRARY": tmp_path / "_native.so", "build": build}
    monkeypatch.setattr(runpy, "run_path", lambda path: kernels)
    monkeypatch.setattr(Path, "unlink", unlink)
    data: dict[str, Any] = {"artifacts": []}
    hook.initialize("standard", data)
    monkeypatch.undo()
    assert data == {"artifacts": []}
    assert str(error) in capsys.readouterr().err


def test_built_kernels_make_a_wheel_for_this_kind_of_machine(
    hook: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kernels = {"LIBRARY": tmp_path / "_native.so", "build": lambda: None}
    monkeypatch.setattr(runpy, "run_path", lambda path: kernels)
    data: dict[str, Any] = {"artifacts": []}
    hook.initialize("standard", data)
    assert data["artifacts"] == ["src/dragoman/kernels/_native.so"]
    assert data["tag"].startswith("py3-none-")
    assert not data["tag"].endswith("any")


class Checkout:
    """A small repository with the real scripts/environment, and a pip that only counts."""

    FILES = (
        "pyproject.toml",
        "hatch_build.py",
        "src/dragoman/translator.py",
        "src/dragoman/kernels/build.py",
        "src/dragoman/kernels/csrc/native.c",
    )

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in self.FILES:
            self.write(name, "first")
        self.write(".venv/bin/pip", '#!/bin/sh\necho "$@" >> installed\n')
        (folder / ".venv/bin/pip").chmod(0o755)

    def write(self, name: str, content: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def set_up(self, name: str) -> bool:
        """Whether it installed anything."""
        log = self.folder / "installed"
        log.unlink(missing_ok=True)
        script = f"set -eu; . {ROOT}/scripts/environment; set_up {name} {name}-argument"
        environment = {**os.environ, "PYTHON": sys.executable}
        subprocess.run(["sh", "-c", script], cwd=self.folder, env=environment, check=True)
        if not log.exists():
            return False
        assert log.read_text().endswith(f"{name}-argument\n")
        return True


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.mark.parametrize("name", ["dev", "runtime"])
def test_what_is_up_to_date_is_not_installed_again(checkout: Checkout, name: str) -> None:
    assert checkout.set_up(name)
    checkout.write("src/dragoman/kernels/_native.so", "built")
    checkout.write("src/dragoman/__pycache__/translator.pyc", "compiled")
    assert not checkout.set_up(name)


@pytest.mark.parametrize("name", Checkout.FILES)
def test_a_runtime_is_installed_again_when_anything_changes(checkout: Checkout, name: str) -> None:
    checkout.set_up("runtime")
    checkout.write(name, "second")
    assert checkout.set_up("runtime")


def test_a_runtime_is_installed_again_when_a_file_goes(checkout: Checkout) -> None:
    checkout.set_up("runtime")
    (checkout.folder / "src/dragoman/translator.py").unlink()
    assert checkout.set_up("runtime")


def test_the_tests_set_up_is_installed_again_only_for_what_is_compiled_or_required(
    checkout: Checkout,
) -> None:
    checkout.set_up("dev")
    checkout.write("src/dragoman/translator.py", "second")
    assert not checkout.set_up("dev")
    assert not checkout.set_up("runtime")  # it is the same, editable
    for name in ("src/dragoman/kernels/csrc/native.c", "pyproject.toml"):
        checkout.write(name, "second")
        assert checkout.set_up("dev")


def test_one_set_up_takes_the_place_of_the_other(checkout: Checkout) -> None:
    checkout.set_up("dev")
    checkout.write("pyproject.toml", "second")
    assert checkout.set_up("runtime")
    assert checkout.set_up("dev")
    assert not checkout.set_up("runtime")
