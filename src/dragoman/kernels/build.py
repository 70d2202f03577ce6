"""Compiles the native kernels: `python -m dragoman.kernels.build`, and the package's build hook.

Nothing but a C compiler is needed; where there is none, PyTorch does the work. OpenMP's
runtime is not linked: its symbols resolve to the one PyTorch has loaded, so that both share
their threads. This file imports nothing of the package: the build hook runs it by path.
"""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

SOURCES = Path(__file__).parent / "csrc"
LIBRARY = Path(__file__).parent / "_native.so"
COMMON = ("-O3", "-std=gnu11", "-fPIC", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=default")
AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma", "-mf16c")
BUILDS: dict[str, tuple[str, ...]] = {
    "vnni": (*AVX512, "-mavx512vnni"),
    "avx512": AVX512,
    "avx2": ("-mavx2", "-mfma", "-mf16c"),
    "plain": (),
}
"""Flags for each kind of processor; the order is that of csrc/dispatch.c."""

OPENMP = ("-fopenmp",)
PROBE = """
#include <omp.h>
int probe(int threads) {
    int sum = 0;
#pragma omp parallel num_threads(threads)
    {
#pragma omp barrier
#pragma omp atomic
        sum += omp_get_thread_num();
    }
    return sum;
}
"""


def compiler() -> list[str] | None:
    """The C compiler's command: $CC with its arguments, or the first of cc, gcc and clang that exists."""
    wanted = shlex.split(os.environ.get("CC", ""))
    names = [wanted] if wanted else [["cc"], ["gcc"], ["clang"]]
    return next(([found, *rest] for name, *rest in names if (found := shutil.which(name))), None)


def fingerprint() -> str:
    """Stands for the sources and flags: a library built from others has another."""
    digest = hashlib.sha256(repr((COMMON, BUILDS)).encode())
    for path in sorted(SOURCES.glob("*.[ch]")):
        digest.update(f"{path.name}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def build(library: Path = LIBRARY) -> Path:
    """Compile the kernels into `library`.

    What the compiler can't do (a kind of processor, OpenMP) is left out, with a RuntimeWarning.
    RuntimeError with the compiler's words if nothing can be built, OSError if `library` can't be written.
    """
    cc = compiler()
    if cc is None:
        raise RuntimeError("no C compiler (cc, gcc or clang) was found; set CC to one")
    with tempfile.TemporaryDirectory() as folder:
        openmp = OPENMP if _parallel(cc, folder) else ()
        flags = (*COMMON, *openmp, f'-DDRAGOMAN_SOURCES="{fingerprint()}"')
        dispatch, fresh = f"{folder}/dispatch.o", f"{folder}/{library.name}"
        _run(*cc, *flags, "-c", str(SOURCES / "dispatch.c"), "-o", dispatch)
        objects = _compile_kinds(cc, flags, folder)
        undefined = ("-undefined", "dynamic_lookup") if sys.platform == "darwin" else ()
        _run(*cc, "-shared", *undefined, dispatch, *objects, "-lm", "-o", fresh)
        # In one move: a process that has the old file open keeps it.
        staged = library.with_suffix(f".{os.getpid()}")
        shutil.copyfile(fresh, staged)
        os.replace(staged, library)
    if not openmp:
        _warn(
            "the kernels will run in one thread: the compiler has no OpenMP that suits PyTorch's; set CC=gcc"
        )
    return library


def _compile_kinds(cc: list[str], flags: tuple[str, ...], folder: str) -> list[str]:
    kinds = BUILDS if platform.machine() in ("x86_64", "AMD64") else {"plain": ()}
    objects, errors = [], {}
    for name, extra in kinds.items():
        made = f"{folder}/{name}.o"
        try:
            _run(*cc, *flags, *extra, "-c", str(SOURCES / "native.c"), "-o", made)
            objects.append(made)
        except RuntimeError as error:
            errors[name] = error
    if not objects:
        raise errors["plain"]
    for name, reason in errors.items():
        _warn(f"no kernels for {name} processors: {reason}")
    return objects


def _parallel(cc: list[str], folder: str) -> bool:
    """Whether the compiler knows OpenMP, and calls it as the runtime does that PyTorch brings.

    On Linux that is GCC's, without the functions that Clang calls.
    """
    source, made = Path(folder) / "probe.c", Path(folder) / "probe.o"
    source.write_text(PROBE, encoding="utf-8")
    command = [*cc, "-fPIC", *OPENMP, "-c", str(source), "-o", str(made)]
    if subprocess.run(command, capture_output=True).returncode:
        return False
    return sys.platform == "darwin" or b"__kmpc_" not in made.read_bytes()


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=3)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr.strip()}")


if __name__ == "__main__":
    print(build())
