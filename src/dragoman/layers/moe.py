"""Sparse feed-forward layers: a top-2 router and the experts it chooses from.

Sources: fairseq `nllb` branch, `top2gate.py` and `moe_layer.py`; transformers 4.57.6,
`modeling_nllb_moe.py`, which agrees with it at inference. (transformers 5.x does not: it
runs experts 0 and 1 only.)
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dragoman.errors import ConfigError
from dragoman.layers.options import MoeOptions


@dataclass(frozen=True)
class Routing:
    """Where each token goes. Slot 0 is the first choice, slot 1 the second.

    experts: [tokens, 2]; weights: [tokens, 2], zero where a slot was dropped or the token
    is padding; logits: [tokens, experts]; keep: boolean [tokens], False on padding.
    """

    experts: Tensor
    weights: Tensor
    logits: Tensor
    keep: Tensor | None

    def combine_weights(self) -> Tensor:
        """The weights spread over the experts, [tokens, experts]."""
        spread = torch.zeros(self.logits.shape, dtype=self.weights.dtype, device=self.weights.device)
        return spread.scatter_add(1, self.experts, self.weights)

    def balance_loss(self) -> Tensor:
        """E * sum_e mean(p_e) * mean(first choices of e): 1 when experts share the work evenly.

        GShard's auxiliary loss (arXiv 2006.16668, eq. 4) as fairseq's `top2gate.py` computes it:
        first choices only, before any capacity is applied, over the tokens that are not padding.
        """
        probabilities = self.logits.float().softmax(-1)
        first = F.one_hot(self.experts[:, 0], self.logits.shape[1]).to(probabilities.dtype)
        if self.keep is not None:
            share = self.keep.to(probabilities.dtype)[:, None]
            count = share.sum().clamp(min=1)
            density, load = (probabilities * share).sum(0) / count, (first * share).sum(0) / count
        else:
            density, load = probabilities.mean(0), first.mean(0)
        return self.logits.shape[1] * (density * load).sum()

    def z_loss(self) -> Tensor:
        """mean(logsumexp(logits)^2), which keeps router logits small (ST-MoE, arXiv 2202.08906, eq. 5)."""
        squared = torch.logsumexp(self.logits.float(), -1) ** 2
        if self.keep is None:
            return squared.mean()
        share = self.keep.to(squared.dtype)
        return (squared * share).sum() / share.sum().clamp(min=1)


def working_dtype(options: MoeOptions) -> torch.dtype:
    """What routers multiply in."""
    found: torch.dtype = getattr(torch, options.router_dtype)
    return found


class RouterLinear(nn.Linear):
    """A linear layer that multiplies in `working_dtype`, whatever its weights are stored in."""

    def __init__(self, hidden: int, experts: int, bias: bool, working_dtype: torch.dtype) -> None:
        super().__init__(hidden, experts, bias)
        self.working_dtype = working_dtype

    def forward(self, x: Tensor) -> Tensor:
        """[tokens, hidden] -> [tokens, experts] in the working dtype."""
        dtype = self.working_dtype
        bias = None if self.bias is None else self.bias.to(dtype)
        return F.linear(x.to(dtype), self.weight.to(dtype), bias)


class Top2Router(nn.Module):
    """Chooses two experts for a token and weighs them."""

    def __init__(self, hidden: int, options: MoeOptions) -> None:
        super().__init__()
        self.options = options
        self.classifier = RouterLinear(
            hidden, options.num_experts, options.router_bias, working_dtype(options)
        )

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Routing:
        """Route the tokens of `x` [tokens, hidden]; keep: boolean [tokens], False on padding."""
        # bf16 or fp16 logits flip near-ties, so the product is taken in `router_dtype`.
        with torch.autocast(x.device.type, enabled=False):
            return self.route(self.classifier(x), keep, x.dtype)

    def route(self, logits: Tensor, keep: Tensor | None, dtype: torch.dtype = torch.float32) -> Routing:
        """Turn router logits [tokens, experts] into a `Routing`.

        The steps are those of the reference; see `capacity` for how many tokens are dropped.
        """
        options = self.options
        if options.route_padding:
            keep = None
        probabilities = logits.softmax(-1)
        first = probabilities.argmax(-1)
        others = self.add_noise(logits) if options.second_expert_policy == "sampling" else logits
        second = others.scatter(1, first[:, None], float("-inf")).argmax(-1)
        experts = torch.stack([first, second], 1)
        gates = probabilities.gather(1, experts)
        kept = torch.ones_like(experts, dtype=torch.bool)
        if keep is not None:
            kept = kept & keep[:, None]
        if options.second_expert_policy == "random":
            chance = 2 * gates[:, 1] > torch.rand_like(gates[:, 1])
            kept = torch.stack([kept[:, 0], kept[:, 1] & chance], 1)
        if options.normalize_before_dropping:
            gates = gates / _denominator(gates)
        capacity = self.capacity(logits.shape[0])
        if capacity is not None:
            kept = kept & (self._places(experts, kept, probabilities) < capacity)
        gates = gates * kept
        if not options.normalize_before_dropping:
            gates = gates / _denominator(gates)
        return Routing(experts, gates.to(dtype), logits, keep)

    def add_noise(self, logits: Tensor) -> Tensor:
        """Gumbel noise makes the argmax of the logits a sample from their softmax."""
        return _gumbel(logits)

    def capacity(self, tokens: int) -> int | None:
        """How many tokens an expert takes from a batch of `tokens`; None if any number.

        2*ceil(tokens/experts) in training; ceil(fraction * tokens) at inference, where a
        fraction of 1 drops nothing and one of 0 or less means: as in training.
        """
        fraction = self.options.eval_capacity_fraction
        if self.training or fraction <= 0:
            return 2 * math.ceil(tokens / self.options.num_experts)
        # A token reaches an expert at most once, so a capacity of `tokens` can't be exceeded.
        return None if fraction >= 1 else math.ceil(fraction * tokens)

    def _places(self, experts: Tensor, kept: Tensor, probabilities: Tensor) -> Tensor:
        """The place of each choice in its expert's queue [tokens, 2]; all first choices queue first."""
        chosen = F.one_hot(experts, self.options.num_experts) * kept[..., None]
        first, second = chosen[:, 0], chosen[:, 1]
        if self.options.batch_prioritized:
            # Confident tokens queue first, wherever they stand in the batch.
            order = probabilities.amax(-1).argsort(descending=True, stable=True)
            back = order.argsort()
            place1, place2 = first[order].cumsum(0)[back] - 1, second[order].cumsum(0)[back] - 1
        else:
            place1, place2 = first.cumsum(0) - 1, second.cumsum(0) - 1
        place2 = place2 + first.sum(0)
        places = torch.stack([place1, place2], 1)
        return places.gather(2, experts[..., None]).squeeze(2)


class DenseMLP(nn.Module):
    """fc1, activation, fc2: a layer's feed-forward block and each expert of a sparse one."""

    def __init__(self, hidden: int, inner: int, activation: str = "relu", dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(hidden, inner)
        self.fc2 = nn.Linear(inner, hidden)
        self.activation = activation
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """[..., hidden] -> [..., hidden]."""
        x = FUNCTIONS[self.activation](self.fc1(x))
        return self.fc2(F.dropout(x, self.dropout, self.training))


class SparseMLP(nn.Module):
    """A feed-forward block with many experts, of which each token visits two."""

    def __init__(
        self, hidden: int, inner: int, options: MoeOptions, activation: str = "relu", dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.options = options
        self.router = Top2Router(hidden, options)
        self.experts = nn.ModuleDict(
            {f"expert_{i}": DenseMLP(hidden, inner, activation, dropout) for i in range(options.num_experts)}
        )

    def forward(self, x: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Routing]:
        """x: [batch, time, hidden]; keep: boolean [batch, time], False on padding.

        Padding and dropped tokens come out as zero, so only the residual carries them on.
        """
        if self.training and torch.compiler.is_exporting():
            raise ConfigError("a model with experts can only be exported for inference; call eval() before")
        tokens = x.reshape(-1, x.shape[-1])
        routing = self.router(tokens, None if keep is None else keep.reshape(-1))
        mixed = self.mix(tokens, routing)
        return mixed.view_as(x), routing

    def mix(self, tokens: Tensor, routing: Routing) -> Tensor:
        """Run the experts that have tokens, each on its own rows: 2 * tokens rows in all.

        tokens: [tokens, hidden] -> the same.
        """
        if torch.compiler.is_exporting():
            return self._mix_all(tokens, routing)
        # Weight zero = dropped or padding: such a row need not be computed at all.
        token, slot = routing.weights.nonzero(as_tuple=True)
        expert = routing.experts[token, slot]
        order = expert.argsort(stable=True)
        token, slot = token[order], slot[order]
        counts = torch.bincount(expert, minlength=self.options.num_experts)
        mixed = torch.zeros_like(tokens)
        rows = self.run_experts(tokens[token], counts).to(tokens.dtype)
        if not len(rows):
            return mixed
        weights = routing.weights[token, slot][:, None]
        rows = rows * (weights * self._mask(rows, self.options.expert_output_masking))
        mixed = mixed.index_add(0, token, rows)
        if self.options.final_output_masking:
            mixed = mixed * self._mask(mixed, self.options.final_output_masking)
        return mixed

    def run_experts(self, rows: Tensor, counts: Tensor) -> Tensor:
        """rows: [choices, hidden], sorted by expert -> what the experts make of them, in the same order.

        counts: [experts], how many rows each expert has.
        """
        # A compiled graph breaks here: which experts run depends on the tokens.
        parts = rows.split(counts.tolist())
        outputs = [self.experts[f"expert_{index}"](part) for index, part in enumerate(parts) if len(part)]
        return torch.cat(outputs) if outputs else rows

    def _mix_all(self, tokens: Tensor, routing: Routing) -> Tensor:
        """The same for an exported graph, which can't depend on where tokens go: all experts, all tokens."""
        weights = routing.combine_weights()
        parts = [
            expert(tokens).to(tokens.dtype) * weights[:, place : place + 1]
            for place, expert in enumerate(self.experts.values())
        ]
        options = self.options
        scale = (1 - options.expert_output_masking) * (1 - options.final_output_masking)
        return torch.stack(parts).sum(0) * scale

    def _mask(self, rows: Tensor, share: float) -> Tensor | float:
        """Whole rows vanish in training, without rescaling the others; inference scales all instead."""
        if not self.training:
            return 1 - share
        if not share:
            return 1.0
        return (torch.rand(len(rows), 1, device=rows.device) >= share).to(rows.dtype)


def _gumbel(logits: Tensor) -> Tensor:
    uniform = torch.rand_like(logits).clamp(min=torch.finfo(logits.dtype).tiny)
    return logits - torch.log(-torch.log(uniform))


def _denominator(gates: Tensor) -> Tensor:
    return gates.sum(-1, keepdim=True).clamp(min=torch.finfo(gates.dtype).eps)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "swish": F.silu,
}
