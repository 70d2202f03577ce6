"""A model that several processes share: rank 0 has the system, the others work for it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dragoman.checkpoints.nllb_files import NllbFiles
from dragoman.checkpoints.packed_folders import PackedModel
from dragoman.errors import InvalidOption, NotEnoughMemory, RankFailed
from dragoman.kernels.threads import chosen
from dragoman.limits import memory_limit
from dragoman.models.config import NllbConfig
from dragoman.parallel.leading import Leader, Rank, follow
from dragoman.parallel.loading import PartModules, load_llama_part, load_nllb_part
from dragoman.parallel.packed import load_packed_part
from dragoman.parallel.ranks import Ranks
from dragoman.parallel.shares import as_large, check_shares
from dragoman.parallel.spread import SpreadNllb
from dragoman.surgery.packing import pack_, pack_linears_
from dragoman.systems.base import System
from dragoman.systems.devices import CPU
from dragoman.systems.placement import AUTO, MOST, Placement, check, place, place_packed
from dragoman.systems.plain import FLOATS


def load_parallel(
    kind: Any,
    folder: Path,
    device: str,
    arguments: tuple[str | None, ...],
    precision: str = AUTO,
    memory: str | int | None = None,
) -> System:
    """On rank 0 the system, whose model all ranks run. On another rank this does what rank 0 needs done until
    that closes its translator or ends, and then raises SystemExit.

    kind: the system's class, with the `arguments` that its `plan` takes beside these. memory: of each rank.
    Raises InvalidOption where ranks can't share the model, NotEnoughMemory, and RankFailed if another rank
    couldn't load its part.
    """
    check(precision, memory)
    ranks = Ranks.joined(device)
    with _agreeing(ranks):
        plan = kind.plan(folder, str(ranks.device), *arguments, precision, memory, partial(_place, ranks))
        rank = _load(plan.files, ranks, plan.placement)
    if not ranks.is_first:
        follow(ranks, rank)
        raise SystemExit(0)
    leader = Leader(ranks, rank)
    placement = plan.placement
    system: System
    if isinstance(plan.files.config, NllbConfig):
        system = kind(leader, plan.tokenizer, plan.card, placement.precision, placement.budget.work)
    else:
        attaching = _LedModules(leader, rank)
        system = kind(
            leader, plan.tokenizer, plan.card, plan.style, attaching, placement.precision, placement.budget
        )
    return system


def _load(files: Any, ranks: Ranks, placement: Placement) -> Rank:
    """This rank's part, read."""
    if (count := chosen()) is not None:
        torch.set_num_threads(count)
    if isinstance(files, PackedModel):
        return Rank(SpreadNllb(load_packed_part(files, ranks), ranks))
    packs = _packs(placement)
    dtype = None if packs else FLOATS[placement.precision]
    if isinstance(files, NllbFiles):
        nllb = load_nllb_part(files, ranks, dtype)
        if packs:
            pack_(nllb, placement.precision)
        return Rank(SpreadNllb(nllb, ranks))
    llama = load_llama_part(files, ranks, dtype)
    if packs:
        # Embedding and output layer are shared by tokens, and stay as they are with what is small.
        pack_linears_(llama.model, placement.precision)
        llama.float()
    return Rank(llama, PartModules(llama, files.config, ranks))


def _packs(placement: Placement) -> bool:
    """Whether weights are packed; in single precision they stay in the file as they are."""
    return placement.packs and placement.precision != "fp32"


def _place(ranks: Ranks, opened: Any, device: str, precision: str, memory: str | int | None) -> Placement:
    """How each rank runs its part; `placement.place` explains the arguments."""
    if isinstance(opened, PackedModel) and not isinstance(opened.config, NllbConfig):
        raise InvalidOption(
            "parallel=True can't cut packed matrices, and this model has no others; give the one that it was "
            "made from"
        )
    check_shares(opened.config, ranks.count)
    if memory is None and device == CPU:
        memory = int(MOST * memory_limit() / int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    try:
        if isinstance(opened, PackedModel):
            size = opened.bytes() - opened.expert_bytes() * (ranks.count - 1) // ranks.count
            return place_packed(opened.config, opened.precision, size, device, precision, memory)
        return place(as_large(opened.config, ranks.count), device, precision, memory)
    except NotEnoughMemory as error:
        raise NotEnoughMemory(
            f"of a part for each of {ranks.count} ranks, {error}; or more ranks, on more computers or GPUs"
        ) from None


@contextmanager
def _agreeing(ranks: Ranks) -> Iterator[None]:
    """Whatever fails inside on one rank fails on all; what fails on all alike is rank 0's to say."""
    try:
        yield
    except BaseException:
        failed = ranks.agree(True)
        if failed[0] and not ranks.is_first:
            raise SystemExit(2) from None
        raise
    failed = ranks.agree(False)
    if any(failed):
        numbers = ", ".join(str(rank) for rank, is_so in enumerate(failed) if is_so)
        raise RankFailed(f"rank {numbers} couldn't load its part of the model, and said why")


class _LedModules:
    """The language modules of a model that all ranks run."""

    def __init__(self, leader: Leader, rank: Rank) -> None:
        assert rank.modules is not None
        self._leader, self._own = leader, rank.modules
        self.language = rank.modules.language

    def read(self, group: int) -> Any:
        return self._own.read(group)

    def attach(self, group: int, module: Any) -> None:
        self._leader.attach(group, module)

    def detach(self, group: int) -> None:
        self._leader.detach(group)
