"""Passes of rows through a model's layers.

Where experts come when they are needed, a pass waits behind the router for those that its rows chose, and
runs each as soon as it is there.
"""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from dragoman.kernels import structs
from dragoman.kernels.arrays import Array, address, address_or_none
from dragoman.kernels.library import needed
from dragoman.kernels.structs import SPAN
from dragoman.native.weights import Expert, Experts, Key

Watch = Callable[[Array, Array], None]
"""Is told what each row chose: experts int32 [layers, rows, 2], the first choice first, and what they count
float32 [layers, rows, 2]; zeros in layers that have none."""


class Passes:
    """Runs rows through a stack of layers.

    With experts that come and go there is one pass at a time; else as many threads as like may run theirs.
    """

    def __init__(self, stack: structs.Stack, experts: Experts | None = None) -> None:
        self.stack = stack
        self.watch: Watch | None = None
        self._experts = experts
        self._there: dict[Key, Expert] = {}
        self._lock = threading.Lock()

    @property
    def waits(self) -> bool:
        """Whether a pass may have to wait for the disk, time and again."""
        return self._experts is not None and self._experts.leave

    def __call__(
        self,
        x: Array,
        self_spans: Any,
        spans: int,
        write: tuple[Any, Any, Any],
        cross: Any = None,
        rotation: tuple[Array, Array] | None = None,
        routes: tuple[Any, Any, Any, Any] | None = None,
    ) -> None:
        """Run `x`, float32 [rows, hidden], through the stack, in place.

        self_spans: structured array [rows, spans]; write: addresses, layer strides and value
        offsets of the rows' own keys; cross: structured array [rows]; rotation: cosines and sines
        [rows, head_width / 2]; routes: starts, stops, module numbers and scales. CheckpointError if an expert
        can't be read.
        """
        stack, rows = self.stack, len(x)
        batch = structs.Batch(
            rows=rows,
            spans=spans,
            x=address("x", x, np.float32, rows, stack.hidden),
            self=address("spans", self_spans, SPAN, rows * spans),
            cross=address_or_none("cross spans", cross, SPAN, rows),
            write=address("where to write", write[0], np.uint64, rows),
            write_stride=address("strides", write[1], np.int64, rows),
            write_value=address("value offsets", write[2], np.int64, rows),
        )
        if rotation is not None:
            batch.cosine, batch.sine = (
                address("rotation", part, np.float32, rows, stack.head_width // 2) for part in rotation
            )
        if routes is not None:
            batch.routes = count = len(routes[0])
            batch.route_start, batch.route_stop, batch.route_module, batch.route_scale = (
                address("routes", part, dtype, count)
                for part, dtype in zip(routes, (np.int32, np.int32, np.int32, np.float32), strict=True)
            )
        self._run(batch)

    def _run(self, batch: structs.Batch) -> None:
        layers, experts = self.stack.layers, self.stack.max_experts
        hit = np.empty(experts, np.int32)
        each = structs.Pass(hit=address("hits", hit, np.int32, experts))
        watch = self.watch
        if watch is not None:
            shape = layers, batch.rows, 2
            chosen, share = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
            each.chosen = address("choices", chosen, np.int32, *shape)
            each.share = address("shares", share, np.float32, *shape)
        if self._experts is None:
            needed().forward(self.stack, batch, each)
        else:
            visits = np.zeros((layers, experts), np.int32)
            each.visits = address("visits", visits, np.int32, layers, experts)
            with self._lock:
                self._run_with(self._experts, batch, each, hit, visits)
        if watch is not None:
            watch(chosen, share)

    def _run_with(
        self, experts: Experts, batch: structs.Batch, each: structs.Pass, hit: Array, visits: Array
    ) -> None:
        last = -1

        def wait() -> None:
            nonlocal last
            keys = [(each.layer, int(number)) for number in hit[: each.hits]]
            news = experts.take(keys, fresh=each.layer != last)
            last = each.layer
            self._heed(*news)

        self._heed(*experts.settle())
        try:
            needed().forward(self.stack, batch, each, wait)
        finally:
            experts.release(visits)

    def _heed(self, arrived: list[tuple[Key, Expert]], gone: list[Key]) -> None:
        """Let the kernels know where experts are now."""
        for key in gone:
            layer = self.stack.layer[key[0]]
            layer.expert_first[key[1]].data = layer.expert_second[key[1]].data = None
            self._there.pop(key, None)
        for key, (first, second) in arrived:
            self._there[key] = first, second
            layer = self.stack.layer[key[0]]
            layer.expert_first[key[1]] = first.struct()
            layer.expert_second[key[1]] = second.struct()
