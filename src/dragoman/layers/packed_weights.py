"""A packed model's weights by name, as the native runtime asks for them (`native.weights.Weights`)."""

import torch
from torch import nn

from dragoman.errors import CheckpointError
from dragoman.kernels.arrays import Array
from dragoman.kernels.head import Embedding, Head
from dragoman.kernels.library import kernels
from dragoman.kernels.linear import Linear
from dragoman.layers.lora import AdaptedProjections
from dragoman.layers.packed import PackedEmbedding, PackedHead, PackedLinear


class ModuleWeights:
    """Those of a PyTorch model, in the same memory. Picklable, as the model is."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def linear(self, name: str) -> Linear:
        return _linear(self.model.get_submodule(name), name)

    def vector(self, name: str) -> Array:
        return self.model.get_parameter(name).detach().to(torch.float32).contiguous().numpy()

    def embedding(self, name: str) -> Embedding:
        module = self.model.get_submodule(name)
        if not isinstance(module, PackedEmbedding):
            raise _unpacked(name, module)
        return module.kernel()

    def head(self, name: str) -> Head:
        module = self.model.get_submodule(name)
        if not isinstance(module, PackedHead):
            raise _unpacked(name, module)
        return module.kernel()

    def module(self, name: str, group: int) -> tuple[Linear, Linear] | None:
        place, _, projection = name.rpartition(".")
        parent = self.model.get_submodule(place)
        assert isinstance(parent, AdaptedProjections)
        pair = parent.module_pair(projection.removesuffix("_proj"), group)
        return None if pair is None else (_linear(pair[0], name), _linear(pair[1], name))

    def experts(self, side: str) -> None:
        """None: all of them are in memory."""


def fit_for_kernels(model: nn.Module) -> bool:
    """Whether a model is packed, in the CPU's memory, and there are kernels."""
    head = model.get_submodule("lm_head")
    return kernels() is not None and isinstance(head, PackedHead) and head.linear.data.device.type == "cpu"


def _linear(module: nn.Module, name: str) -> Linear:
    if isinstance(module, nn.Linear):  # a router, which stays as it is in the model
        module = PackedLinear.of(module, "fp32", name)
    if not isinstance(module, PackedLinear):
        raise _unpacked(name, module)
    return module.kernel()


def _unpacked(name: str, module: nn.Module) -> CheckpointError:
    return CheckpointError(
        f"{name} is a {type(module).__name__}, which can't run in the kernels; pack_ the model"
    )
