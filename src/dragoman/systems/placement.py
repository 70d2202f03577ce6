"""Where and how a model runs: device, precision, code and memory, decided together before it is loaded."""

from dataclasses import dataclass
from math import prod

from dragoman.checkpoints.packing import packed_bytes
from dragoman.errors import InvalidOption, NotEnoughMemory
from dragoman.generation.scores import ROWS
from dragoman.kernels.library import forced, kernels, needed
from dragoman.kernels.packing import PRECISIONS
from dragoman.limits import memory_limit, parse_size, written_size
from dragoman.models.config import NllbConfig
from dragoman.models.llama_config import LlamaConfig
from dragoman.models.shapes import llama_shapes, nllb_shapes
from dragoman.native.llama import turns_alone
from dragoman.native.nllb import routes_simply
from dragoman.store.pieces import PAGE
from dragoman.systems.devices import CPU, free_memory, has_pytorch

Config = NllbConfig | LlamaConfig

AUTO = "auto"
USUAL = 2 / 3
"""How much of what there is a model and its work take, if nobody says how much they may."""
MOST = 4 / 5
"""How much of it a model and its work take that is too large to be there as a whole."""
WEIGHTS = 3 / 4
"""How much of this the weights may take, if nobody says in which precision: half of the computer's memory."""
WORK = 3 / 8
"""How much of it decoding takes at the most; more would make it no faster."""
PLAIN = {"fp32": 4, "fp16": 2}
"""In which precisions weights can stay as they are, and the bytes of a number."""
SPARE = 32
"""Positions for which a cache has room beyond those in use."""


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
    is_native: bool
    """Whether the kernels run it, without PyTorch."""
    budget: Budget
    experts: int | None = None
    """Bytes for experts, if they don't all fit and are read when they are needed."""


def check(precision: str, memory: str | int | None) -> None:
    """InvalidOption for what `place` doesn't know, before anything slow is done."""
    if precision not in (AUTO, *PRECISIONS):
        raise InvalidOption(
            f"precision is {precision!r}; it must be {AUTO} or one of {', '.join(PRECISIONS)}"
        )
    if memory is not None:
        parse_size(memory)


def place(
    config: Config, device: str = "cpu", precision: str = AUTO, memory: str | int | None = None
) -> Placement:
    """How a model of this config runs on `device`, "cpu" or one of PyTorch's.

    precision: "auto" or one of PRECISIONS. "auto" is the most exact one whose weights fill at most
    half of the memory, and on an accelerator at the most fp16. memory: what weights, language modules
    and decoding may take together, as a number of bytes or "12GB"; None: two thirds of what there
    is, and more if the weights need it. Raises InvalidOption, and NotEnoughMemory if the model doesn't fit.
    """
    check(precision, memory)
    most, usual = _memory(device, memory)
    on_cpu = device.partition(":")[0] == "cpu"
    least = _least(config)
    choices = [precision] if precision != AUTO else list(PRECISIONS if on_cpu else PRECISIONS[1:])
    plans = {each: _packs(each, on_cpu) for each in choices}
    sizes = {each: _size(config, each, packs) for each, packs in plans.items()}
    roomy = (each for each in choices if sizes[each] <= min(WEIGHTS * usual, most - least))
    chosen = next(roomy, choices[-1])
    if sizes[chosen] + least > most:
        raise NotEnoughMemory(_refusal(config, sizes[chosen], chosen, least, most, memory is not None))
    if memory is None and sizes[chosen] > WEIGHTS * usual:
        usual = most  # a large model was asked for, so it may have what there is
    is_native = plans[chosen] and on_cpu and kernels() is not None and suits(config)
    return Placement(device, chosen, plans[chosen], is_native, Budget(most, usual, sizes[chosen], least))


def place_packed(
    config: Config,
    stored: str,
    size: int,
    device: str,
    precision: str = AUTO,
    memory: str | int | None = None,
    experts: tuple[int, int] = (0, 0),
) -> Placement:
    """How a model runs whose weights are files for the kernels: in the precision that they are `stored` in.

    size: what they take, in bytes; experts: how many of these bytes are experts', and how many experts there
    are. Those that don't fit are read when they are needed. Raises InvalidOption where nothing can run the
    weights so, or another precision is asked for, and NotEnoughMemory.
    """
    check(precision, memory)
    again = "convert the model anew (dragoman convert), or give the one that this was made from"
    if precision not in (AUTO, stored):
        raise InvalidOption(f"precision is {precision}, but the model is packed in {stored}; {again}")
    if device.partition(":")[0] != CPU:
        raise InvalidOption(
            f"device is {device!r}, but a packed model runs on the CPU alone; take device 'cpu', or give the "
            "model that this was made from"
        )
    needed()
    if not suits(config):
        raise InvalidOption(f"the kernels don't know all that this packed model does; {again}")
    most, usual = _memory(device, memory)
    least = _least(config)
    if size + least <= most:
        if memory is None and size > WEIGHTS * usual:
            usual = most
        return Placement(device, stored, True, True, Budget(most, usual, size, least))
    if memory is None:
        usual = int(MOST * most)
    rest, (expert_bytes, count) = size - experts[0], experts
    fewest = 2 * (expert_bytes // count + PAGE) if count else 0
    spare = usual - rest - least
    if not count or spare < fewest:
        also = f", two experts {written_size(fewest)}" if count else ""
        raise NotEnoughMemory(
            f"the packed weights take {written_size(rest)} in {stored}{also} and a sentence at work "
            f"{written_size(least)}; there are {written_size(usual)} for all of it. Convert the model in a "
            "lower precision (dragoman convert), or allow for more memory (--memory)"
        )
    # Some more for sentences, so that several can be at work together.
    room = max(fewest, spare - max(0, usual // 10 - least))
    return Placement(device, stored, True, True, Budget(most, usual, rest + room, least), room)


def _memory(device: str, asked: str | int | None) -> tuple[int, int]:
    """The most that may be used on a device, and what is to be used, in bytes."""
    limit = _limit(device)
    most = limit if asked is None else parse_size(asked)
    if most > limit:
        raise InvalidOption(
            f"memory is {written_size(most)}, but there are only {written_size(limit)} for this process"
        )
    return most, int(USUAL * limit) if asked is None else most


def _packs(precision: str, on_cpu: bool) -> bool:
    if not on_cpu:
        return precision not in PLAIN
    # Without a processor's vectors, or in one thread, exact models are slower in the kernels than in
    # PyTorch; they run there if the kernels are asked for by name, or there is no PyTorch.
    native = kernels()
    fast = native is not None and (
        forced() or (native.parallel and native.isa != "plain") or not has_pytorch()
    )
    return precision != "fp32" or fast


def suits(config: Config) -> bool:
    """Whether the kernels know all that a model of this config does."""
    return routes_simply(config) if isinstance(config, NllbConfig) else turns_alone(config)


def _size(config: Config, precision: str, packs: bool) -> int:
    if packs:
        return packed_bytes(config, precision)
    shapes = nllb_shapes(config) if isinstance(config, NllbConfig) else llama_shapes(config)
    return PLAIN[precision] * sum(map(prod, shapes.values()))


def _least(config: Config) -> int:
    """Bytes for one sentence: its keys in single precision, and all scores of a few rows some times over."""
    if isinstance(config, NllbConfig):
        layers, width = config.decoder_layers, config.d_model
    else:
        layers, width = config.num_hidden_layers, config.num_key_value_heads * config.head_dim
    beams, positions = 4, 64 + 4 * (64 + SPARE)
    numbers = 2 * layers * positions * width + beams * config.vocab_size
    return 4 * (numbers + 4 * ROWS * config.vocab_size)


def _limit(device: str) -> int:
    """Bytes that can be had on a device."""
    if not device.startswith("cuda"):
        return memory_limit()
    return free_memory(device)


def _refusal(config: Config, size: int, precision: str, least: int, most: int, asked: bool) -> str:
    text = (
        f"in {precision} the weights take {written_size(size)}, and a sentence at work "
        f"{written_size(least)}; {'memory allows for' if asked else 'there are'} {written_size(most)}"
    )
    lower = {each: packed_bytes(config, each) for each in PRECISIONS[PRECISIONS.index(precision) + 1 :]}
    fits = [f"{each} ({written_size(its)})" for each, its in lower.items() if its + least <= most]
    if fits:
        return f"{text}. What fits is {' or '.join(fits)}"
    allow = "allow for more memory (--memory)" if asked else "take a computer with more memory"
    return f"{text}. Nothing lower fits either: {allow}, or a smaller model"
