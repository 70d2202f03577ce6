"""Models that PyTorch runs: on accelerators, without kernels, and where the kernels lack something."""

import torch

from dragoman.kernels.threads import chosen
from dragoman.models.llama import Llama
from dragoman.models.nllb import Nllb
from dragoman.surgery.language_modules import attach_, detach_
from dragoman.surgery.module_reading import ReadModule, read_module
from dragoman.surgery.packing import pack_
from dragoman.systems.placement import Placement

FLOATS = {"fp32": torch.float32, "fp16": torch.float16}


def prepare_(model: Nllb | Llama, placement: Placement) -> None:
    """Bring a model's weights where and into what they are to be, in place."""
    if (count := chosen()) is not None:
        torch.set_num_threads(count)
    dtype = None if placement.packs else FLOATS[placement.precision]
    for parameter in model.parameters():  # one after the other, from the file to the device
        parameter.data = parameter.data.to(placement.device, dtype or parameter.dtype)
    model.to(placement.device)
    if placement.packs:
        pack_(model, placement.precision)


class PlainModules:
    """The language modules of a PyTorch model."""

    def __init__(self, model: Llama) -> None:
        self._model, self.language = model, model.model.language

    def read(self, group: int) -> ReadModule:
        """Read one, while the model may be at work."""
        return read_module(self._model, group)

    def attach(self, group: int, module: ReadModule) -> None:
        """Between two steps."""
        attach_(self._model, group, module)

    def detach(self, group: int) -> None:
        """Between two steps."""
        detach_(self._model, group)
