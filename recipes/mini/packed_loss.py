"""The loss of rows of several examples: `Translation`'s, in a form that compiles to one graph.

Every expert computes every token, and the router's weights, most of them zero, decide what counts:
with few small experts that is less than sorting tokens takes on an accelerator, and nothing in the graph
depends on where tokens go. No expert drops tokens for want of room.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from dragoman.layers.attention import Attention
from dragoman.layers.moe import DenseMLP, SparseMLP
from dragoman.models.nllb import DecoderLayer, EncoderLayer, Nllb
from dragoman.training.data import PAD

LONGEST = 512


class PackedLoss(torch.nn.Module):
    """Label-smoothed cross-entropy of rows as `packing.Rows` has them, and the routers' balance loss."""

    def __init__(self, model: Nllb, smoothing: float, balance: float) -> None:
        super().__init__()
        self.model, self.smoothing, self.balance = model, smoothing, balance
        table = model.encoder.positions.table(LONGEST, torch.device("cpu"))
        self.register_buffer("table", table[2 : 2 + LONGEST].clone(), persistent=False)

    def forward(self, rows: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """rows: the arrays of `Rows`, as tensors of integers.

        Returns what is minimised, per target token; the negative log-likelihood per target token; and the
        balance loss, summed over sparse layers.
        """
        source, source_part, source_place, inputs, gold, part, place = (array.int() for array in rows)
        own = _sees(source_part, source_part)
        encoded, balance = self._encoded(source, source_place, source_part > 0, own)
        causal = torch.ones(part.shape[1], part.shape[1], dtype=torch.bool, device=part.device).tril()
        masks = _sees(part, part) & causal, _sees(part, source_part)
        hidden, more = self._decoded(inputs, place, part > 0, encoded, masks)
        balance = balance + more
        logits = F.linear(hidden, self.model.lm_head.weight).float().flatten(0, 1)
        wanted = gold.flatten().long()
        real = wanted != PAD
        log_p = F.log_softmax(logits, -1)
        nll = -(log_p.gather(1, wanted[:, None]).squeeze(1) * real).sum()
        evenly = -(log_p.mean(-1) * real).sum()
        count = real.sum().clamp(min=1)
        smoothed = (1 - self.smoothing) * nll + self.smoothing * evenly
        return smoothed / count + self.balance * balance, (nll / count).detach(), balance.detach()

    def _embedded(self, ids: Tensor, places: Tensor) -> Tensor:
        x = self.model.shared(ids) + self.table[places]
        return self._dropped(x)

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.model.config.dropout, self.training)

    def _encoded(self, ids: Tensor, places: Tensor, keep: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        x = self._embedded(ids, places)
        balance = x.new_zeros((), dtype=torch.float32)
        for layer in self.model.encoder.layers:
            assert isinstance(layer, EncoderLayer)
            normed = layer.self_attn_layer_norm(x)
            x = x + self._dropped(_attended(layer.self_attn, normed, normed, mask))
            x, more = self._fed_forward(layer, x, keep)
            balance = balance + more
        return self.model.encoder.layer_norm(x), balance

    def _decoded(
        self, ids: Tensor, places: Tensor, keep: Tensor, encoded: Tensor, masks: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        x = self._embedded(ids, places)
        balance = x.new_zeros((), dtype=torch.float32)
        for layer in self.model.decoder.layers:
            assert isinstance(layer, DecoderLayer)
            normed = layer.self_attn_layer_norm(x)
            x = x + self._dropped(_attended(layer.self_attn, normed, normed, masks[0]))
            normed = layer.cross_attention_layer_norm(x)
            x = x + self._dropped(_attended(layer.cross_attention, normed, encoded, masks[1]))
            x, more = self._fed_forward(layer, x, keep)
            balance = balance + more
        return self.model.decoder.layer_norm(x), balance

    def _fed_forward(
        self, layer: EncoderLayer | DecoderLayer, x: Tensor, keep: Tensor
    ) -> tuple[Tensor, Tensor | float]:
        normed = layer.ff_layer_norm(x)
        if isinstance(layer.ffn, DenseMLP):
            return x + self._dropped(layer.ffn(normed)), 0.0
        mixed, balance = mix_all(layer.ffn, normed.flatten(0, 1), keep.flatten(), self.training)
        return x + self._dropped(mixed.view_as(x)), balance


def mix_all(ffn: SparseMLP, tokens: Tensor, keep: Tensor, training: bool) -> tuple[Tensor, Tensor]:
    """What a sparse layer makes of tokens [tokens, hidden], and its balance loss; keep: False on padding."""
    options, experts = ffn.options, list(ffn.experts.values())
    with torch.autocast(tokens.device.type, enabled=False):
        logits = F.linear(tokens.float(), ffn.router.classifier.weight.float())
        probabilities = logits.softmax(-1)
        gates, chosen = probabilities.topk(2, -1)
        weights = gates / gates.sum(-1, keepdim=True) * keep[:, None]
        names = torch.arange(len(experts), device=tokens.device)
        first = (chosen[:, :1] == names) * keep[:, None].float()
        count = keep.sum().clamp(min=1)
        density = (probabilities * keep[:, None]).sum(0) / count
        balance = len(experts) * (density * (first.sum(0) / count)).sum()
        share = options.expert_output_masking
        weights = weights * ((torch.rand_like(weights) >= share) if training else (1 - share))
        spread = torch.zeros_like(probabilities).scatter(1, chosen, weights)
    inner = torch.cat([expert.fc1.weight for expert in experts])
    inner_bias = torch.cat([expert.fc1.bias for expert in experts])
    outer = torch.cat([expert.fc2.weight for expert in experts], 1)
    outer_bias = torch.stack([expert.fc2.bias for expert in experts])
    x = F.relu(F.linear(tokens, inner, inner_bias))
    width = x.shape[1] // len(experts)
    x = (x.view(len(x), len(experts), width) * spread[..., None].to(x.dtype)).flatten(1)
    return F.linear(x, outer) + spread.to(x.dtype) @ outer_bias.to(x.dtype), balance


def _attended(attention: Attention, x: Tensor, source: Tensor, mask: Tensor) -> Tensor:
    key, value = attention.project(source)
    return attention(x, key, value, mask)[0]


def _sees(queries: Tensor, keys: Tensor) -> Tensor:
    """[rows, 1, queries, keys]: whether both belong to the same example.

    Padding, whose number is 0, sees all: a query without a key would be NaN.
    """
    mine = queries[:, :, None]
    return ((mine == keys[:, None, :]) | (mine == 0))[:, None]
