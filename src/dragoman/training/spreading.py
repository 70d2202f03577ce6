"""Weights that are spread over the processes of a run: fully sharded data parallelism, layer by layer.

Each process keeps its part of every layer's weights, gradients and optimizer state (torch's `fully_shard`;
stage 3 of ZeRO, arXiv 1910.02054). A layer's weights are put together when it computes, and its gradients are
added up and parted again at once. What is outside of layers (embeddings, the output layer, last norms) every
process has whole.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from dragoman.layers.moe import Routing, SparseMLP
from dragoman.training.processes import Processes
from dragoman.training.recomputation import layers_of


def spread_(model: nn.Module, processes: Processes) -> None:
    """Leave this process its part of every layer, on its device; with one process nothing changes."""
    if processes.count == 1:
        return
    device = processes.device or torch.device("cpu")
    mesh = init_device_mesh(device.type, (processes.count,))
    give_gradients_to_idle_experts_(model)
    for layer in layers_of(model):
        sharded: Any = fully_shard(layer, mesh=mesh, reshard_after_forward=True)
        # Losses are divided by the counts of all processes already: gradients are sums.
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)  # gloo has no scaled sums


def give_gradients_to_idle_experts_(model: nn.Module) -> None:
    """Have experts without tokens get a gradient of zero: all processes need one of the same weights."""
    for module in model.modules():
        if isinstance(module, SparseMLP):
            module.register_forward_hook(_with_idle_experts)


def _with_idle_experts(
    module: SparseMLP, inputs: tuple[Tensor, ...], output: tuple[Tensor, Routing]
) -> tuple[Tensor, Routing]:
    mixed, routing = output
    if not torch.is_grad_enabled():
        return output
    nothing = inputs[0].reshape(-1, inputs[0].shape[-1])[:0]
    idle = [expert(nothing).sum() for expert in module.experts.values()]
    return mixed + torch.stack(idle).sum().to(mixed.dtype), routing


def is_spread(tensor: Tensor) -> bool:
    """Whether this process has only a part of it."""
    return isinstance(tensor, DTensor)


def kept_of(model: nn.Module) -> tuple[int, int]:
    """How many of a model's weights this process has, and how many there are."""
    local = (p.to_local() if isinstance(p, DTensor) else p for p in model.parameters())
    return sum(part.numel() for part in local), sum(p.numel() for p in model.parameters())


def square_of(tensors: Iterable[Tensor]) -> Tensor:
    """The sum of all squares of tensors of which each process has a part."""
    parts = [tensor.to_local() for tensor in tensors if isinstance(tensor, DTensor)]
    square = torch.stack([part.float().square().sum() for part in parts]).sum()
    torch.distributed.all_reduce(square)
    return square


def gathered(state: Any, keep: bool) -> Any:
    """A tree of dicts, lists and tensors with whole tensors, in main memory; all processes must call it.

    keep: whether this process wants them; if not, there is None for each that was spread.
    """
    if isinstance(state, DTensor):
        whole = state.full_tensor()
        return whole.cpu() if keep else None
    if isinstance(state, Mapping):
        return {name: gathered(value, keep) for name, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(gathered(value, keep) for value in state)
    return state


def like(whole: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor as a parameter of its shape is: this process's part of it, if that one is spread.

    All processes have the same tensor: none is sent.
    """
    if not isinstance(parameter, DTensor) or whole.shape != parameter.shape:
        return whole
    moved = whole.to(parameter.to_local().device)
    part = distribute_tensor(moved, parameter.device_mesh, parameter.placements, src_data_rank=None)
    return part.clone()  # else it would be a view, and the whole one would stay


def put_together_(model: nn.Module, keep: bool) -> None:
    """Give the model whole weights where `keep`, to be saved; it can't compute any more. All must call it."""
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if isinstance(parameter, DTensor):
                whole = gathered(parameter.detach(), keep)
                if keep:
                    setattr(module, name, nn.Parameter(whole, parameter.requires_grad))
