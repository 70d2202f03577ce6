"""Finds and loads the compiled kernels, and picks the build for this processor."""

import ctypes
import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from ctypes import POINTER, c_char_p, c_float, c_int, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from dragoman.errors import InvalidOption
from dragoman.kernels.arrays import Array, address, address_or_none
from dragoman.kernels.build import BUILDS, LIBRARY, SOURCES, fingerprint
from dragoman.kernels.structs import SHARED, Batch, Head, Linear, Matrix, Pass, Stack
from dragoman.kernels.threads import set_threads, threads

__all__ = ["Kernels", "available", "forced", "kernels", "needed", "set_threads", "threads"]
SWITCH = "DRAGOMAN_KERNELS"
"""Environment variable: one of BUILDS to force that build, or `torch` for none."""


class Kernels:
    """One build of the kernels. Calls from several threads at once are safe: each has its own context.

    The first has the process's pool of threads; those beside it run in their own thread alone.
    isa: which of BUILDS; parallel: whether it can use several threads.
    """

    def __init__(self, library: ctypes.CDLL, isa: str) -> None:
        self.isa = isa
        self.parallel = bool(_function(library, "parallel", c_int)())
        self._free: list[_Context] = []
        self._context = _function(library, f"context_{isa}", c_void_p, c_int)
        self._release = _function(library, f"release_{isa}", None, c_void_p)
        self._forward = _function(
            library, f"forward_{isa}", c_int, c_void_p, POINTER(Stack), POINTER(Batch), POINTER(Pass)
        )
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
        self._pack = _function(
            library, f"pack_{isa}", c_int, c_void_p, POINTER(Matrix), POINTER(Linear), c_void_p, c_void_p
        )
        self._gather = _function(
            library,
            f"gather_{isa}",
            c_int,
            c_void_p,
            POINTER(Matrix),
            c_void_p,
            c_int,
            c_float,
            c_void_p,
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
        self._measure = _function(library, f"measure_{isa}", c_int, c_void_p, POINTER(Head), c_void_p)
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

    def pack(self, matrix: Matrix, packed: Linear, rest: Array | None = None) -> float:
        """Fill in the data (and scales) of `packed`, or just measure if its kind is NONE.

        rest: in int8, where four more bits of each number go, [outputs, padded inputs / 2]. Returns the
        largest magnitude, or NaN if a number is NaN or infinite: then what was written is void.
        """
        most = np.zeros(1, np.float32)
        low = address_or_none("room for more bits", rest, np.uint8, packed.outputs, packed.padded // 2)
        _check(self._call(self._pack, matrix, packed, low, address("most", most, np.float32, 1)))
        return float(most[0])

    def gather(self, matrix: Matrix, rows: Array, scale: float, out: Array) -> None:
        """out [count, columns]: `rows` [count] of a table times `scale`; IndexError if there is none such."""
        (count,) = rows.shape
        code = self._call(
            self._gather,
            matrix,
            address("rows", rows, np.int64, count),
            count,
            scale,
            address("out", out, np.float32, count, matrix.columns),
        )
        if code:
            raise IndexError(
                f"rows {rows.min()} to {rows.max()} were asked for of a table with {matrix.rows} rows"
            )

    def forward(self, stack: Stack, batch: Batch, each: Pass, wait: Callable[[], None] | None = None) -> None:
        """Run all layers of `stack` over `batch`, whose rows change in place.

        each: a new pass; wait: called whenever that has come to experts that are not in memory, and returns
        when at least one that it needs is.
        """
        context = self._check_out(threads())
        try:
            while (code := self._forward(context.address, stack, batch, each)) > 0:
                assert wait is not None, "an expert of a model in memory has no weights"
                wait()
            _check(code)
        finally:
            self._free.append(context)

    def linear(self, layers: Any, x: Array, out: Array) -> None:
        """Linear layers of one size on the same rows: x [rows, inputs] -> out [layers, rows, outputs]."""
        count, rows = len(layers), len(x)
        inputs, outputs = layers[0].inputs, layers[0].outputs
        assert all((each.inputs, each.outputs) == (inputs, outputs) for each in layers)
        _check(
            self._call(
                self._linear,
                layers,
                count,
                address("x", x, np.float32, rows, inputs),
                rows,
                address("out", out, np.float32, count, rows, outputs),
                outputs,
                rows * outputs,
            )
        )

    def exact(self, head: Head, x: Array, tokens: Array | None, out: Array) -> None:
        """Exact scores out [rows, count] of x [rows, hidden].

        tokens: [count], all rows' the same, or each row's own [rows, count]; None: 0, 1, ...
        """
        rows, count = out.shape
        apart = tokens is not None and tokens.ndim == 2
        self._call(
            self._exact,
            head,
            address("x", x, np.float32, rows, head.w.inputs),
            rows,
            address_or_none("tokens", tokens, np.int32, *((rows, count) if apart else (count,))),
            count,
            int(apart),
            address("out", out, np.float32, rows, count),
        )

    def measure(self, head: Head) -> tuple[float, float]:
        """The largest distance of a packed row to the exact one, and the longest exact row."""
        found = np.zeros(2, np.float32)
        _check(self._call(self._measure, head, address("found", found, np.float32, 2)))
        return float(found[0]), float(found[1])

    def top(
        self,
        head: Head,
        x: Array,
        screen: int,
        banned: Array | None,
        extra: tuple[Array, Array] | None,
        found: tuple[Array, Array, Array],
    ) -> None:
        """The best tokens of each row of x [rows, hidden].

        screen: how many candidates there are at least; banned: bits; extra: tokens of all rows, and
        where each row's begin [rows + 1]; found: scores and tokens [rows, count] to fill in, best first,
        and the spread [rows, 2]. csrc/native.c says more.
        """
        scores, tokens, spread = found
        rows, keep = scores.shape
        more, starts = extra or (None, None)
        code = self._call(
            self._top,
            head,
            address("x", x, np.float32, rows, head.w.inputs),
            rows,
            keep,
            screen,
            None if banned is None else address("banned", banned, np.uint8, len(banned)),
            None if more is None else address("extra", more, np.int32, len(more)),
            address_or_none("starts", starts, np.int32, rows + 1),
            address("scores", scores, np.float32, rows, keep),
            address("tokens", tokens, np.int32, rows, keep),
            address("spread", spread, np.float32, rows, 2),
        )
        _check(code)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """function(context, *arguments), with a context that no other call is using."""
        context = self._check_out(threads())
        try:
            return function(context.address, *arguments)
        finally:
            self._free.append(context)

    def _check_out(self, threads: int) -> "_Context":
        # Without a lock: a list's pop and append are atomic.
        with suppress(IndexError):
            while True:
                found = self._free.pop()
                if found.threads == threads:
                    return found
        return _Context(self._context(threads), threads, self._release)


class _Context:
    """A call's working memory. It is kept for later calls: there are as many as ever ran at once."""

    def __init__(self, address: int | None, threads: int, release: Callable[[int], None]) -> None:
        self.address, self.threads, self._release = address, threads, release
        if not address:
            raise MemoryError("no memory for the kernels' context")

    def __del__(self) -> None:
        if self.address:
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


def needed() -> Kernels:
    """As `kernels`, where nothing else can do the work; InvalidOption if there are none."""
    found = kernels()
    if found is None:
        raise InvalidOption(
            "the compiled kernels are needed for this, and there are none: install Dragoman where there is "
            f"a C compiler, and don't set {SWITCH} to torch"
        )
    return found


def forced() -> bool:
    """Whether the environment asks for a build by name."""
    return os.environ.get(SWITCH) in BUILDS


def available() -> list[str]:
    """The builds that this machine can run, best first."""
    library = _load(LIBRARY)
    return [] if library is None else _possible(library)


@cache
def _load(path: Path) -> ctypes.CDLL | None:
    if not path.exists():
        return None
    try:
        library = ctypes.CDLL(str(path))
        if _matches(library):
            return library
        problem = "was built from other sources than this version's"
    except OSError as error:
        problem = f"can't be loaded ({error})"
    warnings.warn(
        f"{path} {problem}, so PyTorch does its work. Rebuild it with: python -m dragoman.kernels.build",
        RuntimeWarning,
        stacklevel=3,
    )
    return None


def _matches(library: ctypes.CDLL) -> bool:
    """Whether the library was made from the sources beside it, and sees structures as Python does."""
    try:
        sources = _function(library, "sources", c_char_p)
        size = _function(library, "size", c_int, c_int)
    except AttributeError:  # from before there was a fingerprint
        return False
    if SOURCES.is_dir() and sources() != fingerprint().encode():
        return False
    return [size(number) for number in range(len(SHARED))] == [ctypes.sizeof(each) for each in SHARED]


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
