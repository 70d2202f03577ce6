"""Weights in another precision, in the order in which the native kernels read them."""

from functools import partial
from typing import TypeGuard

import torch
from torch import Tensor, nn

from dragoman.errors import InvalidOption
from dragoman.kernels.fine import FINE_FOR
from dragoman.kernels.packing import LARGEST, PRECISIONS, check_range, check_shape
from dragoman.layers.moe import RouterLinear
from dragoman.layers.packed import PackedEmbedding, PackedHead, PackedLinear, PackedTable, largest
from dragoman.models.llama import Llama
from dragoman.models.nllb import Nllb


@torch.no_grad()
def pack_(model: Nllb | Llama, precision: str) -> None:
    """Replace the linear layers, the embedding and the output layer by packed ones, for good.

    precision: "fp32" (exact), "fp16", "int8" or "int4". Routers stay as they are: they decide, and are small.
    The embedding stays exact in fp32 and is halved otherwise; NLLB's takes 12 bits a number in int8 and int4.
    A packed model is for inference; it can't be trained, merged or saved. Raises InvalidOption for another
    precision, a model that is packed already or a matrix that doesn't fit, and CheckpointError if a weight is
    NaN or infinite, all before anything is changed.
    """
    if precision not in PRECISIONS:
        raise InvalidOption(f"precision is {precision!r}; it must be one of {', '.join(PRECISIONS)}")
    if is_packed(model):
        raise InvalidOption("the model is packed already; load it again for another precision")
    _check(model, precision)
    if isinstance(model, Nllb):
        _pack_nllb(model, precision)
    else:
        _pack_llama(model, precision)
    # What stays (norms, routers) is small, and works in single precision. Copied, because a single
    # tensor that still lies in the checkpoint's file would keep all of it mapped.
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.float32, copy=True)


def _check(model: nn.Module, precision: str) -> None:
    """What `pack_` raises."""
    most = {id(p): (name, largest(p, name)) for name, p in model.named_parameters()}
    # The embedding's and the output layer's rows are exact, halved or in 12 bits, of which eight as in int8.
    fine = isinstance(model, Nllb) and precision in FINE_FOR
    table = "int8" if fine else "fp32" if precision == "fp32" else "fp16"
    head = model.get_submodule("lm_head")
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            name, value = most[id(module.weight)]
            check_shape(tuple(module.weight.shape), precision, name)
            if isinstance(module, nn.Embedding) or module is head:
                check_shape(tuple(module.weight.shape), table, name)
                check_range(value, table, name)
            if isinstance(module, nn.Linear):
                check_range(value, precision, name)


def is_packed(model: nn.Module) -> bool:
    """Whether `pack_` has been here."""
    return isinstance(model.get_submodule("lm_head"), PackedHead)


def precision_of(model: nn.Module) -> str | None:
    """What the linear layers are packed in; None if they aren't."""
    linears = (module for module in model.modules() if isinstance(module, PackedLinear))
    found = (module.precision for module in linears if not isinstance(module, PackedTable))
    return next(found, None) if is_packed(model) else None


def pack_linears_(module: nn.Module, precision: str) -> None:
    """Replace every linear layer below `module` but routers, one after the other."""
    for parent in list(module.modules()):
        if isinstance(parent, PackedHead):
            continue
        for name, child in list(parent.named_children()):
            if _is_packable(child):
                setattr(parent, name, PackedLinear.of(child, precision))


def _is_packable(module: nn.Module) -> TypeGuard[nn.Linear]:
    return isinstance(module, nn.Linear) and not isinstance(module, RouterLinear)


def _pack_nllb(model: Nllb, precision: str) -> None:
    pack_linears_(model.encoder, precision)
    pack_linears_(model.decoder, precision)
    scale = model.shared.embed_scale
    read = PackedTable.pack if precision in FINE_FOR else partial(_table, precision=precision)
    table = read(model.shared.weight)
    tied = model.lm_head.weight is model.shared.weight
    model.lm_head = _head(table if tied else read(model.lm_head.weight), precision)  # type: ignore[assignment]
    embedding = PackedEmbedding(table, scale)
    model.shared = model.encoder.embed_tokens = model.decoder.embed_tokens = embedding  # type: ignore[assignment]


def _head(table: Tensor | PackedTable, precision: str) -> PackedHead:
    """Most of what a step reads: screened with fewer bits, scored with the table's own rows."""
    if isinstance(table, PackedTable):
        return PackedHead.fine(table)
    # For exact scores the rest of the normaliser must be good, too: half precision.
    halves = precision == "fp32" and largest(table, "lm_head.weight") <= LARGEST["fp16"]
    return PackedHead.screened(table, "fp16" if halves else "int8")


def _pack_llama(model: Llama, precision: str) -> None:
    pack_linears_(model.model, precision)
    # A small part of a large decoder: 8 bits, as good as exact, where the rest has 4.
    head = PackedLinear.of(model.lm_head, "int8" if precision == "int4" else precision)
    table = _table(model.model.embed_tokens.weight, precision)
    model.lm_head = PackedHead(head, None)  # type: ignore[assignment]
    model.model.embed_tokens = PackedEmbedding(table)  # type: ignore[assignment]


def _table(weight: Tensor, precision: str) -> Tensor:
    dtype = torch.float32 if _table_bytes(precision) == 4 else torch.float16
    return weight.detach().to(dtype, copy=True, memory_format=torch.contiguous_format)


def _table_bytes(precision: str) -> int:
    """Bytes of each number of an embedding."""
    return 4 if precision == "fp32" else 2
