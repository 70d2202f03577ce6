"""Installing from the repository: the build hook, and what the scripts install anew."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement

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
    monkeypatch.setenv("DRAGOMAN_PLATFORM", "manylinux_2_17_aarch64")
    hook.initialize("standard", data)
    assert data["tag"] == "py3-none-manylinux_2_17_aarch64"


class Checkout:
    """A small repository with the real scripts/environment, and a pip that only counts."""

    FILES = (
        "pyproject.toml",
        "constraints.txt",
        "hatch_build.py",
        "src/dragoman/languages.py",
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
        calls = log.read_text().splitlines()
        assert calls[-1].endswith(f"{name}-argument")
        assert all("--constraint constraints.txt" in call for call in calls)
        return True


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.mark.parametrize("name", ["dev", "runtime"])
def test_what_is_up_to_date_is_not_installed_again(checkout: Checkout, name: str) -> None:
    assert checkout.set_up(name)
    checkout.write("src/dragoman/kernels/_native.so", "built")
    checkout.write("src/dragoman/__pycache__/languages.pyc", "compiled")
    assert not checkout.set_up(name)


@pytest.mark.parametrize("name", Checkout.FILES)
def test_a_runtime_is_installed_again_when_anything_changes(checkout: Checkout, name: str) -> None:
    checkout.set_up("runtime")
    checkout.write(name, "second")
    assert checkout.set_up("runtime")


def test_a_runtime_is_installed_again_when_a_file_goes(checkout: Checkout) -> None:
    checkout.set_up("runtime")
    (checkout.folder / "src/dragoman/languages.py").unlink()
    assert checkout.set_up("runtime")


def test_the_tests_set_up_is_installed_again_only_for_what_is_compiled_or_required(
    checkout: Checkout,
) -> None:
    checkout.set_up("dev")
    checkout.write("src/dragoman/languages.py", "second")
    assert not checkout.set_up("dev")
    assert not checkout.set_up("runtime")  # it is the same, editable
    for name in ("src/dragoman/kernels/csrc/native.c", "pyproject.toml", "constraints.txt"):
        checkout.write(name, "second")
        assert checkout.set_up("dev")


def test_one_set_up_takes_the_place_of_the_other(checkout: Checkout) -> None:
    checkout.set_up("dev")
    checkout.write("pyproject.toml", "second")
    assert checkout.set_up("runtime")
    assert checkout.set_up("dev")
    assert not checkout.set_up("runtime")


PINNED = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]


def requirements(*options: str) -> dict[str, Requirement]:
    """What scripts/requirements prints, by name."""
    command = [sys.executable, str(ROOT / "scripts" / "requirements"), *options]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return {requirement.name: requirement for requirement in map(Requirement, lines)}


def test_the_pinned_releases_are_names_and_numbers_and_nothing_else() -> None:
    assert len(PINNED) > 50
    for line in PINNED:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line), line


def test_each_requirement_is_pinned_to_a_release_in_its_range() -> None:
    pinned = dict(line.split("==") for line in PINNED)
    for name, requirement in requirements().items():
        assert requirement.specifier.contains(pinned[name]), requirement


def test_the_newest_releases_are_tried_beyond_the_ranges_and_not_below_them() -> None:
    declared, opened = requirements(), requirements("--newest")
    assert declared.keys() == opened.keys()
    for name, requirement in opened.items():
        assert requirement.specifier.contains("9999")
        floors = {s.version for s in declared[name].specifier if s.operator == ">="}
        assert {s.version for s in requirement.specifier} == floors


def test_a_cap_inside_a_list_of_conditions_is_opened() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "requirements"))
    assert script["CAP"].sub("", "sentencex>=1.0.26,<2").rstrip(",") == "sentencex>=1.0.26"
