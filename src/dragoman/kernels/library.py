"""Finds and loads the compiled kernels, and picks the build for this processor."""

import ctypes
import os
import threading
from collections.abc import Callable
from ctypes import POINTER, c_int, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import torch  # before the library: it brings the OpenMP runtime whose threads both use

from dragoman.errors import InvalidOption
from dragoman.kernels.build import BUILDS, LIBRARY
from dragoman.kernels.structs import Batch, Head, Linear, Stack

SWITCH = "DRAGOMAN_KERNELS"
"""Environment variable: one of BUILDS to force that build, or `torch` for none."""


class Kernels:
    """One build of the kernels. Calls from several threads at once are safe: each has its own context."""

    def __init__(self, library: ctypes.CDLL, isa: str) -> None:
        self.isa = isa
        self._local = threading.local()
        self._context = _function(library, f"context_{isa}", c_void_p, c_int)
        self._release = _function(library, f"release_{isa}", None, c_void_p)
        self._forward = _function(library, f"forward_{isa}", c_int, c_void_p, POINTER(Stack), POINTER(Batch))
        self._linear = _function(
            library,
            f"linear_{isa}",
            c_int,
            c_void_p,
            POINTER(Linear),
            c_int,
            c_void_p,
            c_int,
            c_void_p,
            c_int64,
            c_int64,
        )
        self._pack_nibbles = _function(
            library, f"pack_nibbles_{isa}", None, c_void_p, c_void_p, c_int, c_int, c_void_p
        )
        self._exact = _function(
            library,
            f"exact_{isa}",
            None,
            c_void_p,
            POINTER(Head),
            c_void_p,
            c_int,
            c_void_p,
            c_int,
            c_int,
            c_void_p,
        )
        self._top = _function(
            library,
            f"top_{isa}",
            c_int,
            c_void_p,
            POINTER(Head),
            c_void_p,
            c_int,
            c_int,
            c_int,
            *[c_void_p] * 6,
        )

    def pack_nibbles(self, rows: int, panels: int, inputs: int, out: int) -> None:
        """4-bit records of float rows [panels * 64, inputs]; rows, out: addresses."""
        self._pack_nibbles(self._mine(), rows, panels, inputs, out)

    def forward(self, stack: Stack, batch: Batch) -> None:
        """Run all layers of `stack` over `batch`, whose rows change in place."""
        _check(self._forward(self._mine(), stack, batch))

    def linear(self, layers: Any, count: int, x: int, rows: int, out: int, ld: int, offset: int) -> None:
        """`count` linear layers on the same rows; results `offset` floats apart. x, out: addresses."""
        _check(self._linear(self._mine(), layers, count, x, rows, out, ld, offset))

    def exact(
        self, head: Any, x: int, rows: int, tokens: int | None, count: int, apart: bool, out: int
    ) -> None:
        """Exact scores of tokens, all rows' or (apart) each row's own; see csrc/native.c."""
        self._exact(self._mine(), head, x, rows, tokens, count, int(apart), out)

    def top(self, head: Any, x: int, rows: int, keep: int, screen: int, *addresses: int | None) -> None:
        """The best tokens of each row; see csrc/native.c, also for the addresses."""
        _check(self._top(self._mine(), head, x, rows, keep, screen, *addresses))

    def _mine(self) -> int:
        threads = torch.get_num_threads()
        found = getattr(self._local, "context", None)
        if found is None or found.threads != threads:
            found = self._local.context = _Context(self._context(threads), threads, self._release)
        return found.address


class _Context:
    """A thread's working memory, given back with it."""

    def __init__(self, address: int | None, threads: int, release: Callable[[int], None]) -> None:
        if not address:
            raise MemoryError("no memory for the kernels' context")
        self.address, self.threads, self._release = address, threads, release

    def __del__(self) -> None:
        self._release(self.address)


@cache
def kernels() -> Kernels | None:
    """The best build for this processor; None where there is none, and PyTorch does the work.

    InvalidOption if the environment asks for one that isn't there.
    """
    wanted = os.environ.get(SWITCH)
    if wanted not in (None, "", "torch", *BUILDS):
        raise InvalidOption(f"{SWITCH} is {wanted!r}; it must be one of {', '.join(BUILDS)} or torch")
    if wanted == "torch":
        return None
    library = _load(LIBRARY)
    possible = [] if library is None else _possible(library)
    if wanted and wanted not in possible:
        there = ", ".join(possible) or "none"
        raise InvalidOption(f"{SWITCH} is {wanted!r}, which is not built or can't run here (there: {there})")
    name = wanted or next(iter(possible), None)
    return None if library is None or name is None else Kernels(library, name)


def available() -> list[str]:
    """The builds that this machine can run, best first."""
    library = _load(LIBRARY)
    return [] if library is None else _possible(library)


def _load(path: Path) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(str(path))
    except OSError:
        return None  # not built, or for another machine


def _possible(library: ctypes.CDLL) -> list[str]:
    supports = _function(library, "supports", c_int, c_int)
    return [
        name for number, name in enumerate(BUILDS) if supports(number) and hasattr(library, f"forward_{name}")
    ]


def _function(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(library, name)
    function.restype, function.argtypes = result, arguments
    return function


def _check(code: int) -> None:
    if code:
        raise MemoryError("the kernels found no memory to work in; take fewer sentences at once")
