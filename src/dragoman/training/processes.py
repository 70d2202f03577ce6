"""Several processes that train one model together: torchrun starts them, gradients are added up.

Every process makes the same batches and takes its share of them, and all have the same weights at any time.
So a run does what one process would do with as many times the accumulation.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

Item = TypeVar("Item")
BUCKET = 25_000_000
"""Numbers sent at a time."""


@dataclass(frozen=True)
class Processes:
    """This process among those that train together; by itself alone."""

    rank: int = 0
    count: int = 1
    device: torch.device | None = None
    """Where this process computes; None for the accelerator if there is one."""

    @classmethod
    def joined(cls) -> "Processes":
        """Those that torchrun has started, connected with each other: by NCCL on GPUs, by gloo else."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return cls()
        local = int(os.environ.get("LOCAL_RANK", "0"))
        on_gpus = torch.cuda.is_available()
        device = torch.device("cuda", local) if on_gpus else torch.device("cpu")
        if on_gpus:
            torch.cuda.set_device(device)
        if not distributed.is_initialized():
            distributed.init_process_group("nccl" if on_gpus else "gloo")
        return cls(distributed.get_rank(), distributed.get_world_size(), device)

    @property
    def is_first(self) -> bool:
        """Whether it is this one that writes."""
        return self.rank == 0

    def share(self, batches: Sequence[Item]) -> Sequence[Item]:
        """What this process computes of an update's batches."""
        return batches[self.rank :: self.count]

    def add_gradients_(self, parameters: Sequence[nn.Parameter]) -> None:
        """Make the gradients the sums over all processes; without one anywhere a parameter stays without.

        parameters: those that every process has whole.
        """
        if self.count == 1 or not parameters:
            return
        device = parameters[0].device
        present = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32, device=device)
        distributed.all_reduce(present, distributed.ReduceOp.MAX)
        wanted = [p for p, there in zip(parameters, present.tolist(), strict=True) if there]
        for bucket in _buckets(wanted):
            flat = torch.cat([_gradient(parameter).flatten() for parameter in bucket])
            distributed.all_reduce(flat)
            parts = flat.split([parameter.numel() for parameter in bucket])
            for parameter, part in zip(bucket, parts, strict=True):
                parameter.grad = part.view_as(parameter)

    def add_figures(self, figures: dict[str, float]) -> dict[str, float]:
        """The sums over all processes, in double precision; every process has the same names."""
        if self.count == 1:
            return figures
        device = self.device or torch.device("cpu")
        values = torch.tensor(list(figures.values()), dtype=torch.float64, device=device)
        distributed.all_reduce(values)
        return dict(zip(figures, values.tolist(), strict=True))

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Inside, the first process goes before all others: what it writes they find."""
        if self.count > 1 and not self.is_first:
            distributed.barrier()
        yield
        if self.count > 1 and self.is_first:
            distributed.barrier()

    def close(self) -> None:
        """Wait for the others and part."""
        if self.count > 1:
            distributed.barrier()
            distributed.destroy_process_group()


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Of one dtype each, up to BUCKET numbers or one parameter."""
    bucket: list[nn.Parameter] = []
    size = 0
    for parameter in parameters:
        if bucket and (size + parameter.numel() > BUCKET or parameter.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += parameter.numel()
    if bucket:
        yield bucket
