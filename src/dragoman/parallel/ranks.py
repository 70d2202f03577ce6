"""The processes that run a model together, one rank each, and what they send each other."""

import atexit
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed

from dragoman.errors import InvalidOption, RankFailed

EXAMPLE = "torchrun --nproc-per-node 2 -m dragoman translate --parallel ..."
PATIENCE = timedelta(days=14)
"""How long a rank waits to be told what to do: a translator may have nothing to do for a night."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that have parts of one model, all of which compute at the same time.

    Tensors that are sent are on `device`; every rank calls the same methods in the same order.
    """

    rank: int
    count: int
    device: torch.device
    orders: Any = None
    """The group over which rank 0 says what is to be done, and is told small results, on CPUs."""

    @classmethod
    def joined(cls, device: str = "auto") -> "Ranks":
        """The processes that torchrun has started, connected: by NCCL on GPUs, by gloo on CPUs.

        device: "cpu", "cuda" (each rank has the GPU of its number on its computer), or "auto". InvalidOption
        if torchrun hasn't started this process, or there are fewer GPUs than ranks.
        """
        if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
            raise InvalidOption(
                f"parallel=True is for processes that torchrun has started, as in {EXAMPLE}; this one wasn't"
            )
        place = _own_device(device)
        if not distributed.is_initialized():
            both = place.type == "cuda"
            distributed.init_process_group("cpu:gloo,cuda:nccl" if both else "gloo")
            atexit.register(_part)
        orders = distributed.new_group(backend="gloo", timeout=PATIENCE)
        return cls(distributed.get_rank(), distributed.get_world_size(), place, orders)

    @property
    def is_first(self) -> bool:
        """Whether it is this one that decides, reads and prints."""
        return self.rank == 0

    # Of layers, on the device

    def summed(self, x: Tensor) -> Tensor:
        """The sum over all ranks, of the same shape, which takes the place of `x`."""
        if self.count > 1:
            distributed.all_reduce(x)
        return x

    def exchange(self, rows: Tensor, sent: Sequence[int], taken: Sequence[int]) -> Tensor:
        """To each rank its run of `rows` [sum of sent, ...]; from each its run [sum of taken, ...], in order.

        sent, taken: how many rows go to each rank and come from it.
        """
        if self.count == 1:
            return rows
        found = rows.new_empty(sum(taken), *rows.shape[1:])
        distributed.all_to_all_single(found, rows.contiguous(), list(taken), list(sent))
        return found

    def joined_columns(self, part: Tensor, widths: Sequence[int]) -> Tensor:
        """On rank 0 the columns of all ranks side by side, [..., sum of widths]; on others their own again.

        part: [..., width of this rank].
        """
        if self.count == 1:
            return part
        whole = part.new_empty(*part.shape[:-1], max(widths))  # parts that are gathered have one shape
        whole[..., : part.shape[-1]] = part
        parts = [torch.empty_like(whole) for _ in widths] if self.is_first else None
        distributed.gather(whole, parts)
        if parts is None:
            return part
        return torch.cat([each[..., :width] for each, width in zip(parts, widths, strict=True)], -1)

    # Of orders and small results, on the host

    def broadcast(self, numbers: Tensor) -> Tensor:
        """Rank 0's `numbers` in the place of every rank's."""
        if self.count > 1:
            distributed.broadcast(numbers, 0, group=self.orders)
        return numbers

    def collected(self, own: np.ndarray, homes: np.ndarray) -> np.ndarray | None:
        """On rank 0 the rows of all ranks in their places; None on others.

        own: [rows of this rank, columns], all of one type; homes: [rows], the rank of each row.
        """
        if not self.is_first:
            if len(own):
                distributed.send(torch.from_numpy(np.ascontiguousarray(own)), 0, group=self.orders)
            return None
        whole = np.empty((len(homes), own.shape[1]), own.dtype)
        whole[homes == 0] = own
        for rank in range(1, self.count):
            places = homes == rank
            if places.any():
                part = torch.from_numpy(np.empty((int(places.sum()), own.shape[1]), own.dtype))
                distributed.recv(part, rank, group=self.orders)
                whole[places] = part.numpy()
        return whole

    def agree(self, failed: bool) -> list[bool]:
        """Which ranks have failed, told by each."""
        flags = torch.zeros(self.count, dtype=torch.int64)
        flags[self.rank] = int(failed)
        if self.count > 1:
            try:
                distributed.all_reduce(flags, group=self.orders)
            except RuntimeError as error:
                raise RankFailed.gone(error) from error
        return [bool(flag) for flag in flags.tolist()]

    def abandon(self) -> None:
        """Part without a word, so that nobody waits for this rank any more."""
        _part()


def _own_device(asked: str) -> torch.device:
    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "cpu"
    if asked == "cpu":
        return torch.device("cpu")
    if asked != "cuda":
        raise InvalidOption(
            f"device is {asked!r}; with parallel=True it must be cuda, of which each rank takes one, or cpu"
        )
    local, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= there:
        raise InvalidOption(
            f"device is 'cuda', but rank {local} of this computer finds {there} GPUs; start a rank for each "
            "GPU (--nproc-per-node), or take device 'cpu'"
        )
    device = torch.device("cuda", local)
    torch.cuda.set_device(device)
    return device


def _part() -> None:
    with suppress(Exception):
        if distributed.is_initialized():
            distributed.destroy_process_group()
