"""A rank's part of a packed NLLB-MoE, in the memory of the files; other ranks' experts aren't looked at."""

import warnings
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dragoman.checkpoints.loading import assign, skeleton
from dragoman.checkpoints.packed_folders import PackedModel
from dragoman.kernels.arrays import Stored
from dragoman.kernels.fine import Fine
from dragoman.kernels.head import Embedding, Head, Table
from dragoman.kernels.linear import Linear
from dragoman.kernels.packing import unpack
from dragoman.layers.moe import RouterLinear
from dragoman.layers.packed import PackedEmbedding, PackedHead, PackedLinear, PackedTable
from dragoman.layers.packed_twin import PackedTensor
from dragoman.models.config import NllbConfig
from dragoman.models.nllb import Nllb
from dragoman.parallel.experts import share_experts_
from dragoman.parallel.ranks import Ranks


def load_packed_part(packed: PackedModel, ranks: Ranks) -> Nllb:
    """The model of which this rank has all but the other ranks' experts, in eval mode.

    What is read is compared with its checksums: CheckpointError if it differs.
    """
    assert isinstance(packed.config, NllbConfig)
    model = skeleton(partial(Nllb, packed.config))
    share_experts_(model, ranks)
    with warnings.catch_warnings():
        # PyTorch would have tensors that nobody can write into by mistake; these are for inference alone.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        embedding = _embedding(packed["shared"])
        model.shared = model.encoder.embed_tokens = model.decoder.embed_tokens = embedding  # type: ignore[assignment]
        model.lm_head = _head(packed["lm_head"], embedding)  # type: ignore[assignment]
        for stack in ("encoder", "decoder"):
            _fill(model.get_submodule(stack), packed, stack)
    return model.eval()


def _fill(stack: nn.Module, packed: PackedModel, name: str) -> None:
    """Give the linear layers and the norms below a module what they are made of."""
    for parent_name, parent in list(stack.named_modules(prefix=name)):
        for leaf, child in list(parent.named_children()):
            if isinstance(child, RouterLinear):
                _fill_router(child, packed[f"{parent_name}.{leaf}"])
            elif isinstance(child, nn.Linear):
                setattr(parent, leaf, _linear(packed[f"{parent_name}.{leaf}"]))
            elif isinstance(child, nn.LayerNorm):
                for side in ("weight", "bias"):
                    value = torch.from_numpy(packed[f"{parent_name}.{leaf}.{side}"])
                    assign(child, side, value)


def _fill_router(router: RouterLinear, part: Linear) -> None:
    assign(router, "weight", torch.from_numpy(unpack(part.packed)))
    if part.bias is not None:
        assign(router, "bias", torch.from_numpy(part.bias))


def _linear(part: Linear) -> PackedLinear:
    return PackedLinear(
        PackedTensor.of(part.packed), None if part.bias is None else torch.from_numpy(part.bias)
    )


def _embedding(part: Embedding) -> PackedEmbedding:
    return PackedEmbedding(_table(part.weight), part.scale)


def _head(part: Head, embedding: PackedEmbedding) -> PackedHead:
    """The output layer, in the embedding's memory where that has the same rows."""
    exact: Any = None if part.exact is None else _table(part.exact)
    if isinstance(exact, PackedTable) and isinstance(embedding.weight, PackedTable):
        exact = embedding.weight
    rough = exact if isinstance(exact, PackedTable) else _linear(part.linear)
    return PackedHead(rough, exact)


def _table(table: Table) -> Tensor | PackedTable:
    if isinstance(table, Fine):
        return PackedTable(PackedTensor.of(table.packed), torch.from_numpy(table.rest))
    return _tensor(table)


def _tensor(stored: Stored) -> Tensor:
    found = torch.from_numpy(stored.data)
    return found.view(torch.bfloat16) if stored.dtype == "BF16" else found
