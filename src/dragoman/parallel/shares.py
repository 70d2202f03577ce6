"""What each rank has of a model: which experts, heads, rows and columns. No PyTorch, no tensors."""

from dataclasses import replace

from dragoman.errors import InvalidOption, Shape
from dragoman.models.config import NllbConfig
from dragoman.models.llama_config import LlamaConfig
from dragoman.models.shapes import nllb_shapes

BY_OUTPUTS = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
"""Projections of which a rank has some of the outputs: heads, or numbers between the two halves of an MLP."""
BY_INPUTS = ("o_proj", "down_proj")
"""Projections that read what the former made, of which a rank has those inputs; results are added up."""
TABLES = ("embed_tokens", "lm_head")
"""Of which a rank has the rows of some tokens."""


def check_shares(config: NllbConfig | LlamaConfig, count: int) -> None:
    """InvalidOption if so many ranks can't have equal parts of a model of this config."""
    if isinstance(config, NllbConfig):
        if not config.is_sparse:
            raise InvalidOption(
                "parallel=True shares experts, or a Llama's matrices, between ranks, and this model has "
                "neither; run it without, once in each process"
            )
        counts = {f"{side} experts": config.experts(side) for side in sides(config)}
    else:
        counts = {
            "attention heads": config.num_attention_heads,
            "key heads": config.num_key_value_heads,
            "numbers between an MLP's halves": config.intermediate_size,
        }
    for name, number in counts.items():
        if number % count:
            raise InvalidOption(
                f"{count} ranks can't have equal shares of this model's {number} {name}; start "
                f"{_choices(list(counts.values()))} (--nproc-per-node)"
            )


def own_experts(experts: int, rank: int, count: int) -> range:
    """The experts of a layer that a rank has."""
    return own_part(experts, rank, count)


def own_part(number: int, rank: int, count: int) -> range:
    """A rank's run of so many things; the first ones have one more where they can't be shared evenly."""
    each, more = divmod(number, count)
    first = rank * each + min(rank, more)
    return range(first, first + each + (rank < more))


def own_names(config: NllbConfig, rank: int, count: int) -> set[str]:
    """The parameters of an NLLB that a rank has: all but other ranks' experts."""
    found = set()
    for name in nllb_shapes(config):
        expert = _expert_of(name)
        if expert is None or expert in own_experts(config.experts(name.split(".")[0]), rank, count):
            found.add(name)
    return found


def slimmer(config: LlamaConfig, count: int) -> LlamaConfig:
    """The config of a Llama with one rank's heads, and its part of the MLP's width."""
    return replace(
        config,
        num_attention_heads=config.num_attention_heads // count,
        num_key_value_heads=config.num_key_value_heads // count,
        intermediate_size=config.intermediate_size // count,
    )


def as_large(config: NllbConfig | LlamaConfig, count: int) -> NllbConfig | LlamaConfig:
    """The config of a model that is as large as the largest rank's part of this one."""
    if isinstance(config, LlamaConfig):
        return replace(slimmer(config, count), vocab_size=-(-config.vocab_size // count))
    experts = {f"{side}_experts": max(2, config.experts(side) // count) for side in sides(config)}
    return replace(config, **experts)  # type: ignore[arg-type]


def sides(config: NllbConfig) -> list[str]:
    """The sides of an NLLB that have experts."""
    return [side for side in ("encoder", "decoder") if config.sparse_layers(side)]


def cut(name: str, shape: Shape, rank: int, count: int) -> tuple[range | None, range | None]:
    """Which rows and which columns of a Llama's parameter, or of a module's side of one, a rank has.

    None: all of them. Of a module's A [rank of the module, in] those are the columns of a projection that is
    shared by inputs, of B [out, rank of the module] the rows of one that is shared by outputs.
    """
    *_, owner, leaf = name.split(".")
    by_outputs, by_inputs = owner in (*BY_OUTPUTS, *TABLES), owner in BY_INPUTS
    rows = own_part(shape[0], rank, count) if by_outputs and leaf != "A" else None
    columns = own_part(shape[1], rank, count) if by_inputs and len(shape) == 2 and leaf != "B" else None
    return rows, columns


def _expert_of(name: str) -> int | None:
    """The number of the expert that a parameter belongs to."""
    _, _, behind = name.partition(".experts.expert_")
    return int(behind.partition(".")[0]) if behind else None


def _choices(counts: list[int]) -> str:
    found = [number for number in range(2, max(counts) + 1) if not any(each % number for each in counts)]
    return f"{', '.join(map(str, found[:6]))} of them" if found else "only one of them"
