"""The language modules of a model at work: read when a language first needs one."""

import os
import threading

from dragoman.generation.engine import Engine
from dragoman.models.llama import Llama
from dragoman.surgery.language_modules import attach_, groups
from dragoman.surgery.module_reading import ReadModule, read_module
from dragoman.systems.placement import Budget


class LanguageModules:
    """Sees to it that a group's module is there before its jobs are.

    A module is read, and packed, in the thread that asks for it, while other jobs go on; only to be
    attached it comes between two of their steps.
    """

    def __init__(self, model: Llama, engine: Engine, budget: Budget | None = None) -> None:
        self._model, self._engine, self._budget = model, engine, budget
        # By process and group: a forked child doesn't wait for a thread that the parent has.
        self._reading: dict[tuple[int, int], threading.Lock] = {}

    def require(self, group: int) -> None:
        """Attach the module of `group` if it isn't.

        Raises CheckpointError, KeyMismatch or LanguageModuleError if there is none that fits the model, and
        NotEnoughMemory if it doesn't fit into the memory.
        """
        if group in groups(self._model):
            return
        with self._reading.setdefault((os.getpid(), group), threading.Lock()):
            if group in groups(self._model):  # another thread was first
                return
            module = read_module(self._model, group)
            self._engine.between_steps(lambda: self._attach(group, module))

    def _attach(self, group: int, module: ReadModule) -> None:
        if self._budget is not None:
            self._budget.take_module(module.bytes, f"the language module of group {group}")
            self._engine.memory = self._budget.work
        attach_(self._model, group, module)
