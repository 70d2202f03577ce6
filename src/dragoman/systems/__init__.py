"""What a translation system is to the translator: sentences in, hypotheses out, one file for each family."""

from pathlib import Path

from dragoman.errors import ConfigError
from dragoman.models.config import DENSE, MOE, read_config
from dragoman.systems.base import Request, System
from dragoman.systems.placement import AUTO

LLAMAS = ("llama", "xalma")

__all__ = ["Request", "System", "load_system"]


def load_system(
    folder: Path,
    device: str,
    name: str | None = None,
    precision: str = AUTO,
    memory: str | int | None = None,
) -> System:
    """The system that the model in `folder` belongs to, loaded; ConfigError if it belongs to none.

    name: what the user called the model, which tells an X-ALMA from an ALMA. precision: "auto", or one of
    `dragoman.kernels.packing.PRECISIONS`. memory: what weights and decoding may take, as bytes or "12GB".
    """
    model_type = "llama" if _is_adapter(folder) else read_config(folder).get("model_type")
    if model_type in (DENSE, MOE):
        from dragoman.systems.nllb import NllbSystem

        return NllbSystem.load(folder, device, precision, memory)
    if model_type in LLAMAS:
        from dragoman.systems.xalma import XalmaSystem

        return XalmaSystem.load(folder, device, name, precision, memory)
    known = ", ".join(map(repr, (DENSE, MOE, *LLAMAS)))
    raise ConfigError(f"{folder}: model_type is {model_type!r}; models of these types are known: {known}")


def _is_adapter(folder: Path) -> bool:
    return (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file()
