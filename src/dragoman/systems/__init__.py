"""What a translation system is to the translator: sentences in, hypotheses out, one file for each family."""

from pathlib import Path

from dragoman.errors import ConfigError
from dragoman.models.config import DENSE, MOE, read_config
from dragoman.systems.base import Request, System

__all__ = ["Request", "System", "load_system"]


def load_system(folder: Path, device: str) -> System:
    """The system that the model in `folder` belongs to, loaded; ConfigError if it belongs to none."""
    model_type = read_config(folder).get("model_type")
    if model_type in (DENSE, MOE):
        from dragoman.systems.nllb import NllbSystem

        return NllbSystem.load(folder, device)
    raise ConfigError(f"{folder}: model_type {model_type!r} is none of {DENSE!r}, {MOE!r}")
