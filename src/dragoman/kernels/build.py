"""Compiles the native kernels: `python -m dragoman.kernels.build`, and the package's build hook.

Nothing but a C compiler is needed; where there is none, PyTorch does the work. This file
imports nothing of the package: the build hook runs it by path.
"""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
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

THREADS = ("-pthread", "-DDRAGOMAN_PTHREADS")


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

    What the compiler can't do (a kind of processor, threads) is left out, with a RuntimeWarning.
    RuntimeError with the compiler's words if nothing can be built, OSError if `library` can't be written.
    """
    cc = compiler()
    if cc is None:
        raise RuntimeError("no C compiler (cc, gcc or clang) was found; set CC to one")
    with tempfile.TemporaryDirectory() as folder:
        flags = (*COMMON, f'-DDRAGOMAN_SOURCES="{fingerprint()}"')
        dispatch, threads, fresh = f"{folder}/dispatch.o", f"{folder}/threads.o", f"{folder}/{library.name}"
        _run(*cc, *flags, "-c", str(SOURCES / "dispatch.c"), "-o", dispatch)
        problem = _compile_threads(cc, flags, threads)
        objects = [dispatch, threads, *_compile_kinds(cc, flags, folder)]
        _run(*cc, "-shared", *(() if problem else ("-pthread",)), *objects, "-lm", "-o", fresh)
        # In one move: a process that has the old file open keeps it.
        staged = library.with_suffix(f".{os.getpid()}")
        shutil.copyfile(fresh, staged)
        os.replace(staged, library)
    if problem:
        _warn(f"the kernels will run in one thread: {problem}")
    return library


def _compile_kinds(cc: list[str], flags: tuple[str, ...], folder: str) -> list[str]:
    kinds = BUILDS if _is_for_x86(cc) else {"plain": ()}
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


def _is_for_x86(cc: list[str]) -> bool:
    """Whether the compiler makes code for x86 processors: it may be for another computer than this one."""
    done = subprocess.run([*cc, "-dM", "-E", "-x", "c", os.devnull], capture_output=True, text=True)
    if done.returncode:  # not every compiler can say
        return platform.machine() in ("x86_64", "AMD64")
    return "#define __x86_64__ 1" in done.stdout


def _compile_threads(cc: list[str], flags: tuple[str, ...], made: str) -> str | None:
    """Compile the pool of threads, or what stands for it where there are none; why there are none."""
    command = (*cc, *flags, "-c", str(SOURCES / "threads.c"), "-o", made)
    try:
        _run(*command, *THREADS)
    except RuntimeError as error:
        _run(*command)
        return str(error)
    return None


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=3)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr.strip()}")


if __name__ == "__main__":
    print(build())
