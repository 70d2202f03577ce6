"""The language modules of a model at work: read when a language first needs one."""

import gc
import os
import threading
import weakref
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Protocol

from dragoman.checkpoints.module_finding import check_fit, find_module
from dragoman.checkpoints.packed_folders import PackedModel
from dragoman.checkpoints.packing import Parts, module_bytes, pack_module
from dragoman.errors import LanguageModuleError, NotEnoughMemory
from dragoman.generation.engine import Engine, Job
from dragoman.models.language_modules import ANY
from dragoman.models.language_modules import LanguageModules as Language
from dragoman.native.llama import NativeLlama
from dragoman.systems.placement import Budget


class Attaching(Protocol):
    """How a kind of model takes language modules."""

    @property
    def language(self) -> Language:
        """Those that it has."""

    def read(self, group: int) -> Any:
        """Read a module, with its `bytes`, while the model may be at work; nothing of the model changes."""

    def attach(self, group: int, module: Any) -> None:
        """Give rows of the group what was read, between two of the model's steps."""

    def detach(self, group: int) -> None:
        """Let go of a module that was attached, between two of the model's steps."""


class LanguageModules:
    """Sees to it that a group's module is there before its jobs are.

    A module is read, and packed, in the thread that asks for it, while other jobs go on; only to be
    attached it comes between two of their steps. Where memory is short, the one that no job has needed for
    the longest time goes first; the modules that came with the weights stay.
    """

    def __init__(self, attaching: Attaching, engine: Engine, budget: Budget | None = None) -> None:
        self._attaching, self._engine, self._budget = attaching, engine, budget
        # By process and group: a forked child doesn't wait for a thread that the parent has.
        self._locks: dict[tuple[int, int], threading.Lock] = {}
        self._sizes: dict[int, int] = {}
        """Of the modules that were attached, the one that was needed last at the end."""
        self._jobs: dict[int, list[weakref.ref[Job]]] = defaultdict(list)
        """Those that need a group's module, and some that are gone."""

    def groups(self) -> tuple[int, ...]:
        """The groups whose modules are attached."""
        return tuple(sorted(self._attaching.language.scales))

    @property
    def merged(self) -> int | None:
        """The group that the weights themselves contain; ANY if that is unknown."""
        return self._attaching.language.merged

    def lend(self, job: Job) -> Job:
        """The job, whose group's module is there until the job is gone. Raises what `require` does."""
        assert job.group is not None
        with self._lock(0):
            jobs = self._jobs[job.group]
            jobs.append(weakref.ref(job))
            if len(jobs) & (len(jobs) - 1) == 0:  # now and then
                self._forget(job.group)
        self.require(job.group)
        return job

    def require(self, group: int) -> None:
        """Attach the module of `group` if it isn't.

        Raises CheckpointError, KeyMismatch or LanguageModuleError if there is none that fits the model, and
        NotEnoughMemory if it doesn't fit into the memory.
        """
        if group in self.groups():
            if group in self._sizes:
                self._sizes[group] = self._sizes.pop(group)
            return
        with self._lock(group):
            if group in self.groups():  # another thread was first
                return
            module = self._attaching.read(group)
            self._engine.between_steps(lambda: self._attach(group, module))

    def _attach(self, group: int, module: Any) -> None:
        if self._budget is not None:
            self._take(self._budget, module.bytes, f"the language module of group {group}")
            self._engine.memory = self._budget.work
        self._sizes[group] = module.bytes
        self._attaching.attach(group, module)

    def _take(self, budget: Budget, size: int, name: str) -> None:
        """Set memory aside, that of idle modules if need be."""
        while True:
            try:
                budget.take_module(size, name)
                return
            except NotEnoughMemory:
                idle = self._idle()
                if idle is None:
                    gc.collect()  # jobs that are done may still be in circles of references
                    idle = self._idle()
                if idle is None:
                    raise
                self._attaching.detach(idle)
                budget.modules -= self._sizes.pop(idle)

    def _idle(self) -> int | None:
        """The group that has been without jobs for the longest time."""
        return next((group for group in self._sizes if not self._is_needed(group)), None)

    def _is_needed(self, group: int) -> bool:
        """Whether there are jobs that need a module."""
        with self._lock(0):
            self._forget(group)
            return bool(self._jobs[group])

    def _forget(self, group: int) -> None:
        """Drop the jobs that are gone."""
        self._jobs[group] = [job for job in self._jobs[group] if job() is not None]

    def _lock(self, group: int) -> threading.Lock:
        """Held while a group's module is read; of group 0, which has none, while jobs are counted."""
        return self._locks.setdefault((os.getpid(), group), threading.Lock())


@dataclass(frozen=True)
class PackedModule:
    """A module in the form in which the kernels take it."""

    scale: float
    parts: Parts
    bytes: int


class MappedModules:
    """The language modules of a packed folder: in the same maps as the base, untouched until attached."""

    def __init__(self, runner: NativeLlama, packed: PackedModel) -> None:
        self._packed, self._config = packed, runner.config
        self.language = runner.language

    def read(self, group: int) -> PackedModule:
        if group not in self._packed.scales:
            there = ", ".join(map(str, sorted(self._packed.scales))) or "none"
            raise LanguageModuleError(
                f"{self._packed.folder} holds no module of group {group}; groups there: {there}"
            )
        shapes = self._packed.module_shapes(group)
        check_fit(self._config, shapes, str(self._packed.folder), whole=False)
        return PackedModule(self._packed.scales[group], {}, self._packed.bytes(group))

    def attach(self, group: int, module: PackedModule) -> None:
        _attach(self.language, group, module.scale)

    def detach(self, group: int) -> None:
        _detach(self.language, group)


class NativeModules:
    """The language modules of a native model whose weights are `parts`."""

    def __init__(self, runner: NativeLlama, parts: Parts, precision: str) -> None:
        self._parts, self._precision, self._config = parts, precision, runner.config
        self.language = runner.language
        self._names: dict[int, list[str]] = {}

    def read(self, group: int) -> PackedModule:
        module = find_module(self.language.source, group, self._config)
        shapes = {name: place.shape for name, place in module.tensors.items()}
        parts = pack_module(module, group, self._precision)
        return PackedModule(float(module.scale), parts, module_bytes(shapes, self._precision))

    def attach(self, group: int, module: PackedModule) -> None:
        self._parts |= module.parts
        self._names[group] = list(module.parts)
        _attach(self.language, group, module.scale)

    def detach(self, group: int) -> None:
        _detach(self.language, group)
        for name in self._names.pop(group):
            del self._parts[name]


def _attach(language: Language, group: int, scale: float) -> None:
    language.scales[group] = scale
    if language.merged == ANY:
        language.merged = None
    language.version += 1


def _detach(language: Language, group: int) -> None:
    del language.scales[group]
    language.version += 1
