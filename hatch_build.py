"""Compiles the native kernels into the wheel where there is a C compiler; Dragoman works without, slower."""

import os
import runpy
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import sys_tags

KERNELS = Path(__file__).parent / "src" / "dragoman" / "kernels"


class NativeKernels(BuildHookInterface):
    """Runs for wheels and for editable installs."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        build = runpy.run_path(str(KERNELS / "build.py"))
        library: Path = build["LIBRARY"]
        try:
            build["build"]()
        except (RuntimeError, OSError) as error:  # no compiler, or a tree that can't be written
            with suppress(OSError):
                library.unlink(missing_ok=True)
            print(f"no native kernels, PyTorch will do their work: {error}", file=sys.stderr)
            return
        build_data["artifacts"].append(f"src/dragoman/kernels/{library.name}")
        # Called through ctypes: any Python 3 will do, but only one kind of machine (scripts/wheels: another).
        build_data["tag"] = f"py3-none-{os.environ.get('DRAGOMAN_PLATFORM') or next(sys_tags()).platform}"
        build_data["pure_python"] = False
