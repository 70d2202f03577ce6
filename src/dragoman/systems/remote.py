"""A system whose model is elsewhere: texts become jobs here, and hypotheses texts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragoman.checkpoints.packed_folders import PackedModel
from dragoman.generation.engine import Engine
from dragoman.models.config import NllbConfig
from dragoman.models.language_modules import LanguageModules
from dragoman.models.xalma import GROUPS
from dragoman.systems.base import System
from dragoman.systems.devices import CPU
from dragoman.systems.placement import Budget, Placement


@dataclass(frozen=True)
class Outline:
    """What is known of a model that isn't here."""

    config: Any


@dataclass(frozen=True)
class Elsewhere:
    """The language modules of a model that isn't here: whoever does a job sees to its own."""

    language: LanguageModules

    def read(self, group: int) -> Any:
        raise RuntimeError("the model is elsewhere, and so are its language modules")

    def attach(self, group: int, module: Any) -> None:
        self.read(group)

    def detach(self, group: int) -> None:
        self.read(group)


def system_of(
    kind: Any, folder: Path, arguments: tuple[str | None, ...], precision: str, engine: Engine
) -> System:
    """kind: the system's class, with the `arguments` that its `plan` takes beside these."""
    plan = kind.plan(folder, CPU, *arguments, precision, None, _placed)
    files, placement = plan.files, plan.placement
    outline = Outline(files.config)
    system: System
    if isinstance(files.config, NllbConfig):
        system = kind(outline, plan.tokenizer, plan.card, placement.precision, engine=engine)
    else:
        attaching = Elsewhere(_modules(files))
        system = kind(
            outline, plan.tokenizer, plan.card, plan.style, attaching, placement.precision, engine=engine
        )
    return system


def _placed(opened: Any, device: str, precision: str, memory: str | int | None) -> Placement:
    """However it runs: that is decided where it does."""
    stored = opened.precision if isinstance(opened, PackedModel) else precision
    return Placement(device, stored, False, False, Budget(0, 0, 0, 0))


def _modules(files: Any) -> LanguageModules:
    """All of them count as attached, if there are any."""
    merged = files.merged if isinstance(files, PackedModel) else files.language().merged
    return LanguageModules(dict.fromkeys(GROUPS, 1.0) if merged is None else {}, merged)
