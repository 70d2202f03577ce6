"""Where and how a model runs: device, precision, code and memory, decided together when it is loaded."""

from dataclasses import dataclass
from typing import Any

import torch

from dragoman.errors import InvalidOption, NotEnoughMemory
from dragoman.generation.scores import ROWS
from dragoman.kernels.library import forced, kernels
from dragoman.kernels.packing import PRECISIONS
from dragoman.limits import memory_limit, parse_size, written_size
from dragoman.models.llama import Llama
from dragoman.models.nllb import Nllb
from dragoman.native.llama import NativeLlama
from dragoman.native.nllb import NativeNllb
from dragoman.surgery.packing import pack_, packed_bytes

AUTO = "auto"
USUAL = 2 / 3
"""How much of what there is a model and its work take, if nobody says how much they may."""
WEIGHTS = 3 / 4
"""How much of this the weights may take, if nobody says in which precision: half of the computer's memory."""
WORK = 3 / 8
"""How much of it decoding takes at the most; more would make it no faster."""
FLOATS = {"fp32": torch.float32, "fp16": torch.float16}


@dataclass
class Budget:
    """How the memory is shared out, in bytes. What Python and PyTorch take themselves comes on top."""

    most: int
    """What nothing may exceed: what was asked for, or all there is."""
    usual: int
    """What is to be used."""
    weights: int
    least: int
    """What decoding a sentence of usual length takes."""
    modules: int = 0
    """What language modules take that came after the weights."""

    @property
    def work(self) -> int:
        """What is left for keys, values and scores."""
        free = min(int(WORK * self.usual), self.usual - self.weights - self.modules)
        return max(free, self.least)

    def take_module(self, size: int, name: str) -> None:
        """Set memory aside for a language module; NotEnoughMemory if there is none."""
        needed = self.weights + self.modules + size + self.least
        if needed > self.most:
            raise NotEnoughMemory(
                f"{name} takes {written_size(size)}, but of {written_size(self.most)} the weights take "
                f"{written_size(self.weights)}, other modules {written_size(self.modules)} and a sentence at "
                f"work {written_size(self.least)}. Allow for more memory (--memory), or take a lower "
                "precision (--precision)"
            )
        self.modules += size


@dataclass(frozen=True)
class Placement:
    """How a model is to run."""

    device: str
    precision: str
    """One of PRECISIONS."""
    packs: bool
    """Whether its weights are packed; otherwise PyTorch runs them as they are."""
    budget: Budget


def check(precision: str, memory: str | int | None) -> None:
    """InvalidOption for what `place` doesn't know, before anything slow is done."""
    if precision not in (AUTO, *PRECISIONS):
        raise InvalidOption(
            f"precision is {precision!r}; it must be {AUTO} or one of {', '.join(PRECISIONS)}"
        )
    if memory is not None:
        parse_size(memory)


def place(
    model: Nllb | Llama, device: str = "cpu", precision: str = AUTO, memory: str | int | None = None
) -> Placement:
    """How a model runs on `device`, given that its weights are as stored, and in their file if possible.

    precision: "auto" or one of PRECISIONS. "auto" is the most exact one whose weights fill at most
    half of the memory, and on an accelerator at the most fp16. memory: what weights, language modules
    and decoding may take together, as a number of bytes or "12GB"; None: two thirds of what there
    is, and more if the weights need it. Raises InvalidOption, and NotEnoughMemory if the model doesn't fit.
    """
    check(precision, memory)
    limit = _limit(torch.device(device))
    most = limit if memory is None else parse_size(memory)
    if most > limit:
        raise InvalidOption(
            f"memory is {written_size(most)}, but there are only {written_size(limit)} for this process"
        )
    usual = int(USUAL * limit) if memory is None else most
    on_cpu = torch.device(device).type == "cpu"
    least = _least(model)
    choices = [precision] if precision != AUTO else list(PRECISIONS if on_cpu else PRECISIONS[1:])
    plans = {each: _packs(each, on_cpu) for each in choices}
    sizes = {each: _size(model, each, packs) for each, packs in plans.items()}
    roomy = (each for each in choices if sizes[each] <= min(WEIGHTS * usual, most - least))
    chosen = next(roomy, choices[-1])
    if sizes[chosen] + least > most:
        raise NotEnoughMemory(_refusal(model, sizes[chosen], chosen, least, most, memory is not None))
    if memory is None and sizes[chosen] > WEIGHTS * usual:
        usual = most  # a large model was asked for, so it may have what there is
    return Placement(device, chosen, plans[chosen], Budget(most, usual, sizes[chosen], least))


def prepare(model: Nllb | Llama, placement: Placement) -> Any:
    """What generates with a model placed so: itself, or its native twin. Its weights change in place."""
    dtype = None if placement.packs else FLOATS[placement.precision]
    for parameter in model.parameters():  # one after the other, from the file to the device
        parameter.data = parameter.data.to(placement.device, dtype or parameter.dtype)
    model.to(placement.device)
    if not placement.packs:
        return model
    pack_(model, placement.precision)
    if isinstance(model, Nllb):
        return NativeNllb.of(model) if NativeNllb.supports(model) else model
    return NativeLlama.of(model) if NativeLlama.supports(model) else model


def _packs(precision: str, on_cpu: bool) -> bool:
    if not on_cpu:
        return precision not in FLOATS
    # Without a processor's vectors, or in one thread, exact models are slower in the kernels than in
    # PyTorch; they run there if the kernels are asked for by name.
    native = kernels()
    fast = native is not None and (forced() or (native.parallel and native.isa != "plain"))
    return precision != "fp32" or fast


def _size(model: Nllb | Llama, precision: str, packs: bool) -> int:
    if packs:
        return packed_bytes(model, precision)
    return FLOATS[precision].itemsize * sum(parameter.numel() for parameter in model.parameters())


def _least(model: Nllb | Llama) -> int:
    """Bytes for one sentence: its keys in single precision, and all scores of a few rows some times over."""
    itemsize = next(model.parameters()).dtype.itemsize
    keys = model.state_bytes(64, 64, 4) * 4 // itemsize
    return keys + 4 * ROWS * model.config.vocab_size * 4


def _limit(device: torch.device) -> int:
    """Bytes that can be had on a device."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else memory_limit()


def work_memory(device: torch.device) -> int | None:
    """Bytes for decoding with a model that nobody has placed: half of an accelerator's that are free.

    None where the computer's memory is the device's, whose share `Engine` knows.
    """
    return _limit(device) // 2 if device.type == "cuda" else None


def _refusal(model: Nllb | Llama, size: int, precision: str, least: int, most: int, asked: bool) -> str:
    text = (
        f"in {precision} the weights take {written_size(size)}, and a sentence at work "
        f"{written_size(least)}; {'memory allows for' if asked else 'there are'} {written_size(most)}"
    )
    lower = {each: packed_bytes(model, each) for each in PRECISIONS[PRECISIONS.index(precision) + 1 :]}
    fits = [f"{each} ({written_size(its)})" for each, its in lower.items() if its + least <= most]
    if fits:
        return f"{text}. What fits is {' or '.join(fits)}"
    allow = "allow for more memory (--memory)" if asked else "take a computer with more memory"
    return f"{text}. Nothing lower fits either: {allow}, or a smaller model"
