"""Compiles the native kernels: `python -m dragoman.kernels.build`, and the package's build hook.

Nothing but a C compiler is needed; where there is none, PyTorch does the work. OpenMP's
runtime is not linked: its symbols resolve to the one PyTorch has loaded, so that both share
their threads. This file imports nothing of the package: the build hook runs it by path.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
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


def compiler() -> str | None:
    """The C compiler: $CC, or the first of cc, gcc and clang that exists."""
    wanted = os.environ.get("CC")
    names = [wanted] if wanted else ["cc", "gcc", "clang"]
    return next((found for name in names if (found := shutil.which(name))), None)


def build(library: Path = LIBRARY) -> Path:
    """Compile the kernels into `library`; RuntimeError with the compiler's words if that fails."""
    cc = compiler()
    if cc is None:
        raise RuntimeError("no C compiler (cc, gcc or clang) was found; set CC to one")
    kinds = BUILDS if platform.machine() in ("x86_64", "AMD64") else {"plain": ("-O3",)}
    with tempfile.TemporaryDirectory() as folder:
        parallel = ("-fopenmp",) if _compiles(cc, folder, "-fopenmp") else ()
        objects = [f"{folder}/dispatch.o"]
        _run(cc, *COMMON, "-c", str(SOURCES / "dispatch.c"), "-o", objects[0])
        for name, flags in kinds.items():
            objects.append(f"{folder}/{name}.o")
            _run(cc, *COMMON, *parallel, *flags, "-c", str(SOURCES / "native.c"), "-o", objects[-1])
        undefined = ("-undefined", "dynamic_lookup") if sys.platform == "darwin" else ()
        fresh = f"{folder}/{library.name}"
        _run(cc, "-shared", *undefined, *objects, "-lm", "-o", fresh)
        # In one move: a process that has the old file open keeps it.
        staged = library.with_suffix(f".{os.getpid()}")
        shutil.copyfile(fresh, staged)
        os.replace(staged, library)
    return library


def _compiles(cc: str, folder: str, flag: str) -> bool:
    source = Path(folder) / "probe.c"
    source.write_text("int main(void) { return 0; }\n", encoding="utf-8")
    command = [cc, flag, "-c", str(source), "-o", f"{folder}/probe.o"]
    return subprocess.run(command, capture_output=True).returncode == 0


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr.strip()}")


if __name__ == "__main__":
    print(build())
