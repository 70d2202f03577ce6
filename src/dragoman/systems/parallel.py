"""A model that several processes share: rank 0 has the system, the others work for it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from dragoman.checkpoints.nllb_files import NllbFiles
from dragoman.checkpoints.packed_folders import PackedModel
from dragoman.errors import InvalidOption, NotEnoughMemory, RankFailed
from dragoman.kernels.threads import chosen
from dragoman.limits import memory_limit, parse_size, written_size
from dragoman.parallel.leading import Leader, Rank, follow
from dragoman.parallel.loading import PartModules, load_llama_part, load_nllb_part
from dragoman.parallel.ranks import Ranks
from dragoman.parallel.shares import check_shares, numbers, share_of
from dragoman.parallel.spread import SpreadNllb
from dragoman.systems.base import System
from dragoman.systems.devices import CPU, free_memory
from dragoman.systems.placement import AUTO, PLAIN, USUAL, Budget, Placement, check, least_work
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
        plan = kind.plan(folder, ranks.device.type, *arguments, precision, memory, partial(_place, ranks))
        rank = _load(plan.files, ranks, plan.placement.precision)
    if not ranks.is_first:
        follow(ranks, rank)
        raise SystemExit(0)
    leader = Leader(ranks, rank)
    placement = plan.placement
    system: System
    if isinstance(plan.files, NllbFiles):
        system = kind(leader, plan.tokenizer, plan.card, placement.precision, placement.budget.work)
    else:
        attaching = _LedModules(leader, rank)
        system = kind(
            leader, plan.tokenizer, plan.card, plan.style, attaching, placement.precision, placement.budget
        )
    return system


def _load(files: Any, ranks: Ranks, precision: str) -> Rank:
    """This rank's part, read."""
    import torch

    if (count := chosen()) is not None:
        torch.set_num_threads(count)
    dtype = FLOATS[precision]
    if isinstance(files, NllbFiles):
        return Rank(SpreadNllb(load_nllb_part(files, ranks, dtype), ranks))
    model = load_llama_part(files, ranks, dtype)
    return Rank(model, PartModules(model, files.config, ranks))


def _place(ranks: Ranks, opened: Any, device: str, precision: str, memory: str | int | None) -> Placement:
    """How each rank runs its part; `placement.place` explains the arguments."""
    if isinstance(opened, PackedModel):
        raise InvalidOption(
            "parallel=True shares models as they were published, and this one is packed; give the one that "
            "it was made from"
        )
    check_shares(opened.config, ranks.count)
    if precision == AUTO:
        precision = "fp32" if device == CPU else "fp16"
    if precision not in (PLAIN if device != CPU else ("fp32",)):
        choices = "fp32" if device == CPU else "fp32 or fp16"
        raise InvalidOption(f"precision is {precision!r}; ranks on this device work in {choices}")
    there = _memory(ranks)
    most = there if memory is None else parse_size(memory)
    if most > there:
        raise InvalidOption(
            f"memory is {written_size(most)}, but there are only {written_size(there)} for each rank"
        )
    weights = PLAIN[precision] * numbers(share_of(opened.config, ranks.rank, ranks.count))
    least = least_work(opened.config)
    if weights + least > most:
        raise NotEnoughMemory(
            f"in {precision} a rank's part of the weights takes {written_size(weights)}, and a sentence at "
            f"work {written_size(least)}; there are {written_size(most)} for each of {ranks.count} ranks. "
            "Start more ranks, on more computers or GPUs"
        )
    usual = most if memory is not None else max(int(USUAL * most), min(most, weights + 2 * least))
    return Placement(device, precision, False, False, Budget(most, usual, weights, least))


def _memory(ranks: Ranks) -> int:
    """What there is for this rank: a GPU's, or its share of what its computer has."""
    if ranks.device.type != CPU:
        return free_memory(str(ranks.device))
    return memory_limit() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


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
