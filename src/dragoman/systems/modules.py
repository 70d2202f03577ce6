"""The language modules of a model at work: read when a language first needs one."""

import os
import threading
from dataclasses import dataclass
from typing import Any, Protocol

from dragoman.checkpoints.module_finding import check_fit, find_module
from dragoman.checkpoints.packed_folders import PackedModel
from dragoman.checkpoints.packing import Parts, module_bytes, pack_module
from dragoman.errors import LanguageModuleError
from dragoman.generation.engine import Engine
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


class LanguageModules:
    """Sees to it that a group's module is there before its jobs are.

    A module is read, and packed, in the thread that asks for it, while other jobs go on; only to be
    attached it comes between two of their steps.
    """

    def __init__(self, attaching: Attaching, engine: Engine, budget: Budget | None = None) -> None:
        self._attaching, self._engine, self._budget = attaching, engine, budget
        # By process and group: a forked child doesn't wait for a thread that the parent has.
        self._reading: dict[tuple[int, int], threading.Lock] = {}

    def groups(self) -> tuple[int, ...]:
        """The groups whose modules are attached."""
        return tuple(sorted(self._attaching.language.scales))

    @property
    def merged(self) -> int | None:
        """The group that the weights themselves contain; ANY if that is unknown."""
        return self._attaching.language.merged

    def require(self, group: int) -> None:
        """Attach the module of `group` if it isn't.

        Raises CheckpointError, KeyMismatch or LanguageModuleError if there is none that fits the model, and
        NotEnoughMemory if it doesn't fit into the memory.
        """
        if group in self.groups():
            return
        with self._reading.setdefault((os.getpid(), group), threading.Lock()):
            if group in self.groups():  # another thread was first
                return
            module = self._attaching.read(group)
            self._engine.between_steps(lambda: self._attach(group, module))

    def _attach(self, group: int, module: Any) -> None:
        if self._budget is not None:
            self._budget.take_module(module.bytes, f"the language module of group {group}")
            self._engine.memory = self._budget.work
        self._attaching.attach(group, module)


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


class NativeModules:
    """The language modules of a native model whose weights are `parts`."""

    def __init__(self, runner: NativeLlama, parts: Parts, precision: str) -> None:
        self._parts, self._precision, self._config = parts, precision, runner.config
        self.language = runner.language

    def read(self, group: int) -> PackedModule:
        source = self.language.source
        if source is None:
            raise LanguageModuleError(
                f"the model did not come from a combined checkpoint, so there is no module of group {group}"
            )
        module = find_module(source, group)
        shapes = {name: place.shape for name, place in module.tensors.items()}
        check_fit(self._config, shapes, str(source), whole=False)
        parts = pack_module(module, group, self._precision)
        return PackedModule(float(module.scale), parts, module_bytes(shapes, self._precision))

    def attach(self, group: int, module: PackedModule) -> None:
        self._parts |= module.parts
        _attach(self.language, group, module.scale)


def _attach(language: Language, group: int, scale: float) -> None:
    language.scales[group] = scale
    if language.merged == ANY:
        language.merged = None
    language.version += 1
