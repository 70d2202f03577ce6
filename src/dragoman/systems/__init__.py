"""What a translation system is to the translator: sentences in, hypotheses out, one file for each family."""

from pathlib import Path
from typing import Any

from dragoman.checkpoints.catalog import base_of
from dragoman.checkpoints.families import family_of, is_adapter
from dragoman.checkpoints.packed_facts import is_packed
from dragoman.checkpoints.telling import M2M100, NLLB, SMALL100
from dragoman.errors import InvalidOption
from dragoman.generation.engine import Engine
from dragoman.systems.base import Request, System
from dragoman.systems.devices import CPU, has_pytorch, usable_device
from dragoman.systems.placement import AUTO
from dragoman.systems.planning import Plan

__all__ = ["Plan", "Request", "System", "load_system", "plan_system", "remote_system"]


def load_system(
    folder: Path,
    device: str,
    name: str | None = None,
    precision: str = AUTO,
    memory: str | int | None = None,
    parallel: bool = False,
) -> System:
    """The system that the model in `folder` belongs to, loaded; ConfigError if it belongs to none.

    name: what the user called the model, which tells an X-ALMA from an ALMA. precision: "auto", or one of
    `dragoman.kernels.packing.PRECISIONS`. memory: what weights and decoding may take, as bytes or "12GB".
    parallel: share it with the other processes that torchrun has started (`parallel.load_parallel`).
    """
    kind, arguments = _kind(folder, name)
    if parallel:
        if not has_pytorch():
            raise InvalidOption("parallel=True needs PyTorch: pip install 'dragoman[torch]'")
        from dragoman.systems.parallel import load_parallel

        return load_parallel(kind, folder, device, arguments, precision, memory)
    found: System = kind.load(folder, _device(folder, device), *arguments, precision, memory)
    return found


def plan_system(
    folder: Path,
    device: str,
    name: str | None = None,
    precision: str = AUTO,
    memory: str | int | None = None,
) -> Plan:
    """As `load_system`, without reading any weights."""
    kind, arguments = _kind(folder, name)
    found: Plan = kind.plan(folder, _device(folder, device), *arguments, precision, memory)
    return found


def remote_system(folder: Path, engine: Engine, name: str | None = None, precision: str = AUTO) -> System:
    """As `load_system`, for a model that `engine` has run elsewhere: no weights are read here."""
    from dragoman.systems.remote import system_of

    kind, arguments = _kind(folder, name)
    return system_of(kind, folder, arguments, precision, engine)


def _device(folder: Path, device: str) -> str:
    return CPU if device == "auto" and is_packed(folder) else usable_device(device)


def _kind(folder: Path, name: str | None) -> tuple[Any, tuple[str | None, ...]]:
    """The class of the system, and what it has to be told beside the device."""
    family = family_of(folder).name
    if family == NLLB and is_adapter(folder):
        family = family_of(base_of(folder)).name  # an adapter's config doesn't tell these families apart
    if family == NLLB:
        from dragoman.systems.nllb import NllbSystem

        return NllbSystem, ()
    if family in (M2M100, SMALL100):
        from dragoman.systems.m2m100 import M2m100System, Small100System

        return M2m100System if family == M2M100 else Small100System, ()
    from dragoman.systems.xalma import XalmaSystem

    return XalmaSystem, (name,)
