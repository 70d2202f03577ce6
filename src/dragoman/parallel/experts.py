"""Expert parallelism: each rank has some of a sparse layer's experts, and tokens travel to theirs.

Dispatch, experts, combination, as in GShard (arXiv 2006.16668) and fairseq's `moe_layer.py`, but without a
capacity: how many rows travel is told first. An expert has the rows of all ranks in the order of the ranks.
"""

import torch
from torch import Tensor, nn

from dragoman.layers.moe import SparseMLP
from dragoman.models.nllb import Decoder, Encoder, Nllb
from dragoman.parallel.ranks import Ranks
from dragoman.parallel.shares import own_experts


class ExpertParallelMLP(SparseMLP):
    """A sparse feed-forward block of which this rank has the router and its share of the experts."""

    def __init__(self, whole: SparseMLP, ranks: Ranks) -> None:
        """whole: one with all experts, of which this one takes those of its own."""
        nn.Module.__init__(self)
        self.options, self.router, self.ranks = whole.options, whole.router, ranks
        self.own = own_experts(whole.options.num_experts, ranks.rank, ranks.count)
        names = [f"expert_{index}" for index in self.own]
        self.experts = nn.ModuleDict({name: whole.experts[name] for name in names})

    def run_experts(self, rows: Tensor, counts: Tensor) -> Tensor:
        """As in one process: rows [choices, hidden] sorted by expert; counts [experts]. All ranks call it."""
        ranks = self.ranks
        even = [1] * ranks.count
        sent = counts.view(ranks.count, -1)
        taken = ranks.exchange(sent, even, even)  # [ranks, own experts]
        to, by = torch.stack([sent.sum(1), taken.sum(1)]).tolist()
        guests = ranks.exchange(rows, to, by)
        # They come by rank and then by expert; an expert's rows are to be side by side.
        experts = torch.arange(len(self.own), device=rows.device).repeat(ranks.count)
        order = experts.repeat_interleave(taken.flatten()).argsort(stable=True)
        parts = guests[order].split(taken.sum(0).tolist())
        outputs = [
            self.experts[f"expert_{index}"](part)
            for index, part in zip(self.own, parts, strict=True)
            if len(part)
        ]
        done = torch.empty_like(guests)
        if outputs:
            done[order] = torch.cat(outputs).to(rows.dtype)
        return ranks.exchange(done, by, to)

    def lend(self) -> None:
        """Take part without a token of one's own."""
        x = self.router.classifier.weight  # of the type of the tokens
        nothing = x.new_empty(0, x.shape[1])
        counts = torch.zeros(self.options.num_experts, dtype=torch.int64, device=x.device)
        self.run_experts(nothing, counts)


def share_experts_(model: Nllb, ranks: Ranks) -> None:
    """Leave a model the experts of this rank."""
    for stack in (model.encoder, model.decoder):
        for layer in stack.layers:
            if isinstance(layer.ffn, SparseMLP):
                layer.ffn = ExpertParallelMLP(layer.ffn, ranks)


@torch.inference_mode()
def lend_experts(stack: Encoder | Decoder) -> None:
    """Take part in a pass of the other ranks' rows through a stack, having none."""
    for layer in stack.layers:
        if isinstance(layer.ffn, ExpertParallelMLP):
            layer.ffn.lend()
