"""Building and finding the kernels."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from dragoman.errors import InvalidOption
from dragoman.kernels import build, library


def test_a_machine_without_a_compiler_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(RuntimeError, match="no C compiler"):
        build.build(tmp_path / "_native.so")


@pytest.mark.skipif(build.compiler() is None, reason="there is no C compiler here")
def test_what_is_built_can_be_loaded(tmp_path: Path) -> None:
    made = build.build(tmp_path / "_native.so")
    assert "plain" in library._possible(ctypes.CDLL(str(made)))
    assert [path.name for path in tmp_path.iterdir()] == ["_native.so"]


@pytest.mark.skipif(build.compiler() is None, reason="there is no C compiler here")
def test_a_failing_compilation_tells_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "COMMON", ("--no-such-flag",))
    with pytest.raises(RuntimeError, match="no-such-flag"):
        build.build(tmp_path / "_native.so")


def test_a_missing_or_broken_library_leaves_the_work_to_pytorch(tmp_path: Path) -> None:
    assert library._load(tmp_path / "none.so") is None
    (tmp_path / "broken.so").write_text("not a library")
    assert library._load(tmp_path / "broken.so") is None


def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    library.kernels.cache_clear()
    monkeypatch.setenv(library.SWITCH, "torch")
    assert library.kernels() is None
    library.kernels.cache_clear()
    monkeypatch.setenv(library.SWITCH, "sse9")
    with pytest.raises(InvalidOption, match=r"'sse9'; it must be one of vnni, avx512, avx2, plain or torch"):
        library.kernels()
    monkeypatch.undo()
    library.kernels.cache_clear()


def test_building_needs_nothing_of_the_package() -> None:
    code = f"import runpy, sys; runpy.run_path({str(build.__file__)!r}); print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
