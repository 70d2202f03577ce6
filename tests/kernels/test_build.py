"""Building and finding the kernels."""

import ctypes
import platform
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from dragoman.errors import InvalidOption
from dragoman.kernels import build, library

CC = build.compiler()
compiles = pytest.mark.skipif(CC is None, reason="there is no C compiler here")
on_x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="for x86 processors")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="for Linux")

# Stands for native.c.
SMALL = """
#if defined(__AVX512VNNI__)
#define NAME forward_vnni
#elif defined(__AVX512F__)
#define NAME forward_avx512
#elif defined(__AVX2__)
#define NAME forward_avx2
#else
#define NAME forward_plain
#endif
int NAME(void) { return 1; }
"""


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of sources that compile in no time; the library is to be made beside it."""
    folder = tmp_path / "csrc"
    shutil.copytree(build.SOURCES, folder)
    (folder / "native.c").write_text(SMALL)
    monkeypatch.setattr(build, "SOURCES", folder)
    return folder


def wrapper(path: Path, code: str) -> str:
    """A program in Python that stands for a compiler; its arguments are in `args`, the real one in `cc`."""
    lines = f"#!{sys.executable}\nimport subprocess, sys\nargs, cc = sys.argv[1:], {CC!r}\n{code}\n"
    path.write_text(lines)
    path.chmod(0o755)
    return str(path)


def called(made: Path, name: str) -> Any:
    return getattr(ctypes.CDLL(str(made)), name)()


def test_a_machine_without_a_compiler_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(RuntimeError, match="no C compiler"):
        build.build(tmp_path / "_native.so")


@compiles
def test_what_is_built_can_be_loaded(tmp_path: Path) -> None:
    made = build.build(tmp_path / "_native.so")
    loaded = library._load(made)
    assert loaded is not None
    assert "plain" in library._possible(loaded)
    if platform.machine() == "x86_64":
        assert all(hasattr(loaded, f"forward_{name}") for name in build.BUILDS)
    assert [path.name for path in tmp_path.iterdir()] == ["_native.so"]


@compiles
def test_a_failing_compilation_tells_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "COMMON", ("--no-such-flag",))
    with pytest.raises(RuntimeError, match="no-such-flag"):
        build.build(tmp_path / "_native.so")


@compiles
def test_sources_that_do_not_compile_for_any_processor_are_an_error(small: Path, tmp_path: Path) -> None:
    (small / "native.c").write_text("#error no use\n")
    with pytest.raises(RuntimeError, match="no use"):
        build.build(tmp_path / "_native.so")


@compiles
def test_the_compiler_may_be_a_command_with_arguments(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = wrapper(tmp_path / "cache", "sys.exit(subprocess.run(args).returncode)")
    assert CC is not None
    monkeypatch.setenv("CC", f"{cache} {' '.join(CC)} -DUNUSED")
    assert build.compiler() == [cache, *CC, "-DUNUSED"]
    assert build.build(tmp_path / "_native.so").exists()


@compiles
@on_x86
def test_a_kind_of_processor_that_the_compiler_does_not_know_is_left_out(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = "'-mavx512vnni' in args and sys.exit('unrecognized option -mavx512vnni')"
    old = wrapper(tmp_path / "old", f"{refusal}\nsys.exit(subprocess.run([*cc, *args]).returncode)")
    monkeypatch.setenv("CC", old)
    with pytest.warns(RuntimeWarning, match="no kernels for vnni(.|\n)*unrecognized option"):
        made = ctypes.CDLL(str(build.build(tmp_path / "_native.so")))
    assert [name for name in build.BUILDS if hasattr(made, f"forward_{name}")] == ["avx512", "avx2", "plain"]


@compiles
def test_without_threads_the_kernels_work_in_one(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = "'-DDRAGOMAN_PTHREADS' in args and sys.exit('pthread.h: no such file')"
    bare = wrapper(tmp_path / "bare", f"{refusal}\nsys.exit(subprocess.run([*cc, *args]).returncode)")
    monkeypatch.setenv("CC", bare)
    with pytest.warns(RuntimeWarning, match="one thread(.|\n)*no such file"):
        made = build.build(tmp_path / "_native.so")
    assert called(made, "parallel") == 0
    assert library._load(made) is not None


@compiles
def test_with_threads_the_library_says_so(small: Path, tmp_path: Path) -> None:
    assert called(build.build(tmp_path / "_native.so"), "parallel") == 1


def test_a_missing_library_leaves_the_work_to_pytorch(tmp_path: Path) -> None:
    assert library._load(tmp_path / "none.so") is None


def test_a_library_that_cannot_be_loaded_is_told_once_with_what_to_do(tmp_path: Path) -> None:
    broken = tmp_path / "broken.so"
    broken.write_text("not a library")
    with pytest.warns(RuntimeWarning) as told:
        assert [library._load(broken), library._load(broken)] == [None, None]
    (warning,) = told
    for part in ("broken.so", "too short", "python -m dragoman.kernels.build"):
        assert part in str(warning.message)


@compiles
def test_a_library_of_other_sources_is_not_used(small: Path, tmp_path: Path) -> None:
    made = build.build(tmp_path / "_native.so")
    read = library._load.__wrapped__
    assert read(made) is not None
    (small / "native.c").write_text(SMALL + "/* newer */\n")
    with pytest.warns(RuntimeWarning, match="other sources .* python -m dragoman.kernels.build"):
        assert read(made) is None
    (small / "native.c").write_text(SMALL)
    assert read(made) is not None


@compiles
def test_a_library_that_sees_structures_otherwise_is_not_used(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Norm(ctypes.Structure):
        _fields_ = (*library.SHARED[1]._fields_, ("more", ctypes.c_int64))

    made = build.build(tmp_path / "_native.so")
    monkeypatch.setattr(library, "SHARED", (library.SHARED[0], Norm, *library.SHARED[2:]))
    with pytest.warns(RuntimeWarning, match=r"python -m dragoman\.kernels\.build"):
        assert library._load(made) is None


@on_linux
@on_x86
def test_a_build_runs_where_the_processor_has_all_it_was_compiled_for() -> None:
    loaded = library._load(build.LIBRARY)
    if loaded is None:
        pytest.skip("there are no native kernels here")
    line = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    there = {flag.replace("avx512_", "avx512") for flag in line.split()}
    wanted = [name for name, flags in build.BUILDS.items() if {flag[2:] for flag in flags} <= there]
    assert library._possible(loaded) == wanted


def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    library.kernels.cache_clear()
    monkeypatch.setenv(library.SWITCH, "torch")
    assert library.kernels() is None
    assert not library.forced()
    library.kernels.cache_clear()
    monkeypatch.setenv(library.SWITCH, "sse9")
    with pytest.raises(InvalidOption, match=r"'sse9'; it must be one of vnni, avx512, avx2, plain or torch"):
        library.kernels()
    monkeypatch.undo()
    library.kernels.cache_clear()


def test_a_build_that_is_asked_for_is_taken(native: library.Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    library.kernels.cache_clear()
    monkeypatch.setenv(library.SWITCH, "plain")
    found = library.kernels()
    assert found is not None
    assert found.isa == "plain"
    assert library.forced()
    monkeypatch.undo()
    library.kernels.cache_clear()


def test_building_needs_nothing_of_the_package() -> None:
    code = f"import runpy, sys; runpy.run_path({str(build.__file__)!r}); print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


@pytest.fixture
def counted(native: library.Kernels) -> tuple[library.Kernels, list[int]]:
    """Kernels of their own, and the contexts that they have made."""
    own = library.Kernels(ctypes.CDLL(str(build.LIBRARY)), native.isa)
    made: list[int] = []
    make = own._context

    def noted(threads: int) -> int:
        made.append(make(threads))
        return made[-1]

    own._context = noted
    return own, made


def test_threads_that_call_one_after_the_other_share_a_context(
    counted: tuple[library.Kernels, list[int]],
) -> None:
    kernels, made = counted
    used: list[int] = []
    for _ in range(5):
        thread = threading.Thread(target=lambda: kernels._call(used.append))
        thread.start()
        thread.join()
    assert len(made) == 1
    assert used == made * 5


def test_calls_at_once_have_a_context_each(counted: tuple[library.Kernels, list[int]]) -> None:
    kernels, made = counted
    used: list[int] = []
    meeting = threading.Barrier(3, timeout=60)

    def work(context: int) -> None:
        used.append(context)
        meeting.wait()

    for _ in range(2):
        threads = [threading.Thread(target=kernels._call, args=(work,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(set(made)) == len(made) == 3
    assert sorted(used) == sorted(made * 2)


def test_a_call_that_fails_gives_its_context_back(counted: tuple[library.Kernels, list[int]]) -> None:
    kernels, made = counted
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            kernels._call(lambda context: context // 0)
    assert len(made) == 1


def test_another_number_of_threads_needs_another_context(
    counted: tuple[library.Kernels, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels, made = counted
    released: list[int] = []
    release = kernels._release
    kernels._release = lambda context: released.append(context) or release(context)
    for threads in (1, 1, 2, 2):
        monkeypatch.setattr(library, "threads", lambda threads=threads: threads)
        kernels._call(lambda context: None)
    assert len(made) == 2
    assert released == made[:1]


def test_a_context_without_memory_is_an_error_and_nothing_to_release() -> None:
    released: list[int] = []
    with pytest.raises(MemoryError, match="no memory"):
        library._Context(None, 1, released.append)
    assert released == []


@compiles
def test_a_compiler_for_other_processors_makes_plain_kernels_alone(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
if "-dM" in args:
    print("#define __aarch64__ 1")
elif any(arg.startswith("-mavx") for arg in args):
    sys.exit("this processor has no AVX")
else:
    sys.exit(subprocess.run([*cc, *args]).returncode)
"""
    monkeypatch.setenv("CC", wrapper(tmp_path / "cc", code))
    made = build.build(tmp_path / "made.so")
    assert called(made, "forward_plain") == 1
    assert not hasattr(ctypes.CDLL(str(made)), "forward_avx2")
